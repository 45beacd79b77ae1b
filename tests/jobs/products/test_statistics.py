from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.jobs.products.statistics import class_areas
from earthloom.tiling.counting import Tally, merge_tallies, tally
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from tests.jobs.products.samples import LONLAT, MERCATOR, UTM, card, counted
from tests.oracles import geodesic_area_m2


@pytest.mark.parametrize("grid", [LONLAT, MERCATOR, UTM], ids=["EPSG:4326", "EPSG:3857", "UTM"])
def test_class_areas_are_true_areas_on_the_ellipsoid(grid: Grid) -> None:
    rows = {row["name"]: row for row in class_areas(counted(grid), card())}
    half, last = grid.width // 2, grid.height - 1
    assert rows["water"]["area_m2"] == pytest.approx(geodesic_area_m2(grid, Window(0, 0, half, last)), rel=1e-6)
    assert rows["land"]["area_m2"] == pytest.approx(geodesic_area_m2(grid, Window(half, 0, half, last)), rel=1e-6)
    planar = abs(grid.transform[0] * grid.transform[4]) * half * last
    if grid is not UTM:
        assert rows["water"]["area_m2"] != pytest.approx(planar, rel=0.1)  # what counting pixels would give


def test_percent_is_of_the_valid_area_and_not_of_the_pixels() -> None:
    classes = np.array([[0, 1, 255]], np.uint8)
    found, _ = tally(classes, np.full((1, 3), 125, np.uint8), np.array([[3.0, 1.0, 96.0]]), 4)
    rows = class_areas(found, card())
    assert [row["percent"] for row in rows] == [75.0, 25.0, 0.0, 0.0]
    assert [row["pixels"] for row in rows] == [1, 1, 0, 0]
    assert rows[0]["mean_confidence"] == 0.5
    assert "mean_confidence" not in rows[2]


def test_a_scene_without_valid_pixels_has_zero_percent_everywhere() -> None:
    found, _ = tally(np.full((4, 4), 255, np.uint8), np.full((4, 4), 255, np.uint8), np.ones((4, 4)), 4)
    assert found.nodata == 16
    assert {row["percent"] for row in class_areas(found, card())} == {0.0}


def arrays(seed: int, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    classes = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), shape)
    return classes, rng.integers(0, 251, shape, dtype=np.uint8), rng.uniform(1, 900, shape)


@given(seed=st.integers(0, 2**32), height=st.integers(1, 40), width=st.integers(1, 40), step=st.integers(1, 17))
@settings(deadline=None, max_examples=60)
def test_shards_add_up_to_what_masks_say_of_the_whole(seed: int, height: int, width: int, step: int) -> None:
    classes, confidence, areas = arrays(seed, (height, width))
    whole = Window(0, 0, width, height)
    parts = [
        tally(classes[at], confidence[at], areas[at], 4)[0] for at in (part.slices(whole) for part in whole.split(step))
    ]
    found = merge_tallies(parts)
    for value in range(4):
        mask = classes == value
        assert found.pixels[value] == mask.sum()
        assert found.areas_m2[value] == pytest.approx(areas[mask].sum(), rel=1e-12)
        assert found.confidence_sums[value] == confidence[mask].sum(dtype=int)
    assert found.nodata == (classes == 255).sum()
    assert merge_tallies(parts[::-1]) == found  # bit for bit, in any order


def test_strips_change_nothing_for_a_shard_wider_than_a_strip() -> None:
    classes, confidence, areas = arrays(7, (3, 300_000))
    found, _ = tally(classes, confidence, areas, 4)
    assert found.pixels == tuple(int((classes == value).sum()) for value in range(4))
    assert found.areas_m2[2] == pytest.approx(areas[classes == 2].sum(), rel=1e-12)


def test_a_large_shard_is_counted_in_little_memory() -> None:
    classes, confidence, areas = arrays(1, (2048, 2048))
    tracemalloc.start()
    tally(classes, confidence, areas, 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # a cast of the whole shard to int64 alone would take 34 MB


counts = st.lists(st.integers(0, 2**60), min_size=3, max_size=3)
floats = st.lists(st.floats(0, 1e15, allow_subnormal=True), min_size=3, max_size=3)


@given(pixels=counts, areas=floats, sums=counts, nodata=st.integers(0, 2**60))
@settings(deadline=None)
def test_a_tally_survives_json_exactly(
    pixels: Sequence[int], areas: Sequence[float], sums: Sequence[int], nodata: int
) -> None:
    found = Tally(pixels=tuple(pixels), areas_m2=tuple(areas), confidence_sums=tuple(sums), nodata=nodata)
    assert Tally.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize(
    "change", [{"pixels": [1]}, {"pixels": ["1", 2]}, {"nodata": None}, {"nodata": 1.5}, {"areas_m2": [-1.0, 2.0]}]
)
def test_a_damaged_tally_is_refused(change: dict[str, object]) -> None:
    found = Tally(pixels=(1, 2), areas_m2=(1.0, 2.0), confidence_sums=(3, 4), nodata=5).to_json()
    with pytest.raises(PublishError, match="computed again"):
        Tally.from_json(found | change)
    with pytest.raises(PublishError, match="computed again"):
        Tally.from_json({})


def test_values_that_are_no_class_and_foreign_confidence_are_refused() -> None:
    ones = np.ones((2, 2))
    with pytest.raises(PublishError, match=r"1 pixels have the value 4, but the model has 4 classes"):
        tally(np.array([[0, 4], [1, 255]], np.uint8), np.zeros((2, 2), np.uint8), ones, 4)
    with pytest.raises(PublishError, match="confidence 251"):
        tally(np.array([[0, 1], [1, 255]], np.uint8), np.array([[1, 251], [2, 255]], np.uint8), ones, 4)
    with pytest.raises(PublishError, match="differ in shape"):
        tally(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), ones, 4)


def test_tallies_of_other_models_are_not_mixed() -> None:
    three = Tally(pixels=(1, 2, 3), areas_m2=(1.0, 2.0, 3.0), confidence_sums=(1, 2, 3), nodata=0)
    with pytest.raises(PublishError, match="same classes"):
        merge_tallies([three, counted()])
    with pytest.raises(PublishError, match="none at all"):
        merge_tallies([])
    with pytest.raises(PublishError, match="4 classes, the tally 3"):
        class_areas(three, card())
