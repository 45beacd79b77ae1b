from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.tiling.errors import TilingError
from earthloom.tiling.registration import measure_shift

ndimage = pytest.importorskip("scipy.ndimage", reason="scipy moves images here; it comes with the tools of development")

SIDE = 128
MARGIN = 40


def ground(seed: int = 0) -> NDArray[np.float64]:
    """Fields and roads with a margin around: smooth areas of different brightness, and grain."""
    rng = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    fields = ndimage.gaussian_filter(rng.normal(size=(side, side)), 4)
    grain = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1)
    return np.asarray(100 + 40 * np.sign(fields) + 5 * grain)


def inside(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return image[MARGIN:-MARGIN, MARGIN:-MARGIN]


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(-30, 30), cols=st.integers(-30, 30), gain=st.floats(0.2, 3), bias=st.floats(-50, 50))
def test_whole_pixels_are_found_whatever_the_brightness(rows: int, cols: int, gain: float, bias: float) -> None:
    moved = np.roll(ground(), (rows, cols), (0, 1))
    shift = measure_shift(inside(ground()), inside(moved) * gain + bias)
    assert (shift.rows_px, shift.cols_px) == pytest.approx((rows, cols), abs=0.15)
    assert shift.is_reliable


@settings(deadline=None, max_examples=15)
@given(rows=st.floats(-5, 5), cols=st.floats(-5, 5))
def test_parts_of_a_pixel_are_found_to_a_tenth_of_what_scipy_moved(rows: float, cols: float) -> None:
    shift = measure_shift(inside(ground()), inside(ndimage.shift(ground(), (rows, cols), order=3)))
    assert shift.rows_px == pytest.approx(rows, abs=0.1)
    assert shift.cols_px == pytest.approx(cols, abs=0.1)


def test_clouds_that_stay_where_they_are_do_not_hold_the_ground_back() -> None:
    rng = np.random.default_rng(1)
    cover = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8)
    clear = cover > np.quantile(cover, 0.4)
    moved = np.where(clear, inside(np.roll(ground(), (4, -3), (0, 1))), 255)
    shift = measure_shift(np.where(clear, inside(ground()), 255), moved, clear)
    assert (shift.rows_px, shift.cols_px) == pytest.approx((4, -3), abs=0.3)


def test_pieces_tell_together_what_each_alone_is_too_noisy_for() -> None:
    rng = np.random.default_rng(2)
    pieces = np.stack([inside(ground(seed)) for seed in range(9)])
    moved = np.stack([inside(np.roll(ground(seed), (-6, 2), (0, 1))) for seed in range(9)])
    noisy = moved + rng.normal(0, 250, moved.shape)
    assert not measure_shift(pieces[0], noisy[0]).is_reliable
    together = measure_shift(pieces, noisy)
    assert together.is_reliable
    assert (together.rows_px, together.cols_px) == pytest.approx((-6, 2), abs=0.3)


def test_unlike_ground_is_told_from_a_shift() -> None:
    assert not any(measure_shift(inside(ground(n)), inside(ground(n + 1))).is_reliable for n in range(20))


def test_an_image_without_anything_in_it_says_nothing() -> None:
    flat = np.full((64, 64), 7, np.uint8)
    shift = measure_shift(flat, flat)
    assert (shift.rows_px, shift.cols_px, shift.strength) == (0, 0, 0)
    assert not measure_shift(flat, flat, np.zeros(flat.shape, bool)).is_reliable


@pytest.mark.parametrize("shapes", [((64, 64), (64, 65)), ((16, 64), (16, 64)), ((64,), (64,))])
def test_images_that_cannot_be_compared_are_refused_with_both_shapes(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(TilingError, match="one grid"):
        measure_shift(np.zeros(shapes[0]), np.zeros(shapes[1]))
