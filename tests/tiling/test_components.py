"""Connected areas against those of scipy, value by value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.tiling.components import label_areas

ndimage = pytest.importorskip("scipy.ndimage")


def expected(values: NDArray[np.uint8], wanted: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    labels, n = np.zeros(values.shape, np.int32), 0
    for value in np.unique(values):
        part, found = ndimage.label(wanted & (values == value))
        labels[part > 0] = part[part > 0] + n
        n += found
    flat = labels[labels > 0]
    _, first = np.unique(flat, return_index=True)
    order = np.argsort(np.argsort(first)) + 1  # by their first pixels
    labels[labels > 0] = order[flat - 1]
    return labels, n


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40), n_values=st.integers(1, 4),
    share=st.floats(0, 1),
)  # fmt: skip
def test_areas_are_those_of_scipy_in_reading_order(
    seed: int, height: int, width: int, n_values: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, n_values, (height, width), dtype=np.uint8)
    wanted = rng.random((height, width)) < share
    labels, n = label_areas(values, wanted)
    theirs, n_theirs = expected(values, wanted)
    assert n == n_theirs
    np.testing.assert_array_equal(labels, theirs)


def test_a_spiral_is_one_area() -> None:
    spiral = np.zeros((201, 201), bool)
    row, col, step, side = 100, 100, 0, 2
    while 0 <= row < 201 and 0 <= col < 201:
        down, right = ((0, 1), (1, 0), (0, -1), (-1, 0))[step % 4]
        for _ in range(side * (1 + step // 2)):
            if 0 <= row < 201 and 0 <= col < 201:
                spiral[row, col] = True
            row, col = row + down, col + right
        step += 1
    labels, n = label_areas(np.zeros(spiral.shape), spiral)
    assert n == ndimage.label(spiral)[1] == 1
    assert (labels == spiral).all()
