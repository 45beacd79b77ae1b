"""Networks that make an image of an image, and scenes as they see them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.deterministic import steady
from earthloom.models.networks.registry import build
from earthloom.models.networks.survey import Look, Part, Survey
from earthloom.models.zoo.enhance import ENTRIES
from earthloom.tiling.window import Window
from tests.scenes import landscape

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
