"""The enhancing networks are their formulas, against loops in float64 and numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from earthloom.models.networks.enhance.denoise import NonLocalMeans, box_sum, shifted
from earthloom.models.networks.enhance.pansharpen import AdaptiveGramSchmidt, Brovey
from earthloom.models.networks.enhance.tone import EqualisedStretch, PercentileStretch
from earthloom.models.networks.survey import Look, Survey, survey
from tests.models.enhancing import CARDS, run, scene_for


def survey_of(x: Tensor) -> Survey:
    values = x[0].numpy()
    return survey([(values, (values != 0).any(axis=0))])


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 32])
def test_a_box_sum_is_the_sum_over_the_window(radius: int) -> None:
    x = torch.arange(2 * 1 * 40 * 50, dtype=torch.float64).reshape(2, 1, 40, 50) % 97
    side = 2 * radius + 1
    assert torch.equal(box_sum(x, radius), F.conv2d(x, torch.ones(1, 1, side, side, dtype=x.dtype), padding=radius))
    assert torch.equal(
        box_sum(x, radius, along=(-2,)), F.conv2d(x, torch.ones(1, 1, side, 1, dtype=x.dtype), padding=(radius, 0))
    )


def test_a_shift_brings_the_pixel_from_there_and_zeros_from_beyond() -> None:
    x = torch.arange(1.0, 13).reshape(1, 1, 3, 4)
    assert shifted(x, 1, -2)[0, 0].tolist() == [[0, 0, 5, 6], [0, 0, 9, 10], [0, 0, 0, 0]]


def at(values: NDArray[np.float64], row: int, col: int) -> NDArray[np.float64]:
    """A pixel (C,), all 0 beyond the edges."""
    inside = 0 <= row < values.shape[1] and 0 <= col < values.shape[2]
    return values[:, row, col] if inside else np.zeros(len(values))


def test_non_local_means_is_its_formula() -> None:
    x = scene_for(CARDS["denoise"], 14, 13, holes=False)
    x[:, :, 3:5, 6:9] = 0
    noise = np.array([0.012, 0.02, 0.0])
    module = NonLocalMeans(in_channels=3, search_px=2, patch_px=1, strength=0.7)
    made = run(module, x, Look(module.context(noise.tolist())))[0].numpy()
    values, near = x[0].numpy().astype(np.float64), range(-1, 2)
    assert np.array_equal(made[2], x[0, 2].numpy())
    for row, col in ((0, 0), (4, 5), (6, 7), (12, 13), (9, 3)):
        total, weights = np.zeros(3), 0.0
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                other = at(values, row + dy, col + dx)
                if not other.any():
                    continue
                pairs = [
                    (at(values, row + i, col + j), at(values, row + dy + i, col + dx + j)) for i in near for j in near
                ]
                both = [(((a - b)[:2] / noise[:2]) ** 2).mean() for a, b in pairs if a.any() and b.any()]
                weight = np.exp(-max(np.mean(both) - 2, 0) / 0.7)
                total, weights = total + weight * other, weights + weight
        np.testing.assert_allclose(made[:2, row, col], (total / weights)[:2], rtol=2e-6)


def crisp_in_numpy(
    band: NDArray[np.float64], valid: NDArray[np.bool_], row: int, col: int, *, radius: int, sigma: float
) -> float:
    weights = value = 0.0
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if 0 <= row + dy < len(valid) and 0 <= col + dx < valid.shape[1] and valid[row + dy, col + dx]:
                weight = np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
                weights, value = weights + weight, value + weight * band[row + dy, col + dx]
    return float(band[row, col] + 1.2 * (band[row, col] - value / weights))


@pytest.mark.parametrize("ratio", [2, 4])
def test_adaptive_gram_schmidt_is_its_formula(ratio: int) -> None:
    x = scene_for(CARDS["pansharpen"], 40, 36, holes=False)
    x[:, :, 14:18, 20:26] = 0
    made = run(AdaptiveGramSchmidt(in_channels=4, ratio=ratio), x)[0].numpy()
    pan, *bands = x[0].numpy().astype(np.float64)
    valid = np.asarray(pan != 0)
    design = np.stack([np.ones(valid.sum()), *(band[valid] for band in bands)], axis=1)
    fit = np.linalg.lstsq(design, pan[valid], rcond=None)[0]
    spread = np.var(design @ fit)
    for row, col in ((0, 0), (13, 19), (20, 30), (35, 39)):
        around = [
            (r, c)
            for r in range(max(row - ratio, 0), min(row + ratio + 1, 36))
            for c in range(max(col - ratio, 0), min(col + ratio + 1, 40))
            if valid[r, c]
        ]
        crisp = {
            place: np.array([crisp_in_numpy(b, valid, *place, radius=3 * ratio // 2, sigma=ratio / 2) for b in bands])
            for place in around
        }
        local = np.stack(list(crisp.values()))
        intensity = fit[0] + local @ fit[1:]
        gain = ((local - local.mean(0)) * (intensity - intensity.mean())[:, None]).mean(0)
        gain /= np.var(intensity) + 0.02 * spread
        detail = pan[row, col] - fit[0] - crisp[row, col] @ fit[1:]
        np.testing.assert_allclose(made[:, row, col], crisp[row, col] + gain * detail, rtol=1e-5)


def test_brovey_is_its_formula_with_weights_that_are_not_negative() -> None:
    x = scene_for(CARDS["pansharpen-brovey"], 40, 36, holes=False)
    x[:, 0] = 0.7 * x[:, 1] + 0.5 * x[:, 2] - 0.3 * x[:, 3] + 0.1
    module = Brovey(in_channels=4)
    made = run(module, x)[0].numpy()
    pan, *bands = x[0].numpy().astype(np.float64) - 1
    design = np.stack([np.ones(pan.size), bands[0].ravel(), bands[1].ravel()], axis=1)
    constant, *weights = np.linalg.lstsq(design, pan.ravel(), rcond=None)[0]
    assert module.context(survey_of(x))[2] == 0
    for row, col in ((5, 5), (20, 30), (35, 39)):
        crisp = np.array([crisp_in_numpy(b, pan > -9, row, col, radius=3, sigma=1.0) for b in bands])
        at = np.array([band[row, col] for band in bands])
        crisp = np.clip(crisp, at - 0.3 * abs(at), at + 0.3 * abs(at))
        ratio = (pan[row, col] - constant) / (crisp[:2] @ weights)
        np.testing.assert_allclose(made[:, row, col], 1 + crisp * ratio, rtol=1e-5)


def test_brovey_leaves_pixels_alone_whose_intensity_is_not_positive_and_bounds_the_ratio() -> None:
    found = survey_of(scene_for(CARDS["pansharpen-brovey"], holes=False))
    dark = torch.full((1, 4, 20, 20), 1.0)
    assert torch.equal(run(Brovey(in_channels=4), dark, found), dark[:, 1:])
    dark[:, 1:] += 0.01
    dark[:, 0] += 5.0
    np.testing.assert_allclose(run(Brovey(in_channels=4), dark, found).numpy(), 1.04, rtol=1e-5)


def test_brovey_makes_a_dark_pixel_beside_a_bright_one_no_darker_than_by_its_share() -> None:
    x = torch.full((1, 4, 20, 20), 1.5)
    x[..., :10] = 1.02
    module = Brovey(in_channels=4)
    found = survey_of(x)
    weights = module.context(found)[:-1]
    assert weights.sum() > 0
    made = run(module, x, found)[0] - 1
    beside = made[:, 10, 9] / made[:, 10, 2]
    assert torch.all((beside > 0.65) & (beside < 1.6))


def test_a_stretch_is_linear_between_two_percentiles() -> None:
    x = scene_for(CARDS["stretch"])
    values = x[0].numpy()
    valid = values.any(axis=0)
    made = run(PercentileStretch(in_channels=3, low=0.25, high=0.75), x)[0].numpy()
    for band, shown in zip(values[:, valid], made[:, valid], strict=True):
        low, high = np.percentile(band, (25, 75))
        np.testing.assert_allclose(shown, np.clip((band - low) / (high - low), 0, 1), atol=2e-5)


def test_equalisation_without_a_limit_flattens_the_histogram_and_with_limit_1_is_linear() -> None:
    x = scene_for(CARDS["stretch-clahe"], 200, 200) ** 3
    valid = x[0].numpy().any(axis=0)
    flat = run(EqualisedStretch(in_channels=3, limit=256), x)[0].numpy()[:, valid]
    linear = run(EqualisedStretch(in_channels=3, limit=1), x)[0].numpy()[:, valid]
    for k, band in enumerate(x[0].numpy()[:, valid]):
        share = (np.argsort(np.argsort(band)) + 0.5) / band.size
        np.testing.assert_allclose(flat[k], share, atol=0.02)
        low, high = np.quantile(band, (1 / 256, 255 / 256))
        np.testing.assert_allclose(linear[k], np.clip((band - low) / (high - low), 0, 1), atol=1e-5)


def test_equalisation_never_falls_and_is_never_steeper_than_its_limit() -> None:
    x = torch.where(torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(3)) < 0.6, 20.0, 0.0)
    x += 1 + (100 * torch.rand(1, 1, 100, 100, generator=torch.Generator().manual_seed(4))).floor()
    found, module = survey_of(x), EqualisedStretch(in_channels=1, limit=2)
    start, end = found.quantiles[0][1], found.quantiles[0][-2]
    ramp = torch.linspace(start, end, 5001).reshape(1, 1, 1, -1)
    shown = run(module, ramp, found).flatten().double()
    assert shown[0] == 0
    assert shown[-1] == pytest.approx(1, abs=1e-6)
    steps = shown.diff() * 5000
    assert steps.min() >= 0
    assert steps.max() < 2 * 1.05
    assert run(module, torch.tensor([-1e9, 1e9]).reshape(1, 1, 1, 2), found).flatten().tolist() == [0, 1]
