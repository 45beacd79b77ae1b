"""Labels of whole chips from the labels of their pixels: the class that covers most of the core, if it covers enough.

One rule for training, validation and evaluation. Knows nothing of files or networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.labels import IGNORE, LabelSource
from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipRule:
    """Chips, and when the labels of their pixels make one of the chip.

    Attributes:
        core_px: side of the ground that a label is about.
        context_px: what the network sees around it, per side.
        cover: least share of the whole core that the class covers; other pixels may be of other classes or unknown.
        alone: each chip is a picture by itself, so that what lies around it in a file says nothing.
    """

    core_px: int
    context_px: int = 0
    cover: float = 0.5
    alone: bool = False

    @property
    def chip_px(self) -> int:
        """Side of what the network sees."""
        return self.core_px + 2 * self.context_px

    @property
    def least_px(self) -> int:
        """Pixels of a core that its class covers at least."""
        return max(1, math.ceil(self.cover * self.core_px**2))

    def labels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label of each core of a window that begins with one.

        Args:
            pixels: (h, w) labels, IGNORE where unknown.

        Returns:
            (ceil(h / core_px), ceil(w / core_px)); the lowest class where several cover as much, IGNORE where none covers
            enough.
        """
        rows, cols = (range(0, side, self.core_px) for side in pixels.shape)
        best = np.zeros((len(rows), len(cols)), np.int64)
        found = np.full(best.shape, IGNORE, np.uint8)
        for value in np.unique(pixels[pixels != IGNORE]).tolist():
            covered = np.add.reduceat(np.add.reduceat((pixels == value).astype(np.int64), rows, axis=0), cols, axis=1)
            found[covered > best] = value
            best = np.maximum(best, covered)
        found[best < self.least_px] = IGNORE
        return found

    def of_chip(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(1, 1), the label of one chip (..., chip_px, chip_px), its context left out."""
        inside = slice(self.context_px, self.context_px + self.core_px)
        return self.labels(pixels[inside, inside])


@dataclass(frozen=True, slots=True)
class ChipLabels:
    """Labels of whole chips, on the grid of a result that has one pixel for each."""

    pixels: LabelSource
    """Labels of the pixels of the finer grid."""
    rule: ChipRule
    fine: Grid

    @property
    def identity(self) -> str:
        return self.pixels.identity

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Read labels as `LabelSource.read` does; `grid` is that of the cores."""
        side = self.rule.core_px
        if grid != self.fine.reduce(side):
            raise SceneError(f"chips of {side} px do not lie on a grid of {grid.width} x {grid.height} pixels")
        return self.rule.labels(self.pixels.read(self.fine, window.zoom(side)))
