"""Measures what a card promises: stride, support, the halo that makes seams vanish, bytes and operations per pixel.

Everything is found on the real weights and real pixels that are given. Knows nothing of files or scenes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.weights import LoadsItself
from earthloom.models.device.resolve import Device
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block, predict_whole
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring import peak_memory, receptive_field
from earthloom.models.networks.survey import Part
from earthloom.tiling.chips import ChipGrid, reflect_indices
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import ceil_div, round_up
from earthloom.tiling.window import Window

PRECISIONS = ("fp32", "bf16")
_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The measured values, and the card with them."""

    card: ModelCard
    stride_px: int
    support_px: int | None
    agreement: Agreement | None
    """Agreement at the card's halo; None for a model whose chips must be cross-faded."""


def measure(
    card: ModelCard, weights_path: Path | None, device: Device, scene: Stack, *,
    precisions: Sequence[str] = PRECISIONS,
) -> Measurement:  # fmt: skip
    """Measure a model on real pixels and return its card with the values filled in.

    The halo is the smallest multiple of the stride at which the tiled map is seamless: identical where the halo covers
    the support, else within the bounds of `models.inference.agreement`. Without such a halo the card says `blend`.
    Where every bit of an answer counts, as of an image, the halo covers the support, whatever that costs, and where a
    pixel's neighbours have a say, as of objects, the distance to those besides.

    Args:
        card: what is known so far; its stride must be a multiple of the one found.
        weights_path: as for `Predictor`.
        device: where memory is measured; seams are measured in fp32.
        scene: the card's bands over a part of a scene, its corner at (0, 0), at least 4 strides wide and high; 1000 px or
            so serve well.
        precisions: for which bytes per chip pixel are measured.

    Raises:
        CardError: if the card's stride is wrong or the pixels are too few.
    """
    exact = Device(kind=device.kind, precision="fp32", device_class=device.device_class)
    on_cpu = Device(kind="cpu", precision="fp32", device_class="cpu-default")  # only structure is read there
    structure = Predictor(card, weights_path, on_cpu)
    if isinstance(structure.module, LoadsItself):
        return _measure_from_outside(card, weights_path, exact, scene, structure.module.only_px)
    if card.labels:
        return _measure_labels(card, weights_path, exact, scene, precisions)
    module = _alone(structure, scene)
    stride = receptive_field.total_stride(module, len(card.bands), card.stride_px)
    if card.stride_px % stride:
        raise CardError(
            f"{card.label}: the card says stride {card.stride_px} but the network's is {stride}; correct it"
        )
    if min(scene.window.shape) < 4 * card.stride_px or not scene.valid.any():
        raise CardError(
            f"{card.label}: needs a part of a scene with at least {4 * card.stride_px} px a side and valid pixels to "
            f"measure on, got {scene.window.width} x {scene.window.height} px"
        )
    support = receptive_field.support(module, len(card.bands), card.stride_px)
    tried: dict[int, Agreement] = {}
    halo = None
    if support is not None:
        predictor = Predictor(card, weights_path, exact, 1)
        n_most = ceil_div(support + structure.answer.reach_px, card.stride_px)
        if structure.answer.exact_only:
            halo = n_most * card.stride_px
            tried[halo] = agreement_at(predictor, halo, _two_chips(card, scene), scene)
        else:
            halo = _smallest_halo(predictor, n_most, tried, scene)
    if structure.answer.exact_only and (halo is None or not tried[halo].identical):
        raise CardError(
            f"{card.label}: its {card.kind} has unbounded support, which no tiling gives without seams; choose a network "
            "without squeeze-excite, attention and pooling over the whole chip"
        )
    measured = replace(
        card,
        support_px=support,
        halo_px=_blend_halo(card) if halo is None else halo,
        overlap="blend" if halo is None else "exact",
        memory=_memory(card, weights_path, exact, precisions),
        flop_per_px=_flop_per_px(module, card),
    )
    return Measurement(
        card=measured, stride_px=stride, support_px=support, agreement=None if halo is None else tried[halo],
    )  # fmt: skip


