from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from earthloom.tiling.writing.overview import level_shapes, reduce_mean, reduce_mode

rasters = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 2, 254, 255])
)


def cells(pixels: NDArray[np.uint8]) -> list[list[list[int]]]:
    rows, cols = pixels.shape
    return [
        [[int(v) for v in pixels[r : r + 2, c : c + 2].ravel() if v != 255] for c in range(0, cols, 2)]
        for r in range(0, rows, 2)
    ]


@settings(deadline=None)
@given(pixels=rasters)
def test_mode_is_the_commonest_valid_value_and_ties_go_to_the_lowest(pixels: NDArray[np.uint8]) -> None:
    def slow(values: list[int]) -> int:
        return min(values, key=lambda v: (-Counter(values)[v], v)) if values else 255

    expected = [[slow(cell) for cell in row] for row in cells(pixels)]
    assert reduce_mode(pixels).tolist() == expected


@settings(deadline=None)
@given(pixels=rasters)
def test_mean_counts_valid_pixels_only(pixels: NDArray[np.uint8]) -> None:
    def slow(values: list[int]) -> int:
        return int(sum(values) / len(values) + 0.5) if values else 255

    assert reduce_mean(pixels).tolist() == [[slow(cell) for cell in row] for row in cells(pixels)]


@settings(deadline=None)
@given(pixels=rasters, split=st.integers(1, 4))
def test_a_level_can_be_made_part_by_part(pixels: NDArray[np.uint8], split: int) -> None:
    cut = min(2 * split, pixels.shape[0])
    parts = [part for part in (pixels[:cut], pixels[cut:]) if part.size]
    assert (np.concatenate([reduce_mode(part) for part in parts]) == reduce_mode(pixels)).all()


def test_levels_go_down_to_one_tile_with_ceil_sizes() -> None:
    assert level_shapes(1101, 1500) == [(1101, 1500), (551, 750), (276, 375)]
    assert level_shapes(1, 1) == [(1, 1)]
