"""The same map however it is cut: every published byte is equal for all block sizes, workers, engines and orders."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from earthloom.cluster.executor import Task
from earthloom.cluster.local import LocalExecutor
from earthloom.cluster.outcome import Outcome
from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.jobs.records.blocks import StoredObject
from earthloom.models.cards.file import write_card
from earthloom.models.zoo import folder_of
from earthloom.models.zoo.landwater import LANDWATER
from tests.maps import result_files
from tests.models.nets import seeded
from tests.scenes import landscape, mirrored, shipped, write_scene

WIDTH_PX, HEIGHT_PX = 1040, 560
"""Three shards of 512 px across and two down."""


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real shore by Landsat 7, with a hole of nodata."""
    with rasterio.open(shipped("salt_lake")) as shore:
        pixels = mirrored(shore.read(), WIDTH_PX, HEIGHT_PX)
        pixels[:, 300:420, 500:530] = 0
        names = ("blue", "green", "red", "nir", "swir16", "swir22")
        path = tmp_path_factory.mktemp("crop") / "shore.tif"
        return write_scene(path, pixels, names, crs=shore.crs, transform=shore.transform, nodata=0)


def files(scene: Path, out: Path, **options: Any) -> dict[str, StoredObject]:
    """Size and sha256 of every published file of the scene."""
    config = {
        "scenes": (str(scene),), "out": str(out), "model": "landwater", "scale": 0.0003, "quantity": "toa_reflectance",
        "precision": "fp32", "device": "cpu", "executor": "local", "shard": 512, "block": 512,
    }  # fmt: skip
    result = run(load(config | options))
    assert result.exit_code == 0, result.scenes
    return result_files(result, next(iter(result.results)))


@pytest.fixture(scope="module", params=["exact", pytest.param("blend", marks=pytest.mark.long)])
def golden(
    request: pytest.FixtureRequest, crop: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], dict[str, StoredObject]]:
    """Options and files of a run: of landwater's network with a quarter of its channels, and of landwater itself."""
    options = {"overlap": request.param, "scale": 0.003}  # the shore has 8 bits
    if request.param == "exact":
        folder = tmp_path_factory.mktemp("model")
        card = next(card for card in LANDWATER if card.variant == "6b")
        write_card(folder, seeded(replace(card, name="narrow", variant="", arguments='{"base":8}'), folder).card)
        options["model"] = str(folder)
    elif not folder_of(LANDWATER[1]).is_dir():
        pytest.skip("landwater is not in the cache: earthloom models add landwater")
    out = tmp_path_factory.mktemp("golden")
    made = files(crop, out, **options)
    (path,) = [path for path in out.glob("scenes/shore/*/*.tif") if "confidence" not in path.name]
    with rasterio.open(path) as classes:
        assert len(np.unique(classes.read(1))) > 3, "a map of few classes would prove little"
    return options, made


@pytest.mark.parametrize("block", [1024, pytest.param(2048, marks=pytest.mark.long)])
def test_for_every_block_size(
    golden: tuple[dict[str, Any], dict[str, StoredObject]], crop: Path, tmp_path: Path, block: int
) -> None:
    options, expected = golden
    assert files(crop, tmp_path, **options, block=block) == expected


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_on_ray_with_any_number_of_workers(
    golden: tuple[dict[str, Any], dict[str, StoredObject]], crop: Path, tmp_path: Path, workers: int, ray_session: None
) -> None:
    options, expected = golden
    found = files(crop, tmp_path, **options, executor="ray", workers=workers, block=1024 if workers == 1 else 512)
    assert found == expected


class _Shuffled(LocalExecutor):
    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        dice, coming = random.Random(3), iter(tasks)
        while todo := list(iter(lambda: next(coming, None), None)):  # all that can be done now
            dice.shuffle(todo)
            with closing(super().run(iter(todo))) as outcomes:
                done = list(outcomes)
            dice.shuffle(done)
            yield from done


def test_in_any_order_of_completion_and_any_batch(
    golden: tuple[dict[str, Any], dict[str, StoredObject]], crop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, expected = golden
    monkeypatch.setattr("earthloom.cluster.local.LocalExecutor", _Shuffled)
    assert files(crop, tmp_path, **options, batch=3) == expected


def test_pixels_are_the_same_for_every_shard_size(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(1300, 1100, 2), ("green", "swir16"))
    maps = []
    for shard in (512, 1024, 2048):
        out = tmp_path / str(shard)
        files(scene, out, model="water-index", shard=shard, block=2048)
        (path,) = out.glob("scenes/a/*/water-index.tif")
        with rasterio.open(path) as cog:
            maps.append(cog.read(1))
    assert all(np.array_equal(maps[0], other) for other in maps[1:])


def test_a_real_coast_in_mercator_metres_has_the_same_bytes_for_every_block(tmp_path: Path) -> None:
    with rasterio.open(shipped("pacific")) as coast:
        pixels = mirrored(coast.read(), 700, 600)
        bands = ("nir", "red", "green")
        scene = write_scene(tmp_path / "a.tif", pixels, bands, crs=coast.crs, transform=coast.transform, nodata=0)
    small, large = (
        files(
            scene, tmp_path / str(block), model=("denoise", "water-index"), scale=0.0003, block=block, keep=("denoise",)
        )
        for block in (512, 1024)
    )
    assert small == large
    assert {"denoise.tif", "denoise-water-index.tif"} <= set(small)


def test_a_change_of_precision_core_or_bands_is_another_result(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(300, 200, 3), ("green", "swir16", "nir"))
    out = tmp_path / "out"
    for options in ({}, {"core": 512}, {"precision": "bf16"}, {"nodata": 1}, {"shard": 1024, "block": 1024}):
        files(scene, out, model="water-index", **options)
    assert len(list(out.glob("scenes/a/*/result.json"))) == 5
    files(scene, out, model="water-index", batch=2, block=1024)  # neither can change a pixel
    assert len(list(out.glob("scenes/a/*/result.json"))) == 5
