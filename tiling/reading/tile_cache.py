"""Keeps decoded tiles of files that the next blocks will want again, within a bound of bytes. Knows no file.

Blocks come row by row, in strips of a few blocks' width (`tiling.chips.split_blocks`): what a read leaves behind for its
right neighbour and for the row below is small, and all of it fits.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window

Cell: TypeAlias = tuple[NDArray[Any], NDArray[np.bool_] | None]
"""(C, h, w) values, and (h, w) their mask where the file has one."""

CACHE_BYTES = 192 << 20


class TileCache:
    """The cells that were used last. Safe in many threads; two that miss the same cell both load it."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes, self._held_bytes = limit_bytes, 0
        self._cells: OrderedDict[Hashable, Cell] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, name: Hashable, load: Callable[[Window], Cell], window: Window, *, extent: Window, cell: tuple[int, int],
        reach_px: int,
    ) -> Cell:  # fmt: skip
        """`load(window)`, put together from cells that are here and from as few loads of whole cells as it takes.

        Args:
            name: name of the file and of what is read from it.
            extent: all pixels that can be loaded; its corner is the origin of the cells.
            cell: (rows, columns).
            reach_px: what the next reads, to the right and below, reach back; cells beyond that are not kept.
        """
        height, width = cell
        places = _places(window, cell)
        known = {place: found for place in places if (found := self._get((name, place))) is not None}
        values: NDArray[Any] | None = None
        mask: NDArray[np.bool_] | None = None
        pieces = [(_covers(place, cell, extent), found) for place, found in known.items()]
        for missing in _rectangles([place for place in places if place not in known]):
            whole = Window(missing.col_off * width, missing.row_off * height, missing.width * width,
                           missing.height * height) & extent  # fmt: skip
            loaded = load(whole)
            pieces.append((whole, loaded))
            for row in range(missing.row_off, missing.row_end):
                for col in range(missing.col_off, missing.col_end):
                    covers = _covers((row, col), cell, extent)
                    if covers.row_end > window.row_end - 2 * reach_px or covers.col_end > window.col_end - 2 * reach_px:
                        self._put((name, (row, col)), _cut(loaded, covers, whole))
        for covers, (piece, piece_mask) in pieces:
            if values is None:
                values = np.empty((len(piece), *window.shape), piece.dtype)
                mask = np.empty(window.shape, np.bool_) if piece_mask is not None else None
            common = covers & window
            to, of = common.slices(window), common.slices(covers)
            values[(slice(None), *to)] = piece[(slice(None), *of)]
            if mask is not None and piece_mask is not None:
                mask[to] = piece_mask[of]
        assert values is not None, "a window has pixels"
        return values, mask

    def _get(self, key: Hashable) -> Cell | None:
        with self._lock:
            if key in self._cells:
                self._cells.move_to_end(key)
            return self._cells.get(key)

    def _put(self, key: Hashable, cell: Cell) -> None:
        with self._lock:
            if key in self._cells:
                return
            self._cells[key] = cell
            self._held_bytes += _size(cell)
            while self._held_bytes > self._limit_bytes:
                _, dropped = self._cells.popitem(last=False)
                self._held_bytes -= _size(dropped)


def _places(window: Window, cell: tuple[int, int]) -> list[tuple[int, int]]:
    height, width = cell
    return [
        (row, col)
        for row in range(window.row_off // height, ceil_div(window.row_end, height))
        for col in range(window.col_off // width, ceil_div(window.col_end, width))
    ]


def _covers(place: tuple[int, int], cell: tuple[int, int], extent: Window) -> Window:
    return Window(place[1] * cell[1], place[0] * cell[0], cell[1], cell[0]) & extent


def _cut(loaded: Cell, part: Window, whole: Window) -> Cell:
    values, mask = loaded
    inside = part.slices(whole)
    return values[(slice(None), *inside)].copy(), mask[inside].copy() if mask is not None else None


def _size(cell: Cell) -> int:
    return cell[0].nbytes + (cell[1].nbytes if cell[1] is not None else 0)


def _rectangles(places: list[tuple[int, int]]) -> Iterator[Window]:
    """Cells as few rectangles: runs within a row, joined with equal runs of the rows below. Units are cells."""
    open_runs: dict[tuple[int, int], Window] = {}
    rows: dict[int, list[int]] = {}
    for row, col in places:
        rows.setdefault(row, []).append(col)
    for row in sorted(rows):
        runs: dict[tuple[int, int], Window] = {}
        for col_off, width in _runs(sorted(rows[row])):
            above = open_runs.get((col_off, width))
            if above is not None and above.row_end == row:
                runs[col_off, width] = Window(col_off, above.row_off, width, above.height + 1)
                del open_runs[col_off, width]
            else:
                runs[col_off, width] = Window(col_off, row, width, 1)
        yield from open_runs.values()
        open_runs = runs
    yield from open_runs.values()


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """(first, length) of each stretch of consecutive numbers."""
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[start], at - start
            start = at