def _measure_from_outside(
    card: ModelCard, weights_path: Path | None, device: Device, scene: Stack, only_px: int | None
) -> Measurement:
    """A network that is its own file keeps the halo it was imported with; seams and memory are measured, in fp32.

    One that takes chips of `only_px` alone is never seen to answer the whole, so its seams cannot be measured.
    """
    agreement = None
    if card.overlap == "exact" and card.halo_px is not None and only_px is None:
        predictor = Predictor(card, weights_path, device, 1)
        agreement = agreement_at(predictor, card.halo_px, _two_chips(card, scene), scene)
        if not agreement.is_seamless:
            raise CardError(
                f"{card.label}: with a halo of {card.halo_px} px {agreement.flips:.2%} of the pixels change where chips "
                "meet; import it again with a larger `halo`, or without one, and its chips are blended"
            )
    return Measurement(
        card=with_memory(card, weights_path, device), stride_px=card.stride_px, support_px=None, agreement=agreement
    )


def _measure_labels(
    card: ModelCard, weights_path: Path | None, device: Device, scene: Stack, precisions: Sequence[str]
) -> Measurement:
    """A classifier sees each chip by itself, so core and halo are the card's own; that blocks of one chip each say what one
    block of all says is measured, and memory."""
    card = replace(card, halo_px=card.halo_px or 0)
    predictor = Predictor(card, weights_path, device, 1)
    halo = card.halo_px or 0
    chips = ChipGrid(scene=scene.window, core_px=card.core_px, halo_px=halo, stride_px=card.stride_px)
    stack = framed(scene, chips.extent, halo)
    whole = predict_block(predictor, chips, scene.window, stack).made
    found = [
        predictor.answer.agreement(predict_block(predictor, chips, core, stack).made, whole.over(core), scene.valid)
        for core in (chip & scene.window for chip in chips.cores(scene.window))
    ]
    agreement = Agreement(
        identical=all(each.identical for each in found), flips=float(np.mean([each.flips for each in found])),
        class_flips=max(each.class_flips for each in found),
    )  # fmt: skip
    memory = _memory(card, weights_path, device, precisions)
    measured = replace(card, memory=memory, flop_per_px=_flop_per_px(predictor.module, card))
    return Measurement(card=measured, stride_px=card.stride_px, support_px=None, agreement=agreement)


def framed(scene: Stack, read: Window, halo_px: int) -> Stack:
    """Pixels of `read` from a scene in memory, reflected by `halo_px` at its borders; 0 and invalid beyond."""
    rows = np.asarray(reflect_indices(read.row_off, read.row_end, scene.window.height, halo_px))
    cols = np.asarray(reflect_indices(read.col_off, read.col_end, scene.window.width, halo_px))
    beyond = (rows < 0)[:, None] | (cols < 0)[None, :]
    stored = np.asarray(scene.values)
    return replace(
        scene,
        window=read,
        values=np.where(beyond, 0, stored[:, rows[:, None], cols[None, :]]).astype(stored.dtype),
        valid=scene.valid[np.ix_(rows, cols)] & ~beyond,
    )


def _alone(predictor: Predictor, scene: Stack) -> nn.Module:
    """The network as a function of the chip alone: one that needs a survey gets that of these pixels."""
    context = _context(predictor, scene)
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


def _context(predictor: Predictor, scene: Stack) -> torch.Tensor | None:
    if not predictor.card.needs_survey:
        return None
    seen = predictor.normalise(scene)
    whole = Part(scene.window, seen.cpu().numpy(), scene.valid)
    return predictor.context_of(predictor.surveying.look(scene.window, [whole]))


