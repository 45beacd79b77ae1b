from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.models.networks.registration import shift_between


def ground(seed: int = 0, side: int = 300) -> NDArray[np.float64]:
    """(side, side), whose power falls with frequency as that of the Earth does."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None])
    frequency[0, 0] = 1
    return np.real(np.fft.ifft2(np.fft.fft2(rng.normal(0, 1, (side, side))) / frequency))


def moved(image: NDArray[np.float64], down: float, right: float) -> NDArray[np.float64]:
    """By any fraction of a pixel, around the edges."""
    rows, cols = (np.fft.fftfreq(side) for side in image.shape)
    turn = np.exp(-2j * np.pi * (rows[:, None] * down + cols[None] * right))
    return np.real(np.fft.ifft2(np.fft.fft2(image) * turn))


@given(down=st.floats(-20, 20), right=st.floats(-20, 20))
@settings(deadline=None, max_examples=20)
def test_a_shift_is_found_to_a_tenth_of_a_pixel(down: float, right: float) -> None:
    image = ground()
    found = shift_between([(moved(image, down, right), image, np.ones(image.shape, bool))], 0.25)
    assert found is not None
    assert (found.down_px, found.right_px) == pytest.approx((down, right), abs=0.1)
    assert found.strength > 0.4


def test_other_contrast_noise_and_holes_do_not_move_it() -> None:
    image, rng = ground(1), np.random.default_rng(2)
    valid = np.ones(image.shape, bool)
    valid[40:90, 100:140] = False
    other = 3 * moved(image, 0, 2) + 40 + rng.normal(0, image.std() / 4, image.shape)
    found = shift_between([(np.where(valid, other, 1e9), np.where(valid, image, -1e9), valid)], 0.25)
    assert found is not None
    assert (found.down_px, found.right_px) == pytest.approx((0, 2), abs=0.15)


def test_images_of_different_ground_agree_on_nothing() -> None:
    found = shift_between([(ground(3), ground(4), np.ones((300, 300), bool))], 0.25)
    assert found is not None
    assert found.strength < 0.15


@pytest.mark.parametrize("side", [100, 300])
def test_without_a_tile_or_without_contrast_nothing_is_said(side: int) -> None:
    flat = np.ones((side, side))
    assert shift_between([(flat, flat, np.ones((side, side), bool))], 0.25) is None
