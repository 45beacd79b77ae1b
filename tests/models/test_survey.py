from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.models.networks.survey import N_QUANTILES, Look, survey
from tests.scenes import landscape

Part = tuple[NDArray[np.float32], NDArray[np.bool_]]


def part(pixels: NDArray[np.generic], valid: NDArray[np.bool_] | None = None) -> Part:
    values = pixels.astype(np.float32)
    return values, np.ones(values.shape[1:], np.bool_) if valid is None else valid


def test_a_survey_is_what_numpy_says_of_the_valid_pixels() -> None:
    values, valid = part(landscape(60, 40, 3) * 1e-4)
    valid = np.random.default_rng(0).random(valid.shape) < 0.7
    found = survey([(values, valid)])
    seen = values[:, valid].astype(np.float64)
    assert found.n == valid.sum()
    np.testing.assert_allclose(found.mean, seen.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(seen, bias=True), rtol=1e-9)
    shares = np.arange(N_QUANTILES) / (N_QUANTILES - 1)
    np.testing.assert_allclose(found.quantiles, [np.quantile(band, shares) for band in seen])
    assert found.quantiles[1][0] == seen[1].min()
    assert found.quantiles[1][-1] == seen[1].max()


def test_parts_count_by_their_pixels_in_any_order() -> None:
    values, valid = part(landscape(90, 64, 2))
    pieces = [(values[:, :, a:b], valid[:, a:b]) for a, b in ((0, 16), (16, 64), (64, 90))]
    whole, split, turned = survey([(values, valid)]), survey(pieces), survey(pieces[::-1])
    for other in (split, turned):
        assert other.n == whole.n
        np.testing.assert_allclose(other.covariance, whole.covariance, rtol=1e-9)
        np.testing.assert_array_equal(other.quantiles, whole.quantiles)


def test_what_is_not_valid_may_hold_anything() -> None:
    values, valid = part(landscape(64, 64, 2))
    valid[10:30, 20:50] = False
    poisoned = values.copy()
    poisoned[:, 10:30, 20:50] = np.nan
    assert survey([(poisoned, valid)]) == survey([(values, valid)])


@pytest.mark.parametrize("n_parts", [1, 3])
def test_a_scene_without_a_valid_pixel_gives_zeros(n_parts: int) -> None:
    found = survey([part(landscape(20, 20, 2), np.zeros((20, 20), np.bool_))] * n_parts)
    assert found.n == 0
    assert found.mean == (0.0, 0.0)
    assert not np.any(found.covariance)
    assert np.shape(found.quantiles) == (2, N_QUANTILES)
    assert not np.any(found.quantiles)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
@settings(deadline=None)
def test_what_a_network_keeps_comes_back_from_json_bit_by_bit(values: list[float]) -> None:
    look = Look(torch.tensor(values, dtype=torch.float32)[None], ("a note",))
    found = Look.from_json(json.loads(json.dumps(look.to_json())))
    assert found.context.shape == look.context.shape
    assert found.context.numpy().tobytes() == look.context.numpy().tobytes()
    assert found.notes == look.notes
