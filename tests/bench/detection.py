"""What finding objects costs beside mapping classes with the same network: peaks and boxes instead of the likeliest class."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from earthloom.models.cards.card import ModelCard, ModelClass, ObjectRule
from earthloom.models.cards.file import canonical
from earthloom.models.device.resolve import Device
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring.measure import framed
from earthloom.models.networks import registry
from earthloom.models.training.export import save_weights
from earthloom.tiling.chips import ChipGrid
from tests.models.nets import card_of, stack_of
from tests.scenes import landscape

_SIDE_PX, _CORE_PX, _RUNS = 1024, 512, 5
_FINDER = replace(
    card_of(
        "smp", 5, 1, 8,
        canonical({"arch": "unet", "encoder_name": "tu-resnet18", "encoder_depth": 3, "decoder_channels": [64, 32, 16]}),
    ),
    task="object-detection", objects=ObjectRule(), activation="sigmoid", support_px=71, halo_px=80,
)  # fmt: skip


def detection(folder: Path) -> list[dict[str, Any]]:
    """Objects and classes by the same network, on the CPU, in turn"""
    torch.manual_seed(0)
    card = replace(
        _FINDER, weights=save_weights(registry.build(_FINDER).state_dict(), folder / "weights.safetensors", "fp16")
    )
    cpu = Device(kind="cpu", precision="fp32", device_class="cpu-default")
    predictors = {
        kind: Predictor(each, folder / "weights.safetensors", cpu, 1)
        for kind, each in (("objects", card), ("classes", _as_classes(card)))
    }
    pixels = stack_of(landscape(_SIDE_PX, _SIDE_PX, len(card.bands)))
    chips = ChipGrid(scene=pixels.window, core_px=_CORE_PX, halo_px=card.halo_px or 0, stride_px=card.stride_px)
    stack = framed(pixels, chips.extent, chips.halo_px)
    seconds: dict[str, list[float]] = {kind: [] for kind in predictors}
    n_found = 0
    for _ in range(_RUNS):
        for kind, predictor in predictors.items():
            started = time.process_time()
            made = predict_block(predictor, chips, chips.domain, stack).made
            seconds[kind].append(time.process_time() - started)
            n_found = len(made.found) if kind == "objects" else n_found
    best = {kind: min(times) for kind, times in seconds.items()}
    return [
        {"answer": kind, "CPU s": round(best[kind], 2), "Mpx per CPU s": round(_SIDE_PX**2 / 1e6 / best[kind], 3),
         "of the speed of classes": round(best["classes"] / best[kind], 3), "objects": n_found if kind == "objects" else ""}
        for kind in best
    ]  # fmt: skip


def _as_classes(card: ModelCard) -> ModelCard:
    """The same network and weights, each channel a class."""
    n_channels = card.sizes["classes"]
    classes = tuple(ModelClass(value=n, name=f"class_{n}", color=f"#0000{n:02x}") for n in range(n_channels))
    return replace(card, objects=None, activation="softmax", classes=classes, task="semantic-segmentation")
