"""Measures what a card promises: stride, support, the halo that makes seams vanish, bytes and operations per pixel.

Everything is found on the real weights and real pixels that are given. Knows nothing of files or scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import peak, receptive
from models.card import ModelCard
from models.device import Device
from models.predictor import Predictor
from models.sliding import NODATA, BlockMap, predict_block, predict_whole
from tiling.chips import ChipGrid, reflect_indices
from tiling.errors import CardError
from tiling.window import Window

MAX_FLIPS = 0.0005
"""Share of valid pixels that tiling may change."""
MAX_CLASS_FLIPS = 0.005
"""For each class, pixels that tiling moved into or out of it, as a share of its pixels."""

_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A tiled map against one forward pass over the whole scene."""

    identical: bool
    """Classes and confidence are the same bytes."""
    flips: float
    """Share of valid pixels whose class differs."""
    class_flips: float
    """The worst class's share of pixels touched by a flip."""

    @property
    def is_seamless(self) -> bool:
        return self.identical or (self.flips < MAX_FLIPS and self.class_flips <= MAX_CLASS_FLIPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was found, and the card that says so."""

    card: ModelCard
    stride_px: int
    support_px: int | None
    agreement: Agreement | None
    """At the card's halo; None for a model whose chips must be blended."""
    tried: tuple[tuple[int, Agreement], ...]
    """Every halo that was tried, smallest first."""


def measure(
    card: ModelCard, weights_path: Path | None, device: Device, values: NDArray[np.generic], valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32], *, precisions: tuple[str, ...] = ("fp32", "bf16"),
) -> Measurement:  # fmt: skip
    """Measure a model on real pixels and return its card with the values filled in.

    The halo is the smallest multiple of the stride at which the tiled map is seamless: identical where the halo covers
    the support, else within MAX_FLIPS and MAX_CLASS_FLIPS. Without such a halo the card says `blend`.

    Args:
        card: what is known so far; its stride must be a multiple of the one found.
        weights_path: as for `Predictor`.
        device: where memory is measured; seams are measured in fp32.
        values: (C, h, w) stored values of a part of a scene, at least 4 strides wide and high; 1000 px or so serve well.
        valid: (h, w).
        gain, bias: (C,), physical value = stored * gain + bias.
        precisions: for which bytes per chip pixel are measured.

    Raises:
        CardError: if the card's stride is wrong or the pixels are too few.
    """
    exact = Device(kind=device.kind, precision="fp32", device_class=device.device_class)
    on_cpu = Device(kind="cpu", precision="fp32", device_class="cpu-default")  # only structure is read there
    module = Predictor(card, weights_path, on_cpu).module
    stride = receptive.total_stride(module, len(card.bands), card.stride_px)
    if card.stride_px % stride:
        raise CardError(
            f"{card.label}: the card says stride {card.stride_px} but the network's is {stride}; correct it"
        )
    if min(values.shape[1:]) < 4 * card.stride_px or not valid.any():
        raise CardError(
            f"{card.label}: needs a part of a scene with at least {4 * card.stride_px} px a side and valid pixels to "
            f"measure on, got {values.shape[2]} x {values.shape[1]} px"
        )
    support = receptive.support(module, len(card.bands), card.stride_px)
    tried: dict[int, Agreement] = {}
    halo = None
    if support is not None:
        predictor = Predictor(card, weights_path, exact, 1)
        halo = _smallest_halo(predictor, -(-support // card.stride_px), tried, values, valid, gain, bias)
    memory = {p: _bytes_per_px(card, weights_path, replace(exact, precision=p)) for p in precisions}
    measured = replace(
        card,
        support_px=support,
        halo_px=_blend_halo(card) if halo is None else halo,
        overlap="blend" if halo is None else "exact",
        memory=tuple(sorted(memory.items())),
        flop_per_px=_flop_per_px(module, card),
    )
    return Measurement(
        card=measured, stride_px=stride, support_px=support, agreement=None if halo is None else tried[halo],
        tried=tuple(sorted(tried.items())),
    )  # fmt: skip


def compare(tiled: BlockMap, whole: BlockMap, n_classes: int) -> Agreement:
    """How far two maps of the same pixels agree."""
    known = whole.classes != NODATA
    flipped = (tiled.classes != whole.classes) & known
    worst = 0.0
    for value in range(n_classes):
        size = int((whole.classes == value).sum())
        touched = int((flipped & ((whole.classes == value) | (tiled.classes == value))).sum())
        worst = max(worst, touched / max(size, 1))
    identical = np.array_equal(tiled.classes, whole.classes) and np.array_equal(tiled.confidence, whole.confidence)
    return Agreement(identical=identical, flips=int(flipped.sum()) / max(int(known.sum()), 1), class_flips=worst)


def framed(
    values: NDArray[np.generic], valid: NDArray[np.bool_], read: Window, halo_px: int
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Pixels of `read` from a scene in memory, reflected by `halo_px` at its borders; 0 and invalid beyond."""
    rows = np.asarray(reflect_indices(read.row_off, read.row_end, values.shape[1], halo_px))
    cols = np.asarray(reflect_indices(read.col_off, read.col_end, values.shape[2], halo_px))
    beyond = (rows < 0)[:, None] | (cols < 0)[None, :]
    pixels = values[:, rows[:, None], cols[None, :]]
    return np.where(beyond, 0, pixels).astype(values.dtype), valid[np.ix_(rows, cols)] & ~beyond


def agreement_at(
    predictor: Predictor, halo_px: int, core_px: int, values: NDArray[np.generic], valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> Agreement:  # fmt: skip
    """Map a scene in memory (C, h, w) in chips and in one pass, and compare."""
    scene = Window(0, 0, values.shape[2], values.shape[1])
    chips = ChipGrid(scene=scene, core_px=core_px, halo_px=halo_px, stride_px=predictor.card.stride_px)
    pixels, mask = framed(values, valid, chips.extent, halo_px)
    tiled = predict_block(predictor, chips, scene, chips.extent, pixels, mask, gain, bias)
    return compare(tiled, predict_whole(predictor, chips, pixels, mask, gain, bias), len(predictor.card.classes))


def _smallest_halo(
    predictor: Predictor, n_most: int, tried: dict[int, Agreement], values: NDArray[np.generic],
    valid: NDArray[np.bool_], gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> int | None:  # fmt: skip
    """Bisect halos of 0 … `n_most` strides, the last of which covers the support; None if even that leaves seams."""
    stride = predictor.card.stride_px
    core = max(1, min(predictor.card.core_px, max(values.shape[1:]) // 2) // stride) * stride  # two chips at least

    def is_seamless(n_strides: int) -> bool:
        tried[n_strides * stride] = agreement_at(predictor, n_strides * stride, core, values, valid, gain, bias)
        return tried[n_strides * stride].is_seamless

    if not is_seamless(n_most):
        return None
    low, high = -1, n_most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_seamless(middle) else (middle, high)
    return high * stride


def _blend_halo(card: ModelCard) -> int:
    """An eighth of the core a side: neighbours share a quarter."""
    return max(1, card.core_px // 8 // card.stride_px) * card.stride_px


def _bytes_per_px(card: ModelCard, weights_path: Path | None, device: Device) -> float:
    """Growth of a fresh process's peak memory with the chip's pixels, at the upper end of a few runs.

    What the C library keeps of freed tensors varies by tens of MiB from run to run; a plan must hold for all of them.
    """
    small, large = (-(-side // card.stride_px) * card.stride_px for side in (512, 1536))
    least, most = (
        choose(peak.peak_bytes(card, weights_path, device, side) for _ in range(_RUNS))
        for choose, side in ((min, small), (max, large))
    )
    return math.ceil((most - least) / (large**2 - small**2))


def _flop_per_px(module: nn.Module, card: ModelCard) -> float:
    side = -(-256 // card.stride_px) * card.stride_px
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, len(card.bands), side, side))
    return round(int(counter.get_total_flops()) / side**2, 1)
