"""The noise that is found in scenes, against the noise that was put there."""

from __future__ import annotations

import numpy as np
import pytest

from earthloom.models.networks.noise import noise_of
from tests.models.test_survey import part


@pytest.mark.parametrize("sigma", [0.5, 3.0, 40.0])
def test_white_noise_is_found_to_a_tenth(sigma: float) -> None:
    rng = np.random.default_rng(1)
    ramp = np.add.outer(np.arange(200.0), 3 * np.arange(300.0))
    noisy = np.stack([ramp + rng.normal(0, sigma, ramp.shape), -2 * ramp + rng.normal(0, 2 * sigma, ramp.shape)])
    np.testing.assert_allclose(noise_of([part(noisy)]), [sigma, 2 * sigma], rtol=0.1)


def test_texture_in_half_of_a_scene_is_not_taken_for_noise() -> None:
    rng = np.random.default_rng(2)
    scene = rng.normal(0, 1, (1, 256, 256))
    scene[:, :, 128:] += 200 * (np.indices((256, 128)).sum(axis=0) // 3 % 2)
    assert 0.85 < noise_of([part(scene)])[0] < 1.1


def test_noise_is_found_in_scenes_that_are_smaller_than_a_block_or_full_of_holes() -> None:
    rng = np.random.default_rng(3)
    small = [part(rng.normal(0, 2, (1, 9, 9))) for _ in range(40)]
    assert 1.8 < noise_of(small)[0] < 2.2
    valid = np.ones((200, 200), np.bool_)
    valid[::6] = False
    assert 1.8 < noise_of([part(rng.normal(0, 2, (1, 200, 200)), valid)])[0] < 2.2


def test_texture_that_bands_share_is_no_noise_of_theirs() -> None:
    rng = np.random.default_rng(4)
    texture = rng.normal(0, 3, (256, 256))
    texture[:32] = 0
    gains = (1, 0.8, -0.5, 1.2, 1, -1, 0.9, 1.1)
    bands = np.stack([gain * texture + rng.normal(0, 1, texture.shape) for gain in gains])
    np.testing.assert_allclose(noise_of([part(bands)]), 1, rtol=0.15)
    assert noise_of([part(bands[:1])])[0] > 2, "alone, a band's texture looks like noise"


def test_noise_that_bands_share_is_found_where_the_scene_is_calm() -> None:
    rng = np.random.default_rng(5)
    band = rng.normal(0, 1, (256, 256))
    band[:, 32:] += rng.normal(0, 5, (256, 224))
    found = noise_of([part(np.stack([band, band, 2 * band]))])
    np.testing.assert_allclose(np.array(found) / [1, 1, 2], 0.85, atol=0.1)


@pytest.mark.parametrize("n_bands", [1, 5, 12, 30])
def test_the_number_of_bands_does_not_change_what_is_found(n_bands: int) -> None:
    bands = np.random.default_rng(6).normal(0, 1, (n_bands, 256, 256))
    found = np.array(noise_of([part(bands)]))
    np.testing.assert_allclose(found, noise_of([part(bands[:1])])[0], rtol=0.05)


def test_a_band_that_is_flat_has_no_noise_and_takes_none_from_others() -> None:
    bands = np.random.default_rng(7).normal(0, 1, (3, 128, 128))
    bands[1] = 5
    found = noise_of([part(bands)])
    assert found[1] == 0
    np.testing.assert_allclose([found[0], found[2]], 0.94, rtol=0.08)


def test_order_and_size_of_parts_do_not_matter_and_what_is_not_valid_may_hold_anything() -> None:
    values, valid = part(np.random.default_rng(8).normal(0, 1, (2, 64, 96)))
    pieces = [(values[:, :, a:b], valid[:, a:b]) for a, b in ((0, 32), (32, 96))]
    np.testing.assert_allclose(noise_of(pieces[::-1]), noise_of(pieces), rtol=1e-12)
    valid[10:30, 20:50] = False
    poisoned = values.copy()
    poisoned[:, 10:30, 20:50] = np.nan
    assert noise_of([(poisoned, valid)]) == noise_of([(values, valid)])
    assert noise_of([(poisoned, np.zeros_like(valid))]) == (0.0, 0.0)


def test_parts_too_small_for_a_window_have_no_noise() -> None:
    assert noise_of([part(np.ones((2, 2, 50)))]) == (0.0, 0.0)
