"""A name that is none of what there is comes back with the one that was perhaps meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from earthloom.jobs.monitoring.series.scene_areas import current_results, scene_areas
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.maps import go, lake


def test_a_product_and_a_scene(tmp_path: Path) -> None:
    assert go(lake(tmp_path / "in", width=200, height=150), out=tmp_path / "out").exit_code == 0
    store = open_store(ObjectRef.parse(str(tmp_path / "out")))
    with pytest.raises(
        ConfigError, match=r"no product 'water-indx' \(did you mean 'water-index'\?\); it has water-index$"
    ):
        current_results(store, "water-indx")
    with pytest.raises(ConfigError, match=r"no scene 'lack' of water-index \(did you mean 'lake'\?\); it has lake$"):
        current_results(store, "water-index", "lack")
    assert [item["properties"]["earthloom:scene"] for item in current_results(store, "water-index", "lake")] == ["lake"]


def test_a_folder_without_products(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has none: name the OUT of a run"):
        current_results(open_store(ObjectRef.parse(str(tmp_path))), "landwater")


@pytest.mark.parametrize(("more", "why"), [({}, "is an image"), ({"earthloom:objects": {"ship": 40}}, "holds objects")])
def test_a_result_without_classes_is_refused_as_what_it_is(more: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=f"^port-1 {why}"):
        scene_areas([{"id": "port-1", "properties": {"earthloom:scene": "port", "earthloom:key": "1", **more}}])
