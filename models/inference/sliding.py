"""Computes a block's answer from its pixels: cuts chips, runs the network and puts its answers together, all on the device.

Stored values go to the device once per block and the result comes back once; nothing waits for the device in between.

What a pixel gets depends on the chips of the scene's grid that see it and on nothing else: not on the block, on the
batch or on which chips were skipped. Knows nothing of files, networks, CRSs or kinds of answers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.stack import Stack
from earthloom.models.inference.transfer import DevicePixels
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import TilingError
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """What the networks say of one block.

    Attributes:
        made: of the answer's kind, over the block's core (`models.inference.answers`).
        n_computed, n_skipped: chips that ran, and chips without a valid pixel to decide.
    """

    made: Any
    n_computed: int
    n_skipped: int


def predict_block(
    predictor: Predictor | Sequence[Predictor], chips: ChipGrid, core: Window, stack: Stack,
    context: Tensor | None = None,
) -> BlockAnswer:  # fmt: skip
    """Answer for `core` from the pixels of `stack`.

    Args:
        predictor: several are an ensemble.
        chips: the scene's grid.
        core: pixels to decide, inside the grid's domain.
        stack: the network's bands in the order of its channels, over a window that contains `chips.read(core)`;
            reflected at the scene's borders by the chips' halo, and not valid beyond.
        context: what `Predictor.context_of` gave for the scene, where the card needs a survey.

    Raises:
        TilingError: if the windows and arrays do not fit each other.
        CardError, EngineError: from the predictor.
    """
    members = [predictor] if isinstance(predictor, Predictor) else list(predictor)
    _check(chips, core, stack)
    every, todo = _cores(chips, core, stack)
    first, *others = (member.answer for member in members)
    canvas = first.canvas(chips, core, members[0].device.kind, others)
    pixels = DevicePixels(stack, members[0].device.kind)
    streams = [_answers(member, chips, todo, stack, pixels, context) for member in members]
    with ExitStack() as closing_all, torch.inference_mode():
        for stream in streams:
            closing_all.callback(stream.close)
        for answers in zip(*streams, strict=True):
            owned = answers[0][0]
            canvas.add(owned.grow(chips.halo_px), owned, [answer for _, answer in answers])
            del answers  # not to be held while the next chip is computed
        made = canvas.finish(stack.valid[core.slices(stack.window)])
    return BlockAnswer(made, len(todo), len(every) - len(todo))


def predict_whole(predictor: Predictor, chips: ChipGrid, stack: Stack, context: Tensor | None = None) -> Any:
    """What exact tiling is measured against: one forward pass over the whole padded scene.

    Args:
        stack: as for `predict_block`, over `chips.extent`.

    Returns:
        The answer for `chips.domain`, of the same kind as `BlockAnswer.made`.
    """
    _check(chips, chips.domain, stack)
    canvas = predictor.answer.canvas(replace(chips, blend=False), chips.domain, predictor.device.kind)
    pixels = DevicePixels(stack, predictor.device.kind)
    gains, biases = predictor.per_channel(stack.gain), predictor.per_channel(stack.bias)

    def fill(whole: Window, out: Tensor) -> None:
        predictor.write_normalised(*pixels.cut(*whole.slices(stack.window)), gains, biases, out)

    def corner(whole: Window) -> tuple[int, int]:
        return whole.row_off, whole.col_off

    answers_of_one = predictor.run([chips.extent], fill, chips.extent.shape, context, corner)
    with closing(answers_of_one) as answers, torch.inference_mode():
        for read, answer in answers:
            canvas.add(read, chips.domain, [answer])
        return canvas.finish(stack.valid[chips.domain.slices(stack.window)])


def _cores(chips: ChipGrid, core: Window, stack: Stack) -> tuple[list[Window], list[Window]]:
    """Cores of all chips that decide `core`, and of those that have a valid pixel to decide."""
    reach_px = chips.halo_px if chips.blend else 0
    every = chips.cores(core)
    return every, [c for c in every if stack.valid[(c.grow(reach_px) & chips.domain).slices(stack.window)].any()]


def _answers(
    predictor: Predictor, chips: ChipGrid, todo: Sequence[Window], stack: Stack, pixels: DevicePixels,
    context: Tensor | None,
) -> Generator[tuple[Window, Tensor], None, None]:  # fmt: skip
    """Each chip's core with what the network says of the whole chip."""
    gains, biases = predictor.per_channel(stack.gain), predictor.per_channel(stack.bias)
    window = stack.window

    def fill(chip_core: Window, out: Tensor) -> None:
        rows, cols = chip_core.grow(chips.halo_px).slices(window)
        predictor.write_normalised(*pixels.cut(rows, cols), gains, biases, out)

    def corner(chip_core: Window) -> tuple[int, int]:
        return chip_core.row_off - chips.halo_px, chip_core.col_off - chips.halo_px

    return predictor.run(todo, fill, (chips.chip_px, chips.chip_px), context, corner)


def _check(chips: ChipGrid, core: Window, stack: Stack) -> None:
    read = stack.window
    if not core or not chips.domain.contains(core):
        raise TilingError(f"the core {core} is empty or not inside the scene {chips.domain}")
    if not read.contains(chips.read(core)):
        raise TilingError(f"chips of {core} read {chips.read(core)} but only {read} was loaded")
    if stack.values.ndim != 3 or stack.values.shape[1:] != read.shape or stack.valid.shape != read.shape:
        raise TilingError(
            f"values {stack.values.shape} and mask {stack.valid.shape} do not cover the read window {read.shape}"
        )
