"""Predicted peak memory of one worker: a pure function of the plan. Measured against the real peak in tests/bench."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.card import ModelCard
from tiling.chips import ChipGrid
from tiling.scene import Band
from tiling.window import Window

LANES = 3
"""Blocks in one worker at once: one is read, one computed, one written."""

_BASE_BYTES = 600 * 2**20
"""A worker before its first block: interpreter, torch, GDAL, Ray's client; measured, rounded up."""

_GDAL_CACHE_BYTES = 256 * 2**20
"""GDAL_CACHEMAX as set by tiling.storage_env."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Peak resident bytes of one worker, by part."""

    base_bytes: int
    chips_bytes: int
    """Activations of one batch of chips, from the card's measured bytes per chip pixel."""
    blocks_bytes: int
    """Values, masks and outputs of the blocks in the worker's lanes."""
    cache_bytes: int
    """Decoded source tiles held by GDAL."""

    @property
    def total_bytes(self) -> int:
        return self.base_bytes + self.chips_bytes + self.blocks_bytes + self.cache_bytes


def predict(
    card: ModelCard,
    bands: tuple[Band, ...],
    chips: ChipGrid,
    *,
    block_px: int,
    shard_px: int,
    batch: int,
    precision: str,
    on_gpu: bool,
) -> MemoryPlan:
    """Peak memory of a worker, whatever the size of the scene.

    Args:
        batch: chips per forward pass.
        on_gpu: chips then live in GPU memory and do not count here.
    """
    core = Window(0, 0, block_px, block_px) & chips.scene
    read_px = chips.read(core).size_px
    value_bytes = len(bands) * np.result_type(*(band.dtype for band in bands)).itemsize
    held = read_px * (value_bytes + 1)
    merged = core.size_px * 4 * (len(card.classes) + 1) if chips.blend and not on_gpu else 0
    written = core.size_px * 2 + 256 * min(core.width, shard_px) * 8 * 4  # maps, and a strip of areas with temporaries
    per_px = card.bytes_per_chip_px(precision) or card.bytes_per_chip_px("fp32") or 0.0
    return MemoryPlan(
        base_bytes=_BASE_BYTES,
        chips_bytes=0 if on_gpu else int(batch * chips.chip_px**2 * per_px),
        blocks_bytes=LANES * (held + written) + held + merged,  # one more `held` while the border is reflected
        cache_bytes=min(_GDAL_CACHE_BYTES, LANES * read_px * value_bytes),
    )
