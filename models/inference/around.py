"""Computes the classes of footprints in a block: cuts the chip around each, runs the network and puts its answers together.

What a footprint gets depends on its chip and on nothing else: not on the block, on the batch or on other footprints. Knows
nothing of files or CRSs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from earthloom.models.device.deterministic import softmax
from earthloom.models.inference.footprints import Footprints, Places, burnt
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import BlockAnswer
from earthloom.models.inference.stack import Stack
from earthloom.models.inference.transfer import DevicePixels
from earthloom.tiling.window import Window


def predict_footprints(
    members: Sequence[Predictor], extent: Window, core: Window, stack: Stack, places: Places
) -> BlockAnswer:  # fmt: skip
    """Classes of the footprints that reach into `core`.

    Args:
        members: several are an ensemble.
        extent: the scene, beyond which no pixel has data of its own.
        core: pixels to decide.
        stack: the network's bands in the order of its channels, over a window that contains the chips of all footprints
            that reach into `core`; reflected at the scene's borders.
        places: places of the scene.

    Raises:
        CardError, EngineError: from the predictors.
    """
    answer = members[0].answer
    assert isinstance(answer, Footprints)
    here = places.touching(core)
    cores = [answer.core(row, col) for row, col in zip(here.rows.tolist(), here.cols.tolist(), strict=True)]
    decided = [number for number, each in enumerate(cores) if _is_known(each, extent, stack, answer.least_px)]
    order = sorted(decided, key=lambda number: (cores[number].row_off, cores[number].col_off, number))
    pixels = DevicePixels(stack, members[0].device.kind)
    probabilities = np.zeros((len(here), answer.n_classes), np.float32)
    with ExitStack() as closing, torch.inference_mode():
        streams: list[Any] = []
        for member in members:
            gains, biases = member.per_channel(stack.gain), member.per_channel(stack.bias)

            def fill(number: int, out: Tensor, by: Predictor = member, g: Tensor = gains, b: Tensor = biases) -> None:
                rows, cols = cores[number].grow(answer.halo_px).slices(stack.window)
                by.write_normalised(*pixels.cut(rows, cols), g, b, out)

            streams.append(member.run(order, fill, (answer.chip_px, answer.chip_px)))
            closing.callback(streams[-1].close)
        for answers in zip(*streams, strict=True):
            parts = [
                _probabilities(member.answer, logits) for member, (_, logits) in zip(members, answers, strict=True)
            ]
            probabilities[answers[0][0]] = (torch.stack(parts).sum(dim=0) / len(parts)).cpu().numpy()
    made = burnt(here, decided, probabilities, core, stack.valid[core.slices(stack.window)])
    return BlockAnswer(made, len(decided), len(here) - len(decided))


def _probabilities(answer: Any, logits: Tensor) -> Tensor:
    """(K,) fp32 from the answer (K, 1, 1) to one chip."""
    wide = logits.float()
    return (wide if answer.gives_probabilities else softmax(wide))[:, 0, 0]


def _is_known(core: Window, extent: Window, stack: Stack, least_px: int) -> bool:
    """Whether a footprint's middle and enough of the ground around it have data."""
    inside = core & extent
    valid = stack.valid[inside.slices(stack.window)]
    row, col = core.row_off + core.height // 2, core.col_off + core.width // 2
    return bool(stack.valid[row - stack.window.row_off, col - stack.window.col_off]) and int(valid.sum()) >= least_px
