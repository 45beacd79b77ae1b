"""Models for tests: a tiny network in the registry, seeded weights on disk, the real landwater where it was fetched."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.cards.file import write_card
from earthloom.models.cards.weights import sha256_of
from earthloom.models.device.resolve import Device
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.stack import Stack
from earthloom.models.networks import registry
from earthloom.models.zoo import folder_of
from earthloom.models.zoo.landwater import LANDWATER
from earthloom.tiling.window import Window
from tests.scenes import landscape

CPU = Device(kind="cpu", precision="fp32", device_class="cpu-default")
BF16 = Device(kind="cpu", precision="bf16", device_class="cpu-default")


class TinyNet(nn.Module):
    """Stride 2: 3x3 convolution, 2x2 pool, 3x3 convolution, nearest upsampling. Sees 4 px to each side."""

    def __init__(self, *, in_channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(16, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = torch.relu(self.first(x))
        coarse = torch.relu(self.second(nn.functional.max_pool2d(fine, 2)))
        up = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        out: Tensor = self.head(torch.cat([fine, up], dim=1))
        return out


class TinyClassifier(nn.Module):
    """One answer for a chip: a convolution, the mean over the chip, a layer; chip by chip, as each must keep its bits."""

    def __init__(self, *, in_channels: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.head = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.head(torch.relu(self.first(chip[None])).mean((2, 3))) for chip in x])[:, :, None, None]


@pytest.fixture
def tiny_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.REGISTRY, "tiny", TinyNet)


@dataclass(frozen=True)
class Case:
    """A card with its weights on disk."""

    card: ModelCard
    path: Path | None

    def predictor(self, device: Device = CPU, batch: int | None = 1, **changes: object) -> Predictor:
        return Predictor(replace(self.card, **changes), self.path, device, batch)  # type: ignore[arg-type]  # test shorthand


def card_of(architecture: str, n_bands: int, n_classes: int, stride_px: int, arguments: str = "{}") -> ModelCard:
    return ModelCard(
        name="made",
        architecture=architecture,
        arguments=arguments,
        bands=tuple(f"band{i}" for i in range(n_bands)),
        quantities=("reflectance",),
        mean=(0.25,) * n_bands,
        std=(0.1,) * n_bands,
        gsd_m=(1.0, 100.0),
        classes=tuple(ModelClass(value=v, name=f"class_{v}", color=f"#0000{v:02x}") for v in range(n_classes)),
        stride_px=stride_px,
        core_px=stride_px * 8,
    )


def seeded(card: ModelCard, folder: Path) -> Case:
    """The card's network with weights drawn from a fixed seed, batch statistics included, saved and pinned."""
    torch.manual_seed(7)
    module = registry.build(card)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, std=0.2)
    _balance(module.eval(), card)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / weights.FILE
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, path)
    return Case(replace(card, weights=sha256_of(path)), path)


def _balance(module: nn.Module, card: ModelCard) -> None:
    """Shift and scale the last layer so that each class wins somewhere: a map of one class would prove little."""
    raw = torch.from_numpy(landscape(256, 256, len(card.bands)).astype(np.float32))
    with torch.no_grad():
        logits = module(((raw * 1e-4 - card.mean[0]) / card.std[0])[None])
        last = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1]
        assert last.bias is not None
        assert last.out_channels == logits.shape[1]
        factor = 3 / logits.std(dim=(0, 2, 3))
        last.weight *= factor[:, None, None, None]
        last.bias -= logits.mean(dim=(0, 2, 3))
        last.bias *= factor


def landwater(variant: str = "6b") -> Case:
    """The real model from the cache, or skip."""
    card = next(card for card in LANDWATER if card.variant == variant)
    path = folder_of(card) / weights.FILE
    if not path.is_file():
        pytest.skip(f"{card.label} is not in the cache; fetch it once: earthloom models add landwater")
    return Case(card, path)


def copy_landwater(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `cache` the cache, with nothing but both variants of the real model in it; or skip."""
    cases = [landwater("6b"), landwater("4b")]
    monkeypatch.setenv("EARTHLOOM_CACHE", str(cache))
    for case in cases:
        assert case.path is not None
        folder = folder_of(case.card)
        folder.mkdir(parents=True)
        shutil.copy(case.path, folder / weights.FILE)
        write_card(folder, case.card)


def stack_of(values: NDArray[np.generic], valid: NDArray[np.bool_] | None = None, gain: float = 1e-4) -> Stack:
    """A whole scene in memory, (C, h, w) stored values; all of it is valid where no mask is given."""
    n_bands, height, width = values.shape
    return Stack(
        window=Window(0, 0, width, height),
        names=tuple(f"band{i}" for i in range(n_bands)),
        values=values,
        valid=np.ones((height, width), np.bool_) if valid is None else valid,
        gain=np.full(n_bands, gain, np.float32),
        bias=np.zeros(n_bands, np.float32),
    )


class MakesFolder:
    """A pickle of it makes a folder where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)
