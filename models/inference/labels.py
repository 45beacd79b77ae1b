"""Labels: one class for each chip of the scene's grid, with the probability of every class.

The network sees a chip by itself and gives one vector for it, so that a label depends on that chip and on nothing else. The
result has one pixel for each chip's core. Too few valid pixels in a core are no ground for a class: it becomes nodata, by the
card's rule, and so does one of which a mask leaves too little. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.deterministic import softmax
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.answer_kind import AnswerKind, hidden_in
from earthloom.models.inference.transfer import download
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, eq=False)
class BlockLabels:
    """The labels of a window.

    Attributes:
        window: in pixels of the network's input; its corner is that of a chip's core.
        core_px: side of a core there.
        least_px: valid pixels that a core needs.
        classes: (rows, columns) uint8, one per core: the likeliest class, the lowest one on a tie; 255 where undecided.
        confidence: (rows, columns) uint8, its probability * 250; 255 where undecided.
        probabilities: (K, rows, columns) fp32; without meaning where undecided.
    """

    window: Window
    core_px: int
    least_px: int
    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    probabilities: NDArray[np.float32]

    def over(self, window: Window) -> BlockLabels:
        """This answer on a window inside its own, whose corner is that of a core too."""
        if window == self.window:
            return self
        side, own = self.core_px, self.window
        first_row, first_col = (window.row_off - own.row_off) // side, (window.col_off - own.col_off) // side
        rows = slice(first_row, first_row - (-window.height // side))
        cols = slice(first_col, first_col - (-window.width // side))
        return replace(
            self, window=window, classes=self.classes[rows, cols], confidence=self.confidence[rows, cols],
            probabilities=self.probabilities[:, rows, cols],
        )  # fmt: skip

    def hide(self, hidden: NDArray[np.bool_]) -> BlockLabels:
        """The same, undecided where too few pixels of a core are left. `hidden` is (h, w) in pixels of the input, and says
        of all pixels without data too."""
        undecided = n_valid(~hidden, self.core_px) < self.least_px
        return replace(
            self, classes=hidden_in(self.classes, undecided), confidence=hidden_in(self.confidence, undecided)
        )


def n_valid(valid: NDArray[np.bool_], core_px: int) -> NDArray[np.int64]:
    """Valid pixels of each core of a window (h, w) that begins with one; what lies beyond the scene is not valid."""
    rows, cols = (range(0, side, core_px) for side in valid.shape)
    return np.add.reduceat(np.add.reduceat(valid.astype(np.int64), rows, axis=0), cols, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels(AnswerKind[BlockLabels]):
    """A logit, or a probability, of each class for a whole chip."""

    label: str
    n_classes: int
    gives_probabilities: bool
    pixel_px: int
    least_px: int
    """Valid pixels that a chip's core needs to be decided."""

    does: ClassVar[str] = "labels whole chips"
    averages: ClassVar[bool] = True

    @classmethod
    def of(cls, card: ModelCard) -> Labels:
        """What a classifier says."""
        assert card.labels is not None
        return cls(
            label=card.label, n_classes=len(card.classes), gives_probabilities=card.activation == "none",
            pixel_px=card.core_px, least_px=card.labels.least_px(card.core_px),
        )  # fmt: skip

    @property
    def values_per_px(self) -> int:
        """One at most: there are as many as classes for a whole chip."""
        return 1

    def woven_bytes(self, *, blend: bool) -> int:
        return 0

    def passed_bytes(self, *, is_first: bool) -> int:
        return 0

    @property
    def table_bytes(self) -> int:
        """Numbers and text of a row, a polygon of five corners, and the file that is made of them; measured."""
        return 1600 + 40 * self.n_classes

    def shapes(self, chips: Sequence[int]) -> list[tuple[int, ...]]:
        """(N, K, 1, 1)."""
        return [(chips[0], self.n_classes, 1, 1)]

    def mismatch(self, wanted: tuple[int, ...]) -> str:
        return (
            f"one label of {self.n_classes} classes for each is {wanted}; choose a classifier, or a card without labels"
        )

    def canvas(self, chips: ChipGrid, core: Window, device: str, others: Sequence[Labels] = ()) -> _Decided:
        if chips.blend:
            raise CardError(
                f"{self.label}: labels each chip by itself, so none are cross-faded; leave its overlap exact"
            )
        return _Decided((self, *others), chips.core_px, core, device)

    def agreement(self, tiled: BlockLabels, whole: BlockLabels, valid: NDArray[np.bool_]) -> Agreement:
        known = (tiled.classes != NODATA) | (whole.classes != NODATA)
        flips = float((tiled.classes != whole.classes)[known].mean()) if known.any() else 0.0
        same = (
            np.array_equal(tiled.classes, whole.classes)
            and tiled.probabilities[:, known].tobytes() == whole.probabilities[:, known].tobytes()
        )
        return Agreement(identical=same, flips=flips, class_flips=0.0 if same else 1.0)


class _Decided:
    """Each chip writes the pixel of its own core."""

    def __init__(self, members: Sequence[Labels], side_px: int, core: Window, device: str) -> None:
        self._members, self._core, self._side = members, core, side_px
        if core.row_off % self._side or core.col_off % self._side:
            raise CardError(
                f"{members[0].label}: labels begin with a chip's core of {self._side} px, got a window at column "
                f"{core.col_off}, row {core.row_off}"
            )
        shape = (ceil_div(core.height, self._side), ceil_div(core.width, self._side))
        self._probabilities = torch.zeros((members[0].n_classes, *shape), device=device)

    def add(self, read: Window, owned: Window, answers: Sequence[Tensor]) -> None:
        total = torch.zeros(self._members[0].n_classes, device=self._probabilities.device)
        for member, answer in zip(self._members, answers, strict=True):
            logits = answer[:, 0, 0].float()
            # as (K, 1, 1): a class map's own softmax, whose bits do not depend on how many are asked at once
            total = total + (logits if member.gives_probabilities else softmax(logits[:, None, None])[:, 0, 0])
        row = (owned.row_off - self._core.row_off) // self._side
        col = (owned.col_off - self._core.col_off) // self._side
        self._probabilities[:, row, col] = total / len(self._members)

    def finish(self, valid: NDArray[np.bool_]) -> BlockLabels:
        probabilities = download(self._probabilities).astype(np.float32, copy=False)
        classes = probabilities.argmax(axis=0).astype(np.uint8)
        confidence = np.clip(np.rint(probabilities.max(axis=0) * CONFIDENCE_STEPS), 0, CONFIDENCE_STEPS)
        made = BlockLabels(
            self._core, self._side, self._members[0].least_px, classes, confidence.astype(np.uint8), probabilities
        )
        return made.hide(~valid)
