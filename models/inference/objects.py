"""Finds objects in what a network says: the pixels where a centre is likeliest, and the box that it gives for each.

Objects as points (Zhou, Wang, Krähenbühl 2019, arXiv:1904.07850) are dense prediction and peaks, so that exact tiling holds:
a pixel is an object's centre if its heat is the largest within a radius, and of equals the first by row, then by column. A
chip that reads the network's support and that radius decides this for its core as the whole scene would; an object belongs
to the block whose core holds its centre. Boxes that overlap are merged over the whole scene (`models.inference.boxes`).
Knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from earthloom.models.cards.card import BOX_CHANNELS, ModelCard, ObjectRule
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.answer_kind import AnswerKind, hidden_in
from earthloom.models.inference.boxes import OBJECT, Found, in_order
from earthloom.models.inference.transfer import download
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.window import Window

_LEAST_SIDE_PX, _MOST_PX = 1.0, 4096.0
"""A box is never smaller or larger, nor its centre farther from its pixel, whatever the network says."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockObjects:
    """The objects of a window.

    Attributes:
        window: in pixels of the grid that the objects lie on.
        heat: (h, w) uint8, the probability of a centre of any class, the highest one, * 250; 255 where not valid.
        found: objects whose centre lies in the window and is valid, by row, column and class, not merged.
    """

    window: Window
    heat: NDArray[np.uint8]
    found: Found

    def over(self, window: Window) -> BlockObjects:
        """This answer on a window inside its own."""
        if window == self.window:
            return self
        return BlockObjects(window, self.heat[window.slices(self.window)], within(self.found, window))

    def hide(self, hidden: NDArray[np.bool_]) -> BlockObjects:
        """The answer without the objects whose centre is `hidden`, (h, w), and with nodata there."""
        rows, cols = self.found["row"] - self.window.row_off, self.found["col"] - self.window.col_off
        return replace(self, heat=hidden_in(self.heat, hidden), found=self.found[~hidden[rows, cols]])


def within(found: Found, window: Window) -> Found:
    """The objects whose centre pixel lies in a window."""
    rows, cols = found["row"], found["col"]
    inside = (rows >= window.row_off) & (rows < window.row_end) & (cols >= window.col_off) & (cols < window.col_end)
    return found[inside]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects(AnswerKind[BlockObjects]):
    """A logit per class for "here is a centre", and width, height and the centre's offset in columns and rows."""

    label: str
    n_classes: int
    rule: ObjectRule

    does: ClassVar[str] = "finds objects"
    odd: ClassVar[Mapping[int, int]] = {3: -2, 2: -1}  # an offset to the left is one to the right in the mirror
    stored_bytes: ClassVar[int] = 1

    @classmethod
    def of(cls, card: ModelCard) -> Objects:
        """What a detector says."""
        assert card.objects is not None
        return cls(label=card.label, n_classes=len(card.classes), rule=card.objects)

    @property
    def values_per_px(self) -> int:
        return self.n_classes + BOX_CHANNELS

    def woven_bytes(self, *, blend: bool) -> int:
        return 0

    def passed_bytes(self, *, is_first: bool) -> int:
        return 0

    @property
    def reach_px(self) -> int:
        return self.rule.radius_px

    def shapes(self, chips: Sequence[int]) -> list[tuple[int, ...]]:
        """(N, K + 4, h, w)."""
        n_chips, _, height, width = chips
        return [(n_chips, self.values_per_px, height, width)]

    def mismatch(self, wanted: tuple[int, ...]) -> str:
        return (
            f"objects of {self.n_classes} classes are {wanted}: a channel for each class, width, height and two of the "
            "offset, at the size of the input"
        )

    def canvas(self, chips: ChipGrid, core: Window, device: str, others: Sequence[Objects] = ()) -> _Peaks:
        self.refuse_mixing(chips, others)
        return _Peaks(self, chips, core, device)

    def agreement(self, tiled: BlockObjects, whole: BlockObjects, valid: NDArray[np.bool_]) -> Agreement:
        same = np.array_equal(tiled.heat, whole.heat) and tiled.found.tobytes() == whole.found.tobytes()
        return Agreement(identical=same, flips=0.0 if same else 1.0, class_flips=0.0 if same else 1.0)


