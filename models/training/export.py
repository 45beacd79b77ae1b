"""Writes trained weights as safetensors, in fp32 or in fp16, which is half the size; a run casts them to its precision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from earthloom.models.cards.weights import sha256_of
from earthloom.tiling.errors import CardError


def save_weights(state: Mapping[str, Tensor], path: Path, precision: str) -> str:
    """Write weights, always the same bytes for the same weights, and return the file's sha256.

    Args:
        state: name -> tensor.
        precision: `fp32`, which keeps every bit, or `fp16`.

    Raises:
        CardError: if a weight is not a number, or too large for fp16 (65504).
    """
    dtype = torch.float16 if precision == "fp16" else torch.float32
    kept = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous() for name, value in state.items()
    }
    if wrong := [name for name, value in kept.items() if not bool(torch.isfinite(value).all())]:
        limit = ", whose largest number is 65504" if precision == "fp16" else ""
        raise CardError(f"{', '.join(wrong[:3])}: not finite in {precision}{limit}; nothing was written")
    save_file(kept, path)
    return sha256_of(path)
