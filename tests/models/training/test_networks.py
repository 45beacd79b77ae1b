"""Every network of segmentation-models-pytorch on four kinds of encoder learns, is saved, comes back bit for bit and is tiled.

A sample of them here, with its halo measured. All of them, at 3 or 13 bands by turns, by `python -m pytest -m chaos` of
this file: a few steps each, and with 20 steps and their halo measured, which takes hours.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import framed, measure
from earthloom.models.networks import registry
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.models.training.augment import Variety
from earthloom.models.training.export import save_weights
from earthloom.models.training.network import build, named
from earthloom.models.training.schedule import Schedule
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window
from infra.recipes.pictures import Crops, Pair, fit
from tests.models.nets import CPU, card_of, stack_of
from tests.scenes import landscape

define_missing_ops()
STEPS = 20
ENCODERS = ("resnet18", "efficientnet-b0", "tu-tf_efficientnet_lite0", "tu-convnext_tiny")
VIT = "tu-vit_small_patch16_dinov3"
ARCHITECTURES = (
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet", "segformer",
)  # fmt: skip
EVERY = [(architecture, encoder) for architecture in ARCHITECTURES for encoder in ENCODERS]
EVERY += [("dpt", encoder) for encoder in (VIT, "tu-convnext_tiny")]
SAMPLE = [
    pytest.param("unet", "resnet18", 3, marks=pytest.mark.long),
    ("linknet", "resnet18", 3),
    ("fpn", "tu-tf_efficientnet_lite0", 13),
]
BLENDED = ("fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet", "manet", "dpt")
"""Decoders with global context, whatever the encoder: pooling, attention, or norms over the whole chip."""


def learned(
    architecture: str, encoder: str, n_bands: int, steps: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 100.0)
    card, values = trained_and_read(architecture, encoder, n_bands, steps, folder)
    found = measure(card, folder / weights.FILE, CPU, stack_of(values), precisions=("fp32",))
    if architecture in BLENDED or encoder == "efficientnet-b0":
        assert found.card.overlap == "blend", "it looks at the whole chip"
    if found.card.overlap == "exact":
        assert found.agreement is not None
        assert found.agreement.is_seamless
    check_cuts(found.card, folder / weights.FILE, stack_of(values))


_SLOW = {"linknet": 0.85}
"""Share of the first loss to which 20 steps bring it, where that is not half: it adds what it skips to a narrow decoder, and
gets to 0.65 on efficientnet-b0 and 0.77 on efficientnet-lite0."""


def trained_and_read(
    architecture: str, encoder: str, n_bands: int, steps: int, folder: Path
) -> tuple[ModelCard, NDArray[np.uint16]]:
    """Train a network for some steps, write it and read it again; returns its card and the scene that it learned on."""
    name, arguments, stride = named(architecture, encoder, {})
    card = replace(card_of(name, n_bands, 3, stride, arguments), core_px=2 * max(stride, 32))
    return again_from_file(card, steps, folder, falls_to=_SLOW.get(architecture, 0.5))


def again_from_file(
    card: ModelCard, steps: int, folder: Path, *, falls_to: float = 0.5
) -> tuple[ModelCard, NDArray[np.uint16]]:  # fmt: skip
    """The same for the network of a card of three classes, whose loss is to fall to a share of the first step's.

    Every step shows the same two crops, which a network that learns soon knows by heart. New ones in every step would not do:
    batch statistics of two crops take from them how bright they are, which is what tells their classes apart.
    """
    n_bands, side = len(card.bands), max(card.stride_px, 64)
    values = landscape(4 * side, 4 * side, n_bands)
    labels = np.digitize(values[0], [2200, 2800]).astype(np.uint8)
    crops = Crops(
        pairs=[Pair(values, labels)], gain=1e-4, mean=card.mean, std=card.std, side_px=side, variety=Variety(), seed=0
    )
    losses: list[float] = []
    schedule = Schedule(steps=steps, batch=2, rate=1e-3, memory_steps=2, precision="fp32")
    trained = fit(
        build(card, 0), lambda _, size: crops.batch(0, size), schedule, on_step=lambda _, loss: losses.append(loss)
    )
    assert np.isfinite(losses).all()
    if steps >= STEPS:  # the median: stochastic depth leaves a step now and then without half of the network
        assert np.median(losses[-5:]) < falls_to * losses[0], f"two crops are not learned by heart: {losses}"
    path = folder / weights.FILE
    card = replace(card, weights=save_weights(trained.state_dict(), path, "fp32"))
    again = registry.build(card)
    weights.load_into(again, path, card.weights or "")
    x = torch.randn(1, n_bands, side, side, generator=torch.Generator().manual_seed(0))
    kept, read = trained.state_dict(), again.state_dict()
    assert all(torch.equal(kept[name], read[name]) for name in kept), "bit for bit"
    with torch.inference_mode():  # other memory formats, other kernels
        torch.testing.assert_close(again.eval()(x), trained(x), rtol=1e-3, atol=1e-4)
    return card, values


def check_cuts(card: ModelCard, path: Path, scene: Stack) -> None:
    """The map is the same in one block and in two."""
    assert card.halo_px is not None
    chips = ChipGrid(
        scene=scene.window, core_px=card.core_px, halo_px=card.halo_px, stride_px=card.stride_px,
        blend=card.overlap == "blend",
    )  # fmt: skip
    predictor, whole = Predictor(card, path, CPU, 1), scene.window
    read = framed(scene, chips.read(whole), card.halo_px)
    one = predict_block(predictor, chips, whole, read).made.classes
    left = Window(0, 0, card.core_px, whole.height)
    right = Window(card.core_px, 0, whole.width - card.core_px, whole.height)
    two = [predict_block(predictor, chips, part, read.over(chips.read(part))).made.classes for part in (left, right)]
    assert np.array_equal(one, np.concatenate(two, axis=1))


@pytest.mark.parametrize(
    ("encoder", "arguments", "readout"),
    [("tu-convnext_tiny", {}, "ignore"), (VIT, {}, None), (VIT, {"decoder_readout": "add"}, "add")],
)
def test_dpt_reads_tokens_only_where_an_encoder_has_them(
    encoder: str, arguments: dict[str, str], readout: str | None
) -> None:  # fmt: skip
    name, written, stride = named("dpt", encoder, arguments)
    assert json.loads(written).get("decoder_readout") == readout
    with torch.device("meta"):
        registry.build(card_of(name, 3, 3, stride, written))  # smp warns of tokens that are not there


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "encoder", "n_bands"), SAMPLE)
def test_a_network_learns_is_saved_and_comes_back_bit_for_bit(
    architecture: str, encoder: str, n_bands: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned(architecture, encoder, n_bands, 2, tmp_path, monkeypatch)


@pytest.mark.chaos
@pytest.mark.parametrize(("architecture", "encoder"), EVERY)
def test_every_network_is_trained_read_again_and_tiled(architecture: str, encoder: str, tmp_path: Path) -> None:
    n_bands = (3, 13)[EVERY.index((architecture, encoder)) % 2]
    card, values = trained_and_read(architecture, encoder, n_bands, 2, tmp_path)
    side = 2 * card.core_px
    blended = replace(card, overlap="blend", halo_px=max(card.core_px // 4 // card.stride_px, 1) * card.stride_px)
    check_cuts(blended, tmp_path / weights.FILE, stack_of(np.ascontiguousarray(values[:, :side, :side])))


@pytest.mark.chaos
@pytest.mark.parametrize(("architecture", "encoder"), EVERY)
def test_every_network_does(architecture: str, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_bands = 3 + EVERY.index((architecture, encoder)) % 11
    learned(architecture, encoder, n_bands, STEPS, tmp_path, monkeypatch)
