from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.device.deterministic import steady
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring.measure import agreement_at, framed
from earthloom.models.networks.enhance.denoise import NonLocalMeans, box_sum, shifted
from earthloom.models.networks.enhance.destripe import Destripe, _most_likely, _step
from earthloom.models.networks.enhance.haze import DarkObject, _between
from earthloom.models.networks.enhance.pansharpen import AdaptiveGramSchmidt, Brovey
from earthloom.models.networks.enhance.tone import EqualisedStretch, PercentileStretch
from earthloom.models.networks.registry import build
from earthloom.models.networks.survey import Look, Part, Survey, survey
from earthloom.models.zoo.enhance import ENTRIES
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window
from tests.models.nets import CPU, stack_of
from tests.scenes import landscape, shipped

CARDS = {card.label: card for entry in ENTRIES for card in entry.cards}
NAMES = ("blue", "green", "red")


def bound(card: ModelCard) -> ModelCard:
    return card.bind(("pan", *NAMES) if "pan" in card.bands else NAMES)


def network(card: ModelCard) -> Any:
    return build(bound(card)).eval()


def scene_for(card: ModelCard, width: int = 90, height: int = 70, *, holes: bool = True) -> Tensor:
    """(1, C, h, w) as the card's network sees it: smooth hills with noise, a hole and an edge that are not valid."""
    n_bands = len(bound(card).bands)
    x = torch.from_numpy(landscape(width, height, n_bands).astype(np.float32)) * 1e-4 - card.mean[0]
    if n_bands > len(NAMES):
        x[0] = x[1:].mean(dim=0) + 0.02 * torch.randn(height, width, generator=torch.Generator().manual_seed(1))
    if holes:
        x[:, 20:31, 40:53] = 0
        x[:, :, :6] = 0
    return x[None]


def survey_of(x: Tensor) -> Survey:
    values = x[0].numpy()
    return survey([(values, (values != 0).any(axis=0))])


def look_at(module: Any, x: Tensor) -> Look:
    """What a network keeps of a scene (1, C, h, w), by the windows that it asks for."""
    scene = Window(0, 0, x.shape[3], x.shape[2])
    parts = [(window, x[0][(slice(None), *window.slices(scene))].numpy()) for window in module.windows(scene)]
    found: Look = module.look(scene, (Part(window, values, (values != 0).any(axis=0)) for window, values in parts))
    return found


def run(module: Any, x: Tensor, found: Survey | Look | None = None, corners: Any = None) -> Tensor:
    found = found or look_at(module, x)
    context = found.context if isinstance(found, Look) else module.context(found)
    with torch.inference_mode(), steady("cpu"):
        answer: Tensor = module(x, context, corners) if module.is_placed else module(x, context)
    return answer


# ---- cards


@pytest.mark.parametrize("label", CARDS)
def test_cards_take_any_bands_come_back_from_disk_and_give_every_band(label: str) -> None:
    card = CARDS[label]
    assert from_item(to_item(card, weights_name="weights.safetensors", n_parameters=0)) == card
    made = run(network(card), scene_for(card))
    assert made.shape == (1, len(bound(card).outputs), 70, 90)
    assert bound(card).outputs == NAMES
    assert made.dtype == torch.float32
    assert not list(network(card).parameters())


@pytest.mark.parametrize("label", CARDS)
def test_the_halo_is_exactly_as_far_as_the_network_sees(label: str) -> None:
    card = CARDS[label]
    x = scene_for(card, 141, 141, holes=False)
    module = network(card)
    found = look_at(module, x)
    before = run(module, x, found)
    x[:, :, 70, 70] = torch.nan
    rows, cols = torch.where((run(module, x, found) != before).any(dim=1)[0])
    reach = max(int((rows - 70).abs().max()), int((cols - 70).abs().max()))
    assert reach == card.halo_px == card.support_px


@pytest.mark.parametrize("label", CARDS)
def test_chips_give_the_bits_of_the_whole_scene(label: str) -> None:
    card = CARDS[label]
    halo, core = int(card.halo_px or 0), 37
    x = scene_for(card)
    module = network(card)
    found = look_at(module, x)
    padded = F.pad(x, (halo,) * 4, mode="reflect")
    whole = run(module, padded, found, [(-halo, -halo)])[:, :, halo : halo + 70, halo : halo + 90]
    for threads, batch in ((1, 1), (2, 3)):
        torch.set_num_threads(threads)
        for top in range(0, 70, core):
            for left in range(0, 90, core):
                chip = padded[:, :, top : top + core + 2 * halo, left : left + core + 2 * halo]
                # a chip has neighbours in its batch, and the predictor's layout
                chips = torch.cat([chip.flip(-1)] * (batch - 1) + [chip]).contiguous(memory_format=torch.channels_last)
                rows, cols = (min(core, size - start) for size, start in ((70, top), (90, left)))
                corners = [(0, 0)] * (batch - 1) + [(top - halo, left - halo)]
                made = run(module, chips, found, corners)[-1:, :, halo : halo + rows, halo : halo + cols]
                assert torch.equal(made, whole[:, :, top : top + rows, left : left + cols]), (top, left, threads)


@pytest.mark.parametrize("label", CARDS)
def test_pixels_that_are_not_valid_do_not_show_in_their_neighbours(label: str) -> None:
    card = CARDS[label]
    x = scene_for(card)
    flat = torch.where(x == 0, 0, torch.tensor([1.3, 1.31, 1.28, 1.33])[: x.shape[1]].reshape(-1, 1, 1))
    valid = (flat != 0).any(dim=1)[0]
    module = network(card)
    found = look_at(module, flat if module.is_placed else scene_for(card, holes=False))
    made = run(module, flat, found)[0]
    spread = made[:, valid].amax(dim=1) - made[:, valid].amin(dim=1)
    assert spread.max() < 2e-6
    if card.output_dtype == "":
        assert (made[:, ~valid] == 0).all()


