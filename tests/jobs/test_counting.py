"""What a worker counts of a shard, strip by strip, against masks over the whole and areas by GeographicLib."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.tiling.counting import Tally, count
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from tests.models.nets import card_of
from tests.oracles import geodesic_area_m2

GRID = Grid(crs="EPSG:4326", transform=(2e-4, 0.0, -112.5, 0.0, -2e-4, 60.0), width=900, height=1100)
PRODUCT = ClassMapProduct(name="made", grid=GRID, legend=card_of("made", 2, 3, 1))


def counted(shard: Window, classes: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> Tally:
    found = PRODUCT.count({CLASSES: classes, CONFIDENCE: confidence}, shard)
    assert found.tally is not None
    assert found.sums == {CONFIDENCE: count(confidence, 255)}
    return found.tally


@pytest.mark.parametrize(
    "shard", [Window(512, 512, 388, 512), Window(0, 1024, 512, 76), Window(0, 0, 512, 256), Window(0, 0, 512, 257)]
)
def test_a_shard_is_counted_as_a_whole_and_by_true_areas(shard: Window) -> None:
    rng = np.random.default_rng(0)
    classes = rng.choice(np.array([0, 1, 2, 255], np.uint8), shard.shape)
    confidence = rng.integers(80, 251, shard.shape, dtype=np.uint8)
    found = counted(shard, classes, confidence)
    assert found.nodata == (classes == 255).sum()
    rows = [
        geodesic_area_m2(GRID, Window(shard.col_off, row, shard.width, 1))
        for row in range(shard.row_off, shard.row_end)
    ]
    for value in range(3):
        mask = classes == value
        assert found.pixels[value] == mask.sum()
        assert found.confidence_sums[value] == confidence[mask].sum(dtype=int)
        assert found.areas_m2[value] == pytest.approx((mask.mean(axis=1) * rows).sum(), rel=1e-6)


def test_a_class_that_the_card_does_not_have_is_refused() -> None:
    wrong = np.full((20, 30), 3, np.uint8)
    with pytest.raises(PublishError, match="600 pixels have the value 3, but the model has 3 classes"):
        counted(Window(0, 0, 30, 20), wrong, wrong)


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 99),
    side=st.integers(0, 700),
    low=st.integers(0, 255),
    nodata=st.sampled_from([255, 0, float("nan")]),
)
def test_bytes_are_counted_as_numpy_counts_them(seed: int, side: int, low: int, nodata: float) -> None:
    pixels = np.random.default_rng(seed).integers(low, 256, (side, 613)).astype(np.uint8)
    known = pixels[pixels != nodata].astype(np.float64)
    found = count(pixels[:, ::-1], nodata)
    assert (found.valid, found.nodata) == (known.size, pixels.size - known.size)
    assert (found.total, found.squares) == (known.sum(), np.square(known).sum())
    if known.size:
        assert (found.minimum, found.maximum) == (known.min(), known.max())
    else:
        assert (found.minimum, found.maximum) == (0.0, 0.0)