def agreement_at(predictor: Predictor, halo_px: int, core_px: int, scene: Stack) -> Agreement:
    """Answer for a scene in memory, its corner at (0, 0), in chips and in one pass, and compare."""
    chips = ChipGrid(scene=scene.window, core_px=core_px, halo_px=halo_px, stride_px=predictor.card.stride_px)
    pixels, context = framed(scene, chips.extent, halo_px), _context(predictor, scene)
    tiled = predict_block(predictor, chips, scene.window, pixels, context).made
    return predictor.answer.agreement(tiled, predict_whole(predictor, chips, pixels, context), scene.valid)


def _smallest_halo(predictor: Predictor, n_most: int, tried: dict[int, Agreement], scene: Stack) -> int | None:
    """The smallest halo that leaves no seams; None if even `n_most` strides, which cover the support, leave some.

    A chip costs by the square of its halo, and most networks need a small part of what their support would take: halos
    are doubled from below until one is enough, and bisected from there.
    """
    stride = predictor.card.stride_px
    core = _two_chips(predictor.card, scene)

    def is_seamless(n_strides: int) -> bool:
        tried[n_strides * stride] = agreement_at(predictor, n_strides * stride, core, scene)
        return tried[n_strides * stride].is_seamless

    low, high = -1, min(1, n_most)
    while not is_seamless(high):
        if high == n_most:
            return None
        low, high = high, min(2 * high, n_most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_seamless(middle) else (middle, high)
    return high * stride


def _two_chips(card: ModelCard, scene: Stack) -> int:
    """A core of which the pixels hold at least two."""
    most_px = min(card.core_px, max(scene.window.shape) // 2)
    return max(1, int(most_px) // card.stride_px) * card.stride_px


def _blend_halo(card: ModelCard) -> int:
    """An eighth of the core a side: neighbours share a quarter."""
    return max(1, card.core_px // 8 // card.stride_px) * card.stride_px


def with_memory(card: ModelCard, weights_path: Path | None, device: Device) -> ModelCard:
    """The card with its bytes per chip pixel in each precision, for which no scene is needed.

    Args:
        card: one whose chips are known.
        weights_path: as for `Predictor`.
        device: where they are measured.

    Raises:
        CardError: if the weights cannot be loaded.
        EngineError: if a process that measures fails.
    """
    module = Predictor(card, weights_path, replace(device, precision="fp32"), 1).module
    if not isinstance(module, LoadsItself):
        return replace(card, memory=_memory(card, weights_path, device, PRECISIONS))
    return replace(
        card, memory=_memory(card, weights_path, device, ("fp32",), module.only_px)
    )  # it computes in no other


def _memory(
    card: ModelCard, weights_path: Path | None, device: Device, precisions: Sequence[str], only_px: int | None = None
) -> tuple[tuple[str, float], ...]:
    return tuple(
        (name, _bytes_per_px(card, weights_path, replace(device, precision=name), only_px))
        for name in sorted(precisions)
    )


def _bytes_per_px(card: ModelCard, weights_path: Path | None, device: Device, only_px: int | None) -> float:
    """Growth of a fresh process's peak memory with the chip's pixels, at the upper end of a few runs.

    What the C library keeps of freed tensors varies by tens of MiB from run to run; a plan must hold for all of them. A
    network that takes chips of one size is held to a process that computes none: what its first chip loads counts too.
    """
    small, large = (round_up(side, card.stride_px) for side in (512, 1536))
    if only_px is not None:
        small, large = 0, only_px
    least, most = (
        choose(peak_memory.peak_bytes(card, weights_path, device, side) for _ in range(_RUNS))
        for choose, side in ((min, small), (max, large))
    )
    return math.ceil((most - least) / (large**2 - small**2))


def _flop_per_px(module: nn.Module, card: ModelCard) -> float:
    side = card.core_px + 2 * (card.halo_px or 0) if card.labels else round_up(256, card.stride_px)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, len(card.bands), side, side))
    return round(int(counter.get_total_flops()) / side**2, 1)