@pytest.mark.parametrize("label", CARDS)
def test_a_scene_without_a_valid_pixel_or_without_contrast_gives_numbers(label: str) -> None:
    card = CARDS[label]
    x = scene_for(card)
    empty, flat = torch.zeros_like(x), torch.full_like(x, 1.25)
    module = network(card)
    for found in (look_at(module, empty), look_at(module, flat)):
        assert found.context.dtype == torch.float32
        assert found.context.isfinite().all()
        for seen in (empty, flat, x):
            assert run(module, seen, found).isfinite().all()


@pytest.mark.parametrize(
    ("card", "change"),
    [
        ("pansharpen", {"bands": ("pan",), "outputs": ("pan",), "mean": (-1.0,), "std": (1.0,)}),
        ("pansharpen", {"arguments": '{"ratio":1}'}),
        ("denoise", {"arguments": '{"search_px":0}'}),
        ("denoise", {"arguments": '{"strength":-1}'}),
        ("destripe", {"arguments": '{"direction":"diagonal"}'}),
        ("destripe", {"arguments": '{"across_px":1000}'}),
        ("dehaze-dn", {"arguments": '{"keep":-1}'}),
        ("stretch", {"arguments": '{"high":0.5,"low":0.5}'}),
        ("stretch-clahe", {"arguments": '{"limit":0.5}'}),
    ],
)
def test_arguments_out_of_range_are_refused_with_what_is_accepted(card: str, change: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=r"got|needs"):
        build(replace(CARDS[card], **change))


# ---- windows


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


# ---- formulas, against loops in float64


def at(values: NDArray[np.float64], row: int, col: int) -> NDArray[np.float64]:
    """A pixel (C,), all 0 beyond the edges."""
    inside = 0 <= row < values.shape[1] and 0 <= col < values.shape[2]
    return values[:, row, col] if inside else np.zeros(len(values))


def test_non_local_means_is_its_formula() -> None:
    x = scene_for(CARDS["denoise"], 14, 13, holes=False)
    x[:, :, 3:5, 6:9] = 0
    found = replace(survey_of(x), noise=(0.012, 0.02, 0.0))
    made = run(NonLocalMeans(in_channels=3, search_px=2, patch_px=1, strength=0.7), x, found)[0].numpy()
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
                both = [(((a - b)[:2] / found.noise[:2]) ** 2).mean() for a, b in pairs if a.any() and b.any()]
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
        ratio = (pan[row, col] - constant) / (crisp[:2] @ weights)
        np.testing.assert_allclose(made[:, row, col], 1 + crisp * ratio, rtol=1e-5)


def test_brovey_leaves_pixels_alone_whose_intensity_is_not_positive_and_bounds_the_ratio() -> None:
    found = survey_of(scene_for(CARDS["pansharpen-brovey"], holes=False))
    dark = torch.full((1, 4, 20, 20), 1.0)
    assert torch.equal(run(Brovey(in_channels=4), dark, found), dark[:, 1:])
    dark[:, 1:] += 0.01
    dark[:, 0] += 5.0
    np.testing.assert_allclose(run(Brovey(in_channels=4), dark, found).numpy(), 1.04, rtol=1e-5)


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


# ---- what they are for, on a real scene


def landsat() -> Tensor:
    with rasterio.open(shipped("salt_lake")) as dataset:
        values = dataset.read()[:, :, :256]
    return torch.from_numpy(values.astype(np.float32))[None] + 1


def error(made: Tensor, truth: Tensor) -> float:
    return float((made - truth).square().mean().sqrt())


def test_pansharpening_brings_a_real_scene_nearer_to_the_truth_than_cubic_interpolation() -> None:
    truth = landsat()
    pan = (truth[:, 1:4] * torch.tensor([0.25, 0.35, 0.4]).reshape(-1, 1, 1)).sum(dim=1, keepdim=True)
    for ratio, label in ((2, "pansharpen"), (2, "pansharpen-brovey"), (4, "pansharpen-4x")):
        coarse = F.avg_pool2d(truth, ratio)
        seen = torch.cat([pan, F.interpolate(coarse, scale_factor=ratio, mode="bilinear")], dim=1)
        module: Any = build(CARDS[label].bind(["pan", *"abcdef"]))
        cubic = F.interpolate(coarse, scale_factor=ratio, mode="bicubic")
        assert error(run(module, seen), truth) < 0.9 * error(cubic, truth)


def test_noise_in_a_real_scene_is_halved_by_what_the_survey_found() -> None:
    truth = landsat()
    noisy = (truth + 5 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))).clamp(min=1)
    made = run(build(CARDS["denoise"].bind("abcdef")), noisy)
    assert error(made, truth) < 0.5 * error(noisy, truth)


@pytest.mark.parametrize("label", ["destripe", "destripe-rows"])
def test_stripes_in_a_real_scene_are_taken_away_and_a_scene_without_is_hardly_touched(label: str) -> None:
    truth = landsat()
    stripes = 1.5 * torch.randn(1, 6, 1, 256, generator=torch.Generator().manual_seed(0))
    striped = truth + (stripes if label == "destripe" else stripes.mT)
    module = build(CARDS[label].bind("abcdef"))
    assert error(run(module, striped), truth) < 0.45 * error(striped, truth)
    assert error(run(module, truth), truth) < 0.15
