"""Labels and objects have the same bytes whatever the blocks, and however often a run is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.recognised import go, model_of, write_bay
from tests.maps import go_until_commit, published


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bay(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module", params=["kinds", "finder"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with model_of(request.param, tmp_path_factory.mktemp("model") / request.param) as folder:
        yield folder


@pytest.fixture(scope="module")
def undisturbed(model: Path, scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert go(scene, out, model).exit_code == 0
    return published(out)


@pytest.mark.parametrize("changes", [{"block": 1024}, {"block": 1024, "batch": 3}])
def test_bytes_are_the_same_for_every_block_and_batch(
    changes: dict[str, Any], undisturbed: dict[str, bytes], model: Path, scene: Path, tmp_path: Path
) -> None:
    assert go(scene, tmp_path, model, **changes).exit_code == 0
    assert published(tmp_path) == undisturbed


def test_a_run_that_died_and_went_on_with_other_blocks_ends_in_the_same_bytes(
    undisturbed: dict[str, bytes], model: Path, scene: Path, tmp_path: Path
) -> None:
    (blocks,) = (folder / "blocks" for folder in go_until_commit(scene, out=tmp_path, model=(model,)))
    markers = sorted(blocks.glob("*.json"))
    assert len(markers) == 6
    for marker in markers[::2]:
        marker.unlink()
    again = go(scene, tmp_path, model, block=1024)
    assert again.exit_code == 0, again.scenes
    assert published(tmp_path) == undisturbed
