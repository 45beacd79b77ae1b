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

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.weights import LoadsItself
from earthloom.models.device.resolve import Device
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import (
    BlockMap,
    enhance_block,
    enhance_whole,
    predict_block,
    predict_whole,
)
from earthloom.models.measuring import peak_memory, receptive_field
from earthloom.models.networks.survey import survey
from earthloom.tiling.chips import ChipGrid, reflect_indices
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window

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

    The halo of a segmentation is the smallest multiple of the stride at which the tiled map is seamless: identical where
    the halo covers the support, else within MAX_FLIPS and MAX_CLASS_FLIPS. Without such a halo the card says `blend`.
    The halo of a model that makes an image covers its support, whatever that costs.

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
    structure = Predictor(card, weights_path, on_cpu)
    if isinstance(structure.module, LoadsItself):
        return _measure_from_outside(card, weights_path, exact, values, valid, gain, bias)
    module = _alone(structure, values, valid, gain, bias)
    stride = receptive_field.total_stride(module, len(card.bands), card.stride_px)
    if card.stride_px % stride:
        raise CardError(
            f"{card.label}: the card says stride {card.stride_px} but the network's is {stride}; correct it"
        )
    if min(values.shape[1:]) < 4 * card.stride_px or not valid.any():
        raise CardError(
            f"{card.label}: needs a part of a scene with at least {4 * card.stride_px} px a side and valid pixels to "
            f"measure on, got {values.shape[2]} x {values.shape[1]} px"
        )
    support = receptive_field.support(module, len(card.bands), card.stride_px)
    tried: dict[int, Agreement] = {}
    halo = None
    if support is not None:
        predictor, n_most = Predictor(card, weights_path, exact, 1), -(-support // card.stride_px)
        if card.outputs:
            halo = n_most * card.stride_px
            core = _two_chips(card, values)
            tried[halo] = agreement_at(predictor, halo, core, values, valid, gain, bias)
        else:
            halo = _smallest_halo(predictor, n_most, tried, values, valid, gain, bias)
    if card.outputs and (halo is None or not tried[halo].identical):
        raise CardError(f"{card.label}: makes an image with unbounded support, which no tiling gives without seams")
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


def _measure_from_outside(
    card: ModelCard, weights_path: Path | None, device: Device, values: NDArray[np.generic], valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> Measurement:  # fmt: skip
    """A network that is its own file keeps the halo it was imported with; seams and memory are measured, in fp32."""
    agreement = None
    if card.overlap == "exact" and card.halo_px is not None:
        predictor = Predictor(card, weights_path, device, 1)
        agreement = agreement_at(predictor, card.halo_px, _two_chips(card, values), values, valid, gain, bias)
        if not agreement.is_seamless:
            raise CardError(
                f"{card.label}: with a halo of {card.halo_px} px {agreement.flips:.2%} of the pixels change where chips "
                "meet; import it again with a larger `halo`, or without one, and its chips are blended"
            )
    memory = (("fp32", _bytes_per_px(card, weights_path, device)),)
    return Measurement(
        card=replace(card, memory=memory), stride_px=card.stride_px, support_px=None, agreement=agreement, tried=()
    )


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


def _alone(
    predictor: Predictor, values: NDArray[np.generic], valid: NDArray[np.bool_], gain: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> nn.Module:  # fmt: skip
    """The network as a function of the chip alone: one that needs a survey gets that of these pixels."""
    context = _context(predictor, values, valid, gain, bias)
    if context is None:
        return predictor.module
    module = _Surveyed(predictor.module, context)
    return module.eval()


class _Surveyed(nn.Module):
    def __init__(self, inner: nn.Module, context: torch.Tensor) -> None:
        super().__init__()
        self.inner, self.context = inner, context

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.inner(x, self.context)
        return answer


def _context(
    predictor: Predictor, values: NDArray[np.generic], valid: NDArray[np.bool_], gain: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> torch.Tensor | None:  # fmt: skip
    if not predictor.card.needs_survey:
        return None
    seen = predictor.normalise(values, valid, predictor.per_channel(gain), predictor.per_channel(bias))
    return predictor.context_of(survey([(seen.cpu().numpy(), valid)]))


def agreement_at(
    predictor: Predictor, halo_px: int, core_px: int, values: NDArray[np.generic], valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> Agreement:  # fmt: skip
    """Map a scene in memory (C, h, w) in chips and in one pass, and compare; of images `identical` alone is set."""
    scene = Window(0, 0, values.shape[2], values.shape[1])
    chips = ChipGrid(scene=scene, core_px=core_px, halo_px=halo_px, stride_px=predictor.card.stride_px)
    pixels, mask = framed(values, valid, chips.extent, halo_px)
    if predictor.card.outputs:
        context = _context(predictor, values, valid, gain, bias)
        image, *_ = enhance_block(predictor, chips, scene, chips.extent, pixels, mask, gain, bias, context)
        whole = enhance_whole(predictor, chips, pixels, mask, gain, bias, context)
        known = np.repeat(np.repeat(valid, predictor.card.scale, 0), predictor.card.scale, 1)
        same = bool(torch.equal(image[:, known], whole[:, known]))
        return Agreement(identical=same, flips=0.0 if same else 1.0, class_flips=0.0 if same else 1.0)
    tiled = predict_block(predictor, chips, scene, chips.extent, pixels, mask, gain, bias)
    return compare(tiled, predict_whole(predictor, chips, pixels, mask, gain, bias), len(predictor.card.classes))


def _smallest_halo(
    predictor: Predictor, n_most: int, tried: dict[int, Agreement], values: NDArray[np.generic],
    valid: NDArray[np.bool_], gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> int | None:  # fmt: skip
    """Bisect halos of 0 … `n_most` strides, the last of which covers the support; None if even that leaves seams."""
    stride = predictor.card.stride_px
    core = _two_chips(predictor.card, values)

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


def _two_chips(card: ModelCard, values: NDArray[np.generic]) -> int:
    """A core of which the pixels hold at least two."""
    most_px = min(card.core_px, max(values.shape[1], values.shape[2]) // 2)
    return max(1, int(most_px) // card.stride_px) * card.stride_px


def _blend_halo(card: ModelCard) -> int:
    """An eighth of the core a side: neighbours share a quarter."""
    return max(1, card.core_px // 8 // card.stride_px) * card.stride_px


def _bytes_per_px(card: ModelCard, weights_path: Path | None, device: Device) -> float:
    """Growth of a fresh process's peak memory with the chip's pixels, at the upper end of a few runs.

    What the C library keeps of freed tensors varies by tens of MiB from run to run; a plan must hold for all of them.
    """
    small, large = (-(-side // card.stride_px) * card.stride_px for side in (512, 1536))
    least, most = (
        choose(peak_memory.peak_bytes(card, weights_path, device, side) for _ in range(_RUNS))
        for choose, side in ((min, small), (max, large))
    )
    return math.ceil((most - least) / (large**2 - small**2))


def _flop_per_px(module: nn.Module, card: ModelCard) -> float:
    side = -(-256 // card.stride_px) * card.stride_px
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, len(card.bands), side, side))
    return round(int(counter.get_total_flops()) / side**2, 1)
