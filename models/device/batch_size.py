"""Chooses how many chips a GPU takes in one forward pass: a few sizes are timed once, and the machine keeps the answer.

Only speed depends on it, because a size that changes a chip's bits is not timed but refused. On a CPU chips are computed
side by side, one in each thread, so nothing is measured there. Knows nothing of networks: it is given a function that times
a pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.resolve import Device
from earthloom.tiling.cache import cache_folder
from earthloom.tiling.storage.atomic import written_aside

_LARGEST = 64
_GAIN = 0.97
"""A batch twice as large must take less than this share of the time per chip: otherwise it only costs memory."""


def best_batch(
    card: ModelCard,
    device: Device,
    chip_px: int,
    limit_bytes: int,
    seconds_of: Callable[[int], float | None],
    *,
    compiled: bool = False,
    flips: bool = False,
    cache: Path | None = None,
) -> int:
    """Chips per forward pass, a power of two: the first that twice as many do not beat.

    Args:
        card: its measured bytes per chip pixel say which sizes are tried; without them, memory itself says.
        chip_px: side of a chip.
        limit_bytes: free memory of the device.
        compiled, flips: how the network runs.
        seconds_of: times a pass of so many chips; None when memory did not suffice, or a chip's bits were other ones.
        cache: folder of the machine's answers, default that of fetched models. What cannot be read there is measured
            anew, and what cannot be written is measured again next time.
    """
    asked = _question(card, device, chip_px) | {"compiled": compiled, "flips": flips}
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
    path = (cache or cache_folder()) / "batches" / f"{name}.json"
    sizes = list(_sizes(card, device, chip_px, limit_bytes))
    if (known := _read(path, asked)) is not None:
        return max(size for size in sizes if size <= max(known, 1))
    best, best_s = 1, float("inf")
    for size in sizes:
        seconds = seconds_of(size)
        if seconds is None or seconds / size >= _GAIN * best_s:
            break
        best, best_s = size, seconds / size
    with suppress(OSError), written_aside(path, json.dumps({"asked": asked, "batch": best}).encode()) as aside:
        aside.replace(path)
    return best


def _sizes(card: ModelCard, device: Device, chip_px: int, limit_bytes: int) -> Iterator[int]:
    """1 and the powers of two that fit by the card's measurement."""
    per_px = card.bytes_per_chip_px(device.precision) or card.bytes_per_chip_px("fp32") or 0.0
    size = 1
    while size == 1 or (size <= _LARGEST and size * chip_px**2 * per_px <= limit_bytes):
        yield size
        size *= 2


def _question(card: ModelCard, device: Device, chip_px: int) -> dict[str, str | int]:
    """Everything that the answer depends on."""
    return {
        "card": card.digest(),
        "chip_px": chip_px,
        "device": torch.cuda.get_device_name() if device.kind == "cuda" else device.device_class,
        "precision": device.precision,
        "class": device.device_class,
        "torch": torch.__version__,
    }


def _read(path: Path, asked: dict[str, str | int]) -> int | None:
    try:
        kept = json.loads(path.read_bytes())
        if kept["asked"] == asked and type(kept["batch"]) is int:
            return int(kept["batch"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None