class _Peaks:
    """A pixel is a centre, or none, by the chip whose core it lies in. Pixels beyond the scene are no rivals."""

    def __init__(self, answer: Objects, chips: ChipGrid, core: Window, device: str) -> None:
        self._answer, self._core, self._scene = answer, core, chips.scene
        self._heat = torch.full(core.shape, NODATA, dtype=torch.uint8, device=device)
        steps = [math.log((step - 0.5) / (CONFIDENCE_STEPS - step + 0.5)) for step in range(1, CONFIDENCE_STEPS + 1)]
        self._steps = torch.tensor(steps, dtype=torch.float32, device=device)
        self._found: list[Found] = []

    def add(self, read: Window, owned: Window, answers: Sequence[Tensor]) -> None:
        (answer,) = answers
        rule, n_classes = self._answer.rule, self._answer.n_classes
        part = owned & self._core
        around = part.grow(rule.radius_px) & self._scene
        logits = answer[(slice(n_classes), *around.slices(read))].float()
        inside = (slice(None), *part.slices(around))
        # a logit becomes its step by comparing, so that no function rounds by a pixel's place
        heat = torch.bucketize(logits[inside].amax(dim=0), self._steps, out_int32=True, right=True)
        self._heat[part.slices(self._core)] = heat.to(torch.uint8)
        places = [_peaks(each, inside[1:], rule) for each in logits]
        boxes = answer[(slice(n_classes, None), *part.slices(read))]
        for value, (rows, cols) in enumerate(places):
            if rows.numel():
                found = _objects(logits[value][inside[1:]], boxes, rows, cols, rule)
                found["row"] += part.row_off
                found["col"] += part.col_off
                found["class"] = value
                self._found.append(found)

    def finish(self, valid: NDArray[np.bool_]) -> BlockObjects:
        heat = download(self._heat).astype(np.uint8, copy=False)
        np.copyto(heat, NODATA, where=~valid)
        found = np.concatenate([np.zeros(0, OBJECT), *self._found])
        known = valid[found["row"] - self._core.row_off, found["col"] - self._core.col_off]
        return BlockObjects(self._core, heat, in_order(found[known]))


def _peaks(logits: Tensor, inside: tuple[slice, slice], rule: ObjectRule) -> tuple[Tensor, Tensor]:
    """Rows and columns, within `inside`, of the centres.

    Args:
        logits: (h, w) fp32 of one class, over all pixels that have a say.
    """
    radius = rule.radius_px
    rows_best = max_pool2d(logits[None, None], (2 * radius + 1, 1), 1, (radius, 0))
    best = max_pool2d(rows_best, (1, 2 * radius + 1), 1, (0, radius))[0, 0]
    least = math.log(rule.threshold / (1 - rule.threshold))
    own = logits[inside]
    rows, cols = ((own == best[inside]) & (own >= least)).nonzero(as_tuple=True)
    if not rows.numel():
        return rows, cols
    wide = pad(logits, (radius,) * 4, value=-math.inf)
    above, left = rows + inside[0].start, cols + inside[1].start  # of the window around each, in `wide`
    value = own[rows, cols]
    is_first = torch.ones_like(rows, dtype=torch.bool)
    for down in range(radius + 1):
        for right in range(2 * radius + 1 if down < radius else radius):
            is_first &= wide[above + down, left + right] != value
    return rows[is_first], cols[is_first]


def _objects(logits: Tensor, boxes: Tensor, rows: Tensor, cols: Tensor, rule: ObjectRule) -> Found:
    """The objects at given centres; rows and columns count from the corner of `logits` (h, w) and `boxes` (4, h, w)."""
    found = np.zeros(len(rows), OBJECT)
    width, height, dx, dy = np.nan_to_num(boxes[:, rows, cols].float().cpu().numpy())
    found["row"], found["col"] = rows.cpu().numpy(), cols.cpu().numpy()
    found["logit"] = logits[rows, cols].cpu().numpy()
    for name, value in (("dx", dx), ("dy", dy)):
        found[name] = np.clip(value, -_MOST_PX, _MOST_PX)
    for name, value in (("width", width), ("height", height)):
        found[name] = np.clip(np.clip(value, 0, _MOST_PX) * np.float32(rule.size_px), _LEAST_SIDE_PX, _MOST_PX)
    return found
