"""Cards of the enhancing networks: their halo, their chips, pixels that are not valid, and what they do for real scenes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor
from torch.nn import functional as F

from earthloom.models.cards.file import from_item, to_item
from earthloom.models.networks.registry import build
from earthloom.tiling.errors import CardError
from tests.models.enhancing import CARDS, NAMES, bound, look_at, network, run, scene_for
from tests.scenes import shipped


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
