"""A trained network becomes a file: safetensors in fp16, half the size, from which every run casts to its own precision."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from earthloom.models.cards.weights import sha256_of
from earthloom.tiling.errors import CardError


def save_half(module: nn.Module, path: Path) -> str:
    """Write the weights, always the same bytes for the same weights, and return the file's sha256.

    Raises:
        CardError: if a weight is not a number, or too large for fp16 (65504).
    """
    halved = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in module.state_dict().items()
    }
    if wrong := [name for name, value in halved.items() if not bool(torch.isfinite(value).all())]:
        raise CardError(
            f"{', '.join(wrong[:3])}: not finite in fp16, whose largest number is 65504; nothing was written"
        )
    save_file(halved, path)
    return sha256_of(path)
