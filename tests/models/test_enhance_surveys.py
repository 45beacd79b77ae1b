"""Stripes and haze that are measured on the scene first, wherever its chips lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring.measure import agreement_at, framed
from earthloom.models.networks.enhance.destripe import Destripe, _most_likely, _step
from earthloom.models.networks.enhance.haze import DarkObject, _between
from earthloom.models.networks.survey import Part
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window
from tests.models.enhancing import CARDS, bound, look_at, network, run, scene_for
from tests.models.nets import CPU, stack_of
from tests.scenes import landscape


def test_the_offsets_of_columns_solve_their_least_squares() -> None:
    rng = np.random.default_rng(5)
    steps, weights, power = rng.normal(0, 1, 29), rng.uniform(0.1, 9, 29), 0.7
    weights[7] = 0  # nothing is known of that step
    differences = np.eye(29, 30) - np.eye(29, 30, k=1)
    system = np.eye(30) / power + differences.T @ np.diag(weights) @ differences
    expected = np.linalg.solve(system, differences.T @ (weights * steps))
    np.testing.assert_allclose(_most_likely(steps, weights, power), expected, rtol=1e-9)


def test_a_step_is_the_mean_of_what_lies_near_the_median() -> None:
    rng = np.random.default_rng(6)
    steps, both = rng.normal(0, 1, (2, 9, 5)), rng.random((9, 5)) < 0.8
    both[:, 4] = False
    steps[0, 3, 0] = 1e6
    mean, known = _step(steps, both)
    assert known.tolist() == [*(both.sum(axis=0)[:4] >= 4), False]
    for band in range(2):
        medians = [np.sort(steps[band, both[:, col], col])[(both[:, col].sum() - 1) // 2] for col in range(4)]
        spread = np.median(np.concatenate([abs(steps[band, both[:, col], col] - medians[col]) for col in range(4)]))
        for col in range(4):
            near = both[:, col] & (abs(steps[band, :, col] - medians[col]) <= 1.4826 * spread)
            np.testing.assert_allclose(mean[band, col], steps[band, near, col].mean())
    assert mean[:, 4].tolist() == [0, 0]


def test_stripes_of_a_scene_larger_than_the_windows_are_those_of_its_columns() -> None:
    scene = Window(0, 0, 2500, 5000)
    windows = Destripe(in_channels=1).windows(scene)
    assert {window.row_off for window in windows} == {256 * k for k in (1, 3, 6, 8, 11, 13, 16, 18)}
    columns = sorted((window.col_off, window.col_end) for window in windows if window.row_off == 256)
    assert columns == [(0, 1025), (1024, 2049), (2048, 2500)], "each piece shares one column with the next"
    turned = Destripe(in_channels=1, direction="rows").windows(Window(0, 0, 5000, 2500))
    assert [(w.row_off, w.col_off, w.height, w.width) for w in turned] == [
        (w.col_off, w.row_off, w.width, w.height) for w in windows
    ]


def test_stripes_of_flat_ground_are_taken_away_but_for_their_mean_over_33_columns() -> None:
    stripes = 0.1 * torch.randn(1, 1, 1, 200, generator=torch.Generator().manual_seed(2))
    made = run(Destripe(in_channels=1), (2 + stripes).expand(1, 1, 100, 200).contiguous())
    left = F.avg_pool1d(F.pad(stripes[0], (16, 16), mode="reflect"), 33, 1)
    np.testing.assert_allclose(made[0, 0, 50].numpy() - 2, left[0, 0].numpy(), atol=0.005)


def test_rows_are_destriped_as_columns_of_the_turned_scene() -> None:
    x = scene_for(CARDS["destripe"])
    turned = run(network(CARDS["destripe"]), x.mT.contiguous()).mT
    assert torch.equal(run(network(CARDS["destripe-rows"]), x), turned)


def test_dark_objects_lose_what_they_have_above_their_own_reflectance() -> None:
    x = scene_for(CARDS["dehaze-reflectance"])
    values = x[0].numpy()
    valid = values.any(axis=0)
    made = run(network(CARDS["dehaze-reflectance"]), x)[0].numpy()
    for band, clear in zip(values[:, valid], made[:, valid], strict=True):
        haze = max(np.quantile(band, 1 / 256) - 1 - 0.01, 0)
        np.testing.assert_allclose(clear, np.maximum(band - haze, 1), rtol=1e-6)
        assert haze > 0
    hazeless = torch.where(x == 0, 0, x - x[x > 0].min() + 1)
    assert torch.equal(run(DarkObject(in_channels=3, keep=0.0, share=0.0), hazeless)[:, :1], hazeless[:, :1])


def test_haze_of_one_part_of_a_scene_is_taken_there_and_a_clear_scene_is_hardly_touched() -> None:
    dice = torch.Generator().manual_seed(0)
    truth = 1.02 + 0.2 * torch.rand(1, 3, 700, 900, generator=dice) ** 2  # shadows everywhere
    haze = 0.15 * torch.linspace(0, 1, 900)[None, None, None] * torch.tensor([1.0, 0.5, 0.05]).reshape(1, 3, 1, 1)
    haze = haze.expand(1, 3, 700, 900)
    module = DarkObject(in_channels=3)
    clear, made = run(module, truth), run(module, truth + haze)
    assert (clear - truth + 0.01).abs().max() < 0.002, "what all dark objects have above 0.01 is taken everywhere"
    for band, share in enumerate((1.0, 0.5)):
        left, added = (made - clear)[0, band], haze[0, band]
        assert left.square().mean() < added.square().mean() / 9
        assert left.mean(dim=0).diff().abs().max() < 0.15 * share / 256, "no edge between cells"


def test_haze_between_cells_is_a_cubic_b_spline() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    cells = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    made = _between(cells, range(64 * 6), 64)
    framed = np.pad(cells.numpy(), ((0, 0), (0, 0), (3, 3)), mode="edge")
    spline = interpolate.BSpline(np.arange(-2.0, 14.0) - 3, framed, 3, axis=2)
    places = (np.arange(64 * 6) + 0.5) / 64 - 0.5
    np.testing.assert_allclose(made.numpy(), spline(places), atol=1e-6)


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("label", ["destripe", "destripe-rows", "dehaze-reflectance"])
def test_a_network_that_knows_where_chips_lie_gives_in_chips_what_it_gives_in_one_pass(label: str, flips: bool) -> None:
    predictor = Predictor(bound(CARDS[label]), None, CPU, flips=flips)
    values = landscape(600, 280, 3)
    values[0] += np.linspace(0, 3000, 600).astype(np.uint16)
    scene = stack_of(values)
    agreement = agreement_at(predictor, 0, 64, scene)
    assert agreement.identical
    part = Part(scene.window, predictor.normalise(scene).numpy(), scene.valid)
    context = predictor.context_of(predictor.surveying.look(scene.window, [part]))
    chips = ChipGrid(scene=scene.window, core_px=64, halo_px=0, stride_px=1)
    made = predict_block(predictor, chips, scene.window, framed(scene, chips.extent, 0), context).made
    expected = predictor.module(torch.from_numpy(part.values)[None], context)[0] - 1
    np.testing.assert_allclose(made.numpy(), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("label", ["destripe", "destripe-rows", "dehaze-reflectance"])
def test_beyond_the_scene_lies_its_reflection(label: str) -> None:
    module = network(CARDS[label])
    x = scene_for(CARDS[label], 600, 400)
    found = look_at(module, x)
    framed = F.pad(run(module, x, found), (30,) * 4, mode="reflect")
    assert torch.equal(run(module, F.pad(x, (30,) * 4, mode="reflect"), found, [(-30, -30)]), framed)
