"""Reads windows of labelled scenes through squares of the scene's grid, which stay decoded in a bounded cache.

What is kept is bounded, so memory does not grow with the data; what fits is decoded once for a whole training. Knows
nothing of crops or networks.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.corpus import LabelledScene
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Split
from earthloom.tiling.chips import reflect_indices
from earthloom.tiling.errors import StorageError
from earthloom.tiling.reading.read import CELL_PX, read_pixels
from earthloom.tiling.window import Window

T = TypeVar("T")

_TRIES = 5
_PAUSE_S = 0.5  # doubled from try to try


@dataclass(frozen=True, slots=True)
class LabelledPixels:
    """A window of a scene.

    Attributes:
        values: (C, h, w) stored values in the bands' common dtype.
        valid: (h, w), true where every band is.
        labels: (h, w) uint8, IGNORE where unknown or without data.
        part: (h, w) uint8 (`jobs.learning.split.Part`), NO_PART where in none.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    part: NDArray[np.uint8]

    @property
    def n_bytes(self) -> int:
        return self.values.nbytes + self.valid.nbytes + self.labels.nbytes + self.part.nbytes

    def physical(self, each: LabelledScene) -> NDArray[np.float32]:
        """(C, h, w) values as their scale and offset make them; whatever lies where there is no data."""
        gain = np.array([band.scale for band in each.bands], np.float32)[:, None, None]
        bias = np.array([band.offset for band in each.bands], np.float32)[:, None, None]
        return np.asarray(self.values.astype(np.float32) * gain + bias)


class Cells:
    """Reads windows of a corpus. Safe in many threads: a square that several want is read by one of them.

    Args:
        scenes: the corpus.
        split: says which part a pixel is in.
        limit_bytes: of decoded squares that are kept.
    """

    def __init__(self, scenes: Sequence[LabelledScene], split: Split, limit_bytes: int) -> None:
        self._scenes, self._split, self._limit_bytes = scenes, split, limit_bytes
        self._kept: OrderedDict[tuple[int, Window], Future[LabelledPixels]] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()

    def read(self, number: int, window: Window) -> LabelledPixels:
        """A window, which may reach past the scene: its pixels and parts are reflected there, and their labels unknown.

        Raises:
            SceneError: if a file cannot be decoded.
            StorageError: if the storage fails again and again.
        """
        grid = self._scenes[number].scene.grid
        if grid.window.contains(window):
            return self._inside(number, window)
        rows = np.array(reflect_indices(window.row_off, window.row_end, grid.height, window.size_px + grid.height))
        cols = np.array(reflect_indices(window.col_off, window.col_end, grid.width, window.size_px + grid.width))
        inside = Window(int(cols.min()), int(rows.min()), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1)
        found = self._inside(number, inside)
        pick = np.ix_(rows - inside.row_off, cols - inside.col_off)
        labels = np.full(window.shape, IGNORE, np.uint8)
        if common := window & grid.window:
            labels[common.slices(window)] = found.labels[common.slices(inside)]
        return LabelledPixels(found.values[:, pick[0], pick[1]], found.valid[pick], labels, found.part[pick])

    def _inside(self, number: int, window: Window) -> LabelledPixels:
        whole = self._scenes[number].scene.grid.window
        values: NDArray[Any] | None = None
        valid = np.empty(window.shape, np.bool_)
        labels, part = np.empty(window.shape, np.uint8), np.empty(window.shape, np.uint8)
        for square in window.align(CELL_PX).split(CELL_PX):
            covers = square & whole
            cell, common = self._cell(number, covers), covers & window
            to, of = common.slices(window), common.slices(covers)
            if values is None:
                values = np.empty((len(cell.values), *window.shape), cell.values.dtype)
            values[(slice(None), *to)] = cell.values[(slice(None), *of)]
            valid[to], labels[to], part[to] = cell.valid[of], cell.labels[of], cell.part[of]
        assert values is not None, "a window has pixels"
        return LabelledPixels(values, valid, labels, part)

    def _cell(self, number: int, covers: Window) -> LabelledPixels:
        """The pixels of a square of the grid, as far as it lies in the scene."""
        key = (number, covers)
        with self._lock:
            future = self._kept.get(key)
            is_mine = future is None
            if future is None:
                future = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if not is_mine:
            return future.result()
        try:
            cell = patiently(lambda: self._load(number, covers))
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(cell)
        with self._lock:
            self._held_bytes += cell.n_bytes
            self._drop()
        return cell

    def _drop(self) -> None:
        """Forget the squares that were wanted longest ago, but for those that are being read."""
        for key, future in list(self._kept.items()):
            if self._held_bytes <= self._limit_bytes:
                return
            if future.done():
                del self._kept[key]
                self._held_bytes -= future.result().n_bytes

    def _load(self, number: int, window: Window) -> LabelledPixels:
        each = self._scenes[number]
        labels = each.labels.read(each.scene.grid, window)
        pixels = read_pixels(each.scene, each.bands, window, halo_px=0)
        labels[~pixels.valid] = IGNORE
        return LabelledPixels(
            np.ascontiguousarray(pixels.values), np.array(pixels.valid), labels, self._split.parts(number, each, window)
        )


def patiently(read: Callable[[], T]) -> T:
    """Read, and again after a pause where the storage failed in passing."""
    for attempt in range(_TRIES):
        try:
            return read()
        except StorageError as error:
            if not error.transient or attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE_S * 2**attempt)
    raise AssertionError("the last attempt returns or raises")
