"""A block's pixels become classes: cut chips, run the network, crop or cross-fade, quantise, all on the device.

What a pixel gets depends on the chips of the scene's grid that see it and on nothing else: not on the block, on the
batch or on which chips were skipped. Knows nothing of files, networks or CRSs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.predictor import Predictor
from tiling.chips import ChipGrid
from tiling.errors import TilingError
from tiling.window import Window

NODATA = 255
CONFIDENCE_SCALE = 250
"""Stored confidence = round(probability of the winning class * 250)."""


@dataclass(frozen=True, slots=True)
class BlockMap:
    """The map of one block.

    Attributes:
        classes: (h, w) uint8, the likeliest class, the lowest one on a tie; 255 where not valid.
        confidence: (h, w) uint8, its probability * 250; 255 where not valid.
        n_computed, n_skipped: chips that ran, and chips without a valid pixel to decide.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    n_computed: int
    n_skipped: int


def predict_block(
    predictor: Predictor, chips: ChipGrid, core: Window, read: Window, values: NDArray[np.generic],
    valid: NDArray[np.bool_], gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> BlockMap:  # fmt: skip
    """Map `core` from the pixels of `read`.

    Args:
        chips: the scene's grid.
        core: pixels to decide, inside the scene.
        read: what `values` covers; contains `chips.read(core)`.
        values: (C, read.height, read.width) stored values, reflected at the scene's borders by the chips' halo.
        valid: (read.height, read.width), false at nodata and beyond the reflected border.
        gain, bias: (C,), physical value = stored * gain + bias.

    Raises:
        TilingError: if the windows and arrays do not fit each other.
        CardError, EngineError: from the predictor.
    """
    _check(chips, core, read, values, valid)
    reach_px = chips.halo_px if chips.blend else 0
    every = chips.cores(core)
    todo = [c for c in every if valid[(c.grow(reach_px) & chips.scene).slices(read)].any()]
    gains, biases = predictor.per_channel(gain), predictor.per_channel(bias)

    def fill(chip_core: Window, out: Tensor) -> None:
        rows, cols = chip_core.grow(chips.halo_px).slices(read)
        out.copy_(predictor.normalise(values[:, rows, cols], valid[rows, cols], gains, biases))

    answers = predictor.run(todo, fill, (chips.chip_px, chips.chip_px))
    classes = np.full(core.shape, NODATA, np.uint8)
    confidence = np.full(core.shape, NODATA, np.uint8)
    with torch.inference_mode():
        if chips.blend:
            fade = _Fade(predictor, chips, core)
            for chip_core, logits in answers:
                fade.add(chip_core, logits)
            classes, confidence = fade.labels()
        else:
            for chip_core, logits in answers:
                part = chip_core & core
                crop = logits[(slice(None), *part.slices(chip_core.grow(chips.halo_px)))]
                where = part.slices(core)
                classes[where], confidence[where] = _labels(predictor.probabilities(crop))
    unknown = ~valid[core.slices(read)]
    classes[unknown] = NODATA
    confidence[unknown] = NODATA
    return BlockMap(classes, confidence, len(todo), len(every) - len(todo))


def predict_whole(
    predictor: Predictor, chips: ChipGrid, values: NDArray[np.generic], valid: NDArray[np.bool_],
    gain: NDArray[np.float32], bias: NDArray[np.float32],
) -> BlockMap:  # fmt: skip
    """What exact tiling is measured against: one forward pass over the whole padded scene, `chips.extent`."""
    _check(chips, chips.scene, chips.extent, values, valid)
    gains, biases = predictor.per_channel(gain), predictor.per_channel(bias)

    def fill(_: Window, out: Tensor) -> None:
        out.copy_(predictor.normalise(values, valid, gains, biases))

    ((_, logits),) = predictor.run([chips.extent], fill, chips.extent.shape)
    inside = chips.scene.slices(chips.extent)
    with torch.inference_mode():
        classes, confidence = _labels(predictor.probabilities(logits[(slice(None), *inside)]))
    classes[~valid[inside]] = NODATA
    confidence[~valid[inside]] = NODATA
    return BlockMap(classes, confidence, 1, 0)


class _Fade:
    """Cross-fades chips over `core`: each fades out over the 2h that it shares with its neighbour, by half a cosine.

    A chip outside the scene does not exist, so at a scene's edge a weight falls to one half and no further.
    """

    def __init__(self, predictor: Predictor, chips: ChipGrid, core: Window) -> None:
        self._predictor, self._halo_px, self._core = predictor, chips.halo_px, core
        kind = predictor.device.kind
        steps = (np.arange(2 * chips.halo_px) + 0.5) / (2 * chips.halo_px)
        rise = (1 - np.cos(np.pi * steps)) / 2
        ramp = np.concatenate([rise, np.ones(chips.chip_px - 2 * rise.size), rise[::-1]]).astype(np.float32)
        side = torch.from_numpy(ramp).to(kind)
        self._weight = side[:, None] * side[None, :]
        self._sum = torch.zeros((len(predictor.card.classes), *core.shape), device=kind)
        self._weights = torch.zeros(core.shape, device=kind)

    def add(self, chip_core: Window, logits: Tensor) -> None:
        chip = chip_core.grow(self._halo_px)
        part = chip & self._core
        inside, where = part.slices(chip), part.slices(self._core)
        weight = self._weight[inside]
        self._sum[(slice(None), *where)] += self._predictor.probabilities(logits[(slice(None), *inside)]) * weight
        self._weights[where] += weight

    def labels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        untouched = self._weights == 0  # all its chips were skipped: nothing there is valid
        return _labels(self._sum.div_(self._weights.masked_fill_(untouched, 1.0)))


def _labels(probabilities: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Classes and quantised confidence (h, w) from (K, h, w); `max` gives the first of equal channels."""
    best, index = probabilities.max(dim=0)
    quantised = (best * CONFIDENCE_SCALE).round_().clamp_(0, CONFIDENCE_SCALE).to(torch.uint8)
    return index.to(torch.uint8).cpu().numpy(), quantised.cpu().numpy()


def _check(chips: ChipGrid, core: Window, read: Window, values: NDArray[np.generic], valid: NDArray[np.bool_]) -> None:
    if not core or not chips.scene.contains(core):
        raise TilingError(f"the core {core} is empty or not inside the scene {chips.scene}")
    if not read.contains(chips.read(core)):
        raise TilingError(f"chips of {core} read {chips.read(core)} but only {read} was loaded")
    if values.ndim != 3 or values.shape[1:] != read.shape or valid.shape != read.shape:
        raise TilingError(f"values {values.shape} and mask {valid.shape} do not cover the read window {read.shape}")
