"""Galileo's encoder against its published arithmetic, written down a second time in numpy, and by the way of any network."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from scipy.special import erf, softmax

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.measuring.measure import measure
from earthloom.models.networks import registry
from earthloom.models.networks.segment.galileo import Galileo
from earthloom.models.training.network import build, named
from earthloom.models.training.start import from_file
from earthloom.tiling.errors import CardError
from tests.models.nets import CPU, card_of, stack_of
from tests.models.training.test_networks import STEPS, again_from_file, check_cuts

BANDS = ("nir", "red", "green", "blue", "swir16", "swir22", "rededge071", "rededge075", "rededge078", "nir08")
ORDER = {"S2_RGB": [3, 2, 1], "S2_Red_Edge": [6, 7, 8], "S2_NIR_10m": [0], "S2_NIR_20m": [9], "S2_SWIR": [4, 5]}
"""Channels of each group among BANDS: B2 B3 B4, B5 B6 B7, B8, B8A, B11 B12."""


def galileo_card(bands: tuple[str, ...] = BANDS, **arguments: object) -> ModelCard:
    name, text, stride = named("galileo", None, arguments, bands)
    card = card_of(name, len(bands), 3, stride, text)
    return replace(card, bands=bands, core_px=64)


def drawn(card: ModelCard) -> Galileo:
    """With random weights everywhere, also where training begins with zeros or ones."""
    module = build(card, 0).eval()
    assert isinstance(module, Galileo)
    dice = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "pos_embed" not in name and "month_embed" not in name:
                value.add_(0.1 * torch.randn(value.shape, generator=dice))
    return module


def by_the_book(
    state: dict[str, NDArray[np.float64]], chip: NDArray[np.float64], patch: int, month: int, gsd_m: float
) -> NDArray[np.float64]:
    """(rows, cols, D): the mean token of each patch, of a square chip (C, h, h), after `single_file_galileo.py` of
    github.com/nasaharvest/galileo at 0f0b5b9 with one date, five groups and all else masked."""
    side, width = chip.shape[1] // patch, state["norm.weight"].size
    quarter = width // 4

    def along(places: NDArray[np.float64], size: int) -> NDArray[np.float64]:
        omega = 1.0 / 10000 ** (np.arange(size // 2) / size / 2.0)
        out = np.einsum("m,d->md", places, omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    smaller = np.stack([  # Pillow's bicubic filter widens as the image shrinks
        np.asarray(Image.fromarray(one.reshape(8, 8)).resize((patch, patch), Image.Resampling.BICUBIC))
        for one in np.eye(64, dtype=np.float32)
    ]).reshape(64, -1).astype(np.float64)  # fmt: skip
    pinv = np.linalg.pinv(smaller)
    across, down = np.meshgrid(np.arange(side), np.arange(side), indexing="xy")
    place = np.concatenate(
        [along(axis.ravel() * gsd_m * patch / 10, quarter // 2) for axis in (across, down)], axis=1
    ).reshape(side, side, quarter)
    angle = (month - 1) / (12 / (2 * np.pi))
    of_month = np.repeat([math.sin(angle), math.cos(angle)], quarter // 2)
    tokens = []
    for number, (group, channels) in zip((1, 2, 3, 4, 5), ORDER.items(), strict=True):
        kernel = state[f"space_time_embed.{group}.proj.weight"].reshape(width, len(channels), 64)
        kernel = kernel if patch == 8 else np.einsum("pq,dcq->dcp", pinv, kernel)
        cut = chip[channels].reshape(len(channels), side, patch, side, patch)
        made = np.einsum("crixa,dcia->rxd", cut, kernel.reshape(width, -1, patch, patch))
        made = made + state[f"space_time_embed.{group}.proj.bias"]
        first = [state["s_t_channel_embed"][number], along(np.zeros(1), quarter)[0], of_month]
        tokens.append(
            made + np.concatenate([np.broadcast_to(np.concatenate(first), (side, side, 3 * quarter)), place], axis=2)
        )
    x = np.stack(tokens, axis=2).reshape(-1, width)

    def norm(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = values - values.mean(axis=1, keepdims=True)
        scaled = np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5))
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def dense(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        return values @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for block in range(4):
        seen = norm(x, f"blocks.{block}.norm1")
        q, k, v = (dense(seen, f"blocks.{block}.attn.{name}").reshape(len(x), 8, -1) for name in "qkv")
        share = softmax(np.einsum("nhd,mhd->hnm", q, k) / math.sqrt(q.shape[2]), axis=2)
        x = x + dense(np.einsum("hnm,mhd->nhd", share, v).reshape(len(x), -1), f"blocks.{block}.attn.proj")
        inner = dense(norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1")
        x = x + dense(inner * 0.5 * (1 + erf(inner / math.sqrt(2))), f"blocks.{block}.mlp.fc2")
    return np.asarray(norm(x, "norm").reshape(side, side, 5, width).mean(axis=2))


@pytest.mark.parametrize(("patch", "month", "gsd_m"), [(8, 7, 10.0), (4, 1, 20.0)])
def test_tokens_are_those_of_the_published_arithmetic(patch: int, month: int, gsd_m: float) -> None:
    module = drawn(galileo_card(patch_px=patch, month=month, gsd_m=gsd_m))
    state = {name: value.double().numpy() for name, value in module.encoder.state_dict().items()}
    chip = np.random.default_rng(0).normal(0.5, 0.3, (10, 32, 32))
    with torch.inference_mode():
        found = module.encoder(torch.from_numpy(chip.astype(np.float32))[None])[0].permute(1, 2, 0).numpy()
    expected = by_the_book(state, chip, patch, month, gsd_m)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3 if patch != 8 else 2e-4)


def test_a_published_file_fills_the_encoder_key_by_key(tmp_path: Path) -> None:
    """Its names and shapes, with the inputs that this network does not have; its colours come blue, green, red."""
    bands = ("blue", "green", "red")
    source = drawn(galileo_card(BANDS))
    file = {name: value.contiguous() for name, value in source.encoder.state_dict().items()}
    others = {
        "space_time_embed.S1.proj.weight": (128, 2, 8, 8),
        "static_embed.LS.weight": (128, 1),
        "sp_channel_embed": (3, 32),
    }
    file |= {name: torch.ones(shape) for name, shape in others.items()}
    save_file(file, tmp_path / "encoder.safetensors")
    for names in (BANDS, bands):
        module = build(galileo_card(names), 1)
        start = from_file(module, names, tmp_path / "encoder.safetensors")
        own = module.state_dict()
        assert set(start.missing) == {"head.weight", "head.bias"}
        assert start.filled == {name for name in own if name.startswith("encoder.")}
        assert start.adapted == ()
        assert set(others) <= set(start.unused)
        assert all(torch.equal(own[f"encoder.{name}"], file[name]) for name in file if f"encoder.{name}" in own)


def test_it_learns_comes_back_bit_for_bit_and_is_blended_by_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 100.0)
    card = galileo_card(("blue", "green", "red", "nir"))
    card, values = again_from_file(card, STEPS, tmp_path, falls_to=0.85)  # attention learns from nothing more slowly
    found = measure(card, tmp_path / weights.FILE, CPU, stack_of(values), precisions=("fp32",))
    assert (found.card.overlap, found.card.support_px) == ("blend", None)
    check_cuts(found.card, tmp_path / weights.FILE, stack_of(values))


def test_chips_of_a_batch_get_the_bits_that_they_get_alone() -> None:
    module = drawn(galileo_card())
    chips = torch.randn(3, 10, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(module(chips), torch.cat([module(chip[None]) for chip in chips]))


@pytest.mark.parametrize(
    ("bands", "arguments", "message"),
    [
        (("blue", "green"), {}, "takes whole groups of bands: blue, green, red; rededge071"),
        (BANDS, {"size": "huge"}, "size is nano, tiny, base"),
        (BANDS, {"patch_px": 16}, "patch_px 1 to 8"),
        (BANDS, {"month": 0}, "month 1 to 12"),
    ],
)
def test_what_cannot_be_built_says_why(bands: tuple[str, ...], arguments: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=message):
        registry.build(galileo_card(bands, **arguments))


def test_a_card_whose_bands_are_not_those_of_its_network_is_refused() -> None:
    card = galileo_card()
    other = json.dumps({"bands": ["blue", "green", "red"]})
    with pytest.raises(CardError, match="built for blue, green, red but the card names the bands nir, red"):
        registry.build(replace(card, arguments=other))
