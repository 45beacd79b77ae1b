"""Whether bytes are the same however a scene is cut, and how far a tiled map is from one pass over the whole scene."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block, predict_whole
from earthloom.models.measuring.measure import framed
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window
from infra.gpu_check.networks import NETWORKS, predictor_of
from infra.gpu_check.sections import Task, Write
from tests.models.nets import stack_of
from tests.scenes import landscape

_CUTS = ((2, 1, 1), (5, -1, 2))
"""Chips in a pass, step from block to block, cores along a block's side; against one block of all, chip by chip."""


def rows(task: Task, write: Write) -> None:
    """One row for each network and precision."""
    for name in NETWORKS:
        for precision in ("fp32", "bf16"):
            write({"network": name, "precision": precision} | _compared(task, name, precision))


def _compared(task: Task, name: str, precision: str) -> dict[str, Any]:
    first = predictor_of(task, name, precision=precision, batch=1)
    card, side_px, core_px = first.card, task.size.identity_px, task.size.identity_core_px
    pixels = stack_of(landscape(side_px, side_px, len(card.bands)))
    pixels.valid[side_px // 4 : side_px // 3, side_px // 2 :] = False
    chips = ChipGrid(
        scene=pixels.window, core_px=core_px, halo_px=card.halo_px or 0, stride_px=card.stride_px,
        blend=card.overlap == "blend",
    )  # fmt: skip
    stack = framed(pixels, chips.extent, chips.halo_px)
    expected = predict_block(first, chips, chips.domain, stack).made
    differing: list[str] = []
    batches = {}
    for batch, step, n_cores in _CUTS:
        predictor = predictor_of(task, name, precision=precision, batch=batch)
        for block in list(_blocks(chips.domain, n_cores * core_px))[::step]:
            made = predict_block(predictor, chips, block, stack).made
            if not _same(first, made, expected, block, pixels.valid):
                differing.append(f"batch {batch}, block {block}")
        batches[str(batch)] = predictor.batch
    found = {"batch_used": batches, "is_identical": not differing, "differing": differing[:4]}
    if chips.blend:
        return found | {"whole": "chips are cross-faded: there is no whole pass to compare with"}
    whole = predict_whole(first, chips, stack)
    agreement = first.answer.agreement(expected, whole, pixels.valid)
    return found | {"whole_identical": agreement.identical, "whole_flips": agreement.flips}


def _blocks(domain: Window, block_px: int) -> Iterator[Window]:
    for row in range(0, domain.height, block_px):
        for col in range(0, domain.width, block_px):
            yield Window(col, row, block_px, block_px) & domain


def _same(predictor: Predictor, made: Any, expected: Any, block: Window, valid: NDArray[np.bool_]) -> bool:
    """Of a block and the same part of what was made in one go."""
    scale = predictor.card.scale
    part = (
        expected.over(block)
        if hasattr(expected, "over")
        else expected[(slice(None), *block.zoom(scale).slices(_at(scale, valid)))]
    )
    return bool(predictor.answer.agreement(made, part, valid[block.slices(_at(1, valid))]).identical)


def _at(scale: int, valid: NDArray[np.bool_]) -> Window:
    return Window(0, 0, scale * valid.shape[1], scale * valid.shape[0])
