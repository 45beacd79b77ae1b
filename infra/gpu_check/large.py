"""A transformer of ViT-L's size on 16-bit values: memory of a chip, and what is seen where its chips meet.

Attention that keeps its matrix would take memory with the fourth power of a chip's side; computed in parts, as PyTorch's
`scaled_dot_product_attention` does (Dao et al. 2022, arXiv:2205.14135), with the second, like all else.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.device.resolve import resolve
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring.measure import framed
from earthloom.models.measuring.peak_memory import peak_bytes
from earthloom.tiling.chips import ChipGrid
from infra.gpu_check.networks import dpt, make
from infra.gpu_check.sections import Row, Task, Write
from tests.models.nets import stack_of
from tests.scenes import landscape

_PATCH_PX = 16
_CHIPS = 3
"""Cores of the scene whose seams are measured, a side."""


def rows(task: Task, write: Write) -> None:
    """Peak memory by side of a chip; then seams, cross-faded and cropped."""
    folder = task.work / "networks" / "dpt-large"
    card = make("dpt-large", folder, task.size, dpt("dpt-large", task.size.vit))
    device = resolve(task.device)
    for side_px in (task.size.core_px // 2, task.size.core_px, 2 * task.size.core_px):
        peak = peak_bytes(card, folder / weights.FILE, device, side_px)
        write({"network": card.name, "encoder": task.size.vit, "chip_px": side_px, "precision": device.precision,
               "peak_bytes": peak, "one_attention_matrix_bytes": 2 * (side_px // _PATCH_PX) ** 4})  # fmt: skip
    predictor = Predictor(card, folder / weights.FILE, device, 1)
    write({"network": card.name, "encoder": task.size.vit} | seams(predictor, card))


def seams(predictor: Predictor, card: ModelCard) -> Row:
    """How much likelier than elsewhere confidence jumps between the last pixel of a core and the first of the next.

    1 is no seam. Beside it the share of pixels whose class is another one where cores have half the side.
    """
    side_px = _CHIPS * card.core_px
    pixels = stack_of(landscape(side_px, side_px, len(card.bands)))
    found: Row = {"halo_px": card.halo_px, "core_px": card.core_px}
    for name, blend in (("blend", True), ("crop", False)):
        chips = ChipGrid(
            scene=pixels.window, core_px=card.core_px, halo_px=card.halo_px or 0, stride_px=card.stride_px, blend=blend
        )
        made = predict_block(predictor, chips, chips.domain, framed(pixels, chips.extent, chips.halo_px)).made
        found[f"{name}_jump"] = round(jump(made.confidence, card.core_px), 3)
        half = replace(chips, core_px=card.core_px // 2)
        other = predict_block(predictor, half, half.domain, framed(pixels, half.extent, half.halo_px)).made
        found[f"{name}_other_class_with_half_the_core"] = round(float((made.classes != other.classes).mean()), 4)
    return found


def jump(confidence: NDArray[np.uint8], core_px: int) -> float:
    """Mean step from a column to the next where cores meet, over the same elsewhere."""
    steps = np.abs(np.diff(confidence.astype(np.int16), axis=1)).mean(axis=0)
    meets = np.zeros(steps.size, np.bool_)
    meets[core_px - 1 :: core_px] = True
    return float(steps[meets].mean() / steps[~meets].mean())
