"""Connected components of masks, by runs of pixels in rows. Knows nothing of shards, files or alerts.

Pixels are connected to their eight neighbours: a river that moves sideways leaves strips that are one pixel wide and run
diagonally, and four neighbours would break them into specks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.components import Ints, join, meeting, number_sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The set pixels of a mask: for each row its runs from left to right, rows from top to bottom. Each (n,) int64."""

    row: Ints
    start: Ints
    """First column."""
    end: Ints
    """Column after the last."""
    label: Ints
    """Component of the run; components are numbered from 0 by their first pixels, row-major."""
    n_components: int

    @property
    def length(self) -> Ints:
        return self.end - self.start

    def select(self, keep: NDArray[np.bool_]) -> Runs:
        """The components that `keep`, (n_components,), is true for, numbered anew in the same order."""
        number = np.cumsum(keep) - 1
        kept = keep[self.label]
        return Runs(
            row=self.row[kept], start=self.start[kept], end=self.end[kept], label=number[self.label[kept]],
            n_components=int(keep.sum()),
        )  # fmt: skip

    def sum(self, values: NDArray[np.integer]) -> Ints:
        """Total of integers, one for each run, by component. (n_components,)"""
        total = np.zeros(self.n_components, np.int64)
        np.add.at(total, self.label, values.astype(np.int64, copy=False))
        return total

    def sum_pixels(self, values: NDArray[Any]) -> Ints:
        """Total of integers or of truths, one for each set pixel in row-major order, by component. (n_components,)"""
        return self.sum(np.add.reduceat(values, self._offsets(), dtype=np.int64)) if self.row.size else self.sum(values)

    def max_pixels(self, values: NDArray[np.integer]) -> Ints:
        """Largest of integers, one for each set pixel in row-major order, by component. (n_components,)"""
        found = np.full(self.n_components, np.iinfo(np.int64).min)
        if self.row.size:
            np.maximum.at(found, self.label, np.maximum.reduceat(values, self._offsets()).astype(np.int64))
        return found

    def first_pixels(self) -> tuple[Ints, Ints]:
        """(rows, columns) of the components' first pixels in row-major order. (n_components,) each"""
        first = np.unique(self.label, return_index=True)[1]
        return self.row[first], self.start[first]

    def image(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        """(h, w): label + 1 of each set pixel, 0 elsewhere."""
        step = np.zeros((shape[0], shape[1] + 1), np.int32)
        np.add.at(step, (self.row, self.start), self.label + 1)
        np.subtract.at(step, (self.row, self.end), self.label + 1)
        return np.cumsum(step, axis=1, dtype=np.int32)[:, : shape[1]]

    def _offsets(self) -> Ints:
        return np.cumsum(self.length) - self.length


def label(mask: NDArray[np.bool_], *, diagonal: bool = True) -> Runs:
    """The components of a mask, (h, w). Runs are found and joined by whole arrays at a time.

    Args:
        diagonal: whether pixels that share a corner only are connected.
    """
    height, width = mask.shape
    edges = np.zeros((height, width + 2), np.int8)
    edges[:, 1:-1] = mask
    step = np.diff(edges, axis=1)
    row, start = np.nonzero(step == 1)
    end = np.nonzero(step == -1)[1]
    stride = width + 2
    begins, ends = row * stride + start, row * stride + end
    upper, lower = meeting(begins + stride, ends + stride, begins, ends, corners=diagonal)
    number = number_sets(join(row.size, upper, lower))
    return Runs(row=row, start=start, end=end, label=number, n_components=int(number.max(initial=-1)) + 1)


def overlaps(now: Runs, before: Runs) -> tuple[Ints, Ints, Ints]:
    """Components of two masks of one window that share pixels: (component now, component before, pixels), sorted."""
    stride = 1 + max(int(now.end.max(initial=0)), int(before.end.max(initial=0)))
    begins, ends = before.row * stride + before.start, before.row * stride + before.end
    mine, theirs = meeting(now.row * stride + now.start, now.row * stride + now.end, begins, ends, corners=False)
    shared = np.minimum(now.end[mine], before.end[theirs]) - np.maximum(now.start[mine], before.start[theirs])
    width = max(1, before.n_components)
    pair, where = np.unique(now.label[mine] * width + before.label[theirs], return_inverse=True)
    total = np.zeros(pair.size, np.int64)
    np.add.at(total, where, shared)
    return pair // width, pair % width, total
