"""Many dates become one: which observation of each pixel is taken, or what stands for all of them. Arrays in, arrays out.

Everything here is a pure function of numpy arrays (T, h, w) and looks at each pixel alone, so how a grid is cut changes
nothing. An observation is *clear* where every layer holds data; no other observation has any say. Works on stored values in
their own dtype, with work of a few strips beside its result. `jobs.monitoring.composites.rules` puts these together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.median import batcher_network, select, strips
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.errors import TilingError

_STRIP_PX = 1 << 17
"""Pixels that are worked on at once; from 2^16 to 2^19 the time is the same within a tenth."""


def clear_of(layers: Iterable[tuple[NDArray[Any], float]]) -> NDArray[np.bool_]:
    """(T, h, w), true where every layer holds data.

    Args:
        layers: each layer's values, (T, h, w), and its nodata. NaN is never data.

    Raises:
        TilingError: if there are no layers, or their shapes differ.
    """
    clear: NDArray[np.bool_] | None = None
    for values, nodata in layers:
        if clear is not None and clear.shape != values.shape:
            raise TilingError(f"layers of one cube have one shape, got {clear.shape} and {values.shape}")
        known = np.ones(values.shape, np.bool_) if np.isnan(nodata) else values != values.dtype.type(nodata)
        if values.dtype.kind == "f":
            known &= values == values
        clear = known if clear is None else np.logical_and(clear, known, out=clear)
    if clear is None:
        raise TilingError("a cube has at least one layer, got none")
    return clear


def count_clear(clear: NDArray[np.bool_], dtype: str) -> NDArray[Any]:
    """(h, w), how many observations of each pixel are clear. `dtype`: uint8 or uint16, by how many dates there can be."""
    total = np.zeros(clear.shape[1:], dtype)
    for seen in clear:
        total += seen
    return total


def first_clear(clear: NDArray[np.bool_], order: Sequence[int]) -> NDArray[np.int16]:
    """(h, w), the first date in `order` on which each pixel is clear; -1 where it never is."""
    index = np.full(clear.shape[1:], -1, np.int16)
    mask, spare = np.empty_like(index), np.empty_like(index)
    for date in reversed(order):
        select(
            index, np.full_like(index, date), np.negative(clear[date].view(np.int8), out=mask, dtype=mask.dtype), spare
        )
    return index


def extreme(
    score: NDArray[Any], clear: NDArray[np.bool_], order: Sequence[int], *, least: bool = False
) -> NDArray[np.int16]:
    """The date on which a score is greatest, or least, among the clear observations of each pixel.

    Args:
        score: (T, h, w).
        order: all dates; of equal scores the date that comes first in it is taken.

    Returns:
        (h, w), -1 where a pixel is never clear.
    """
    better = np.less if least else np.greater
    index = np.full(clear.shape[1:], -1, np.int16)
    if not order:
        return index
    bits = np.dtype(f"i{score.dtype.itemsize}")
    for rows, cols in strips(index.shape, _STRIP_PX):
        found, best = index[rows, cols].copy(), score[order[0], rows, cols].copy()
        wide, spare = np.empty(best.shape, bits), np.empty_like(best)
        narrow, spare_index = np.empty_like(found), np.empty_like(found)
        for date in order:
            now = np.ascontiguousarray(score[date, rows, cols])
            with np.errstate(invalid="ignore"):  # of a NaN that is not clear
                taken = better(now, best)
            taken |= found < 0
            taken &= clear[date, rows, cols]
            np.negative(taken.view(np.int8), out=wide, dtype=bits)
            select(best, now, wide, spare)
            np.negative(taken.view(np.int8), out=narrow, dtype=narrow.dtype)
            select(found, np.full_like(found, date), narrow, spare_index)
        index[rows, cols] = found
    return index


def take(values: NDArray[Any], index: NDArray[np.int16], nodata: float) -> NDArray[Any]:
    """The value of one date for each pixel: (T, h, w) and (h, w) to (h, w), nodata where the date is -1."""
    out = np.full(index.shape, nodata, values.dtype)
    bits = np.dtype(f"i{values.dtype.itemsize}")
    for rows, cols in strips(index.shape, _STRIP_PX):
        dates, made = index[rows, cols], out[rows, cols].copy()
        mask, spare = np.empty(made.shape, bits), np.empty_like(made)
        for date, given in enumerate(values):
            np.negative((dates == date).view(np.int8), out=mask, dtype=bits)
            select(made, np.ascontiguousarray(given[rows, cols]), mask, spare)
        out[rows, cols] = made
    return out


def mode(
    classes: NDArray[np.uint8], clear: NDArray[np.bool_], n_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The commonest class of each pixel, of equals the lowest, and how many of its clear observations agree.

    Args:
        classes: (T, h, w), 0 to n_classes - 1 where clear.

    Returns:
        (h, w) classes, 255 where a pixel is never clear; (h, w) the share of its clear observations that are of that class,
        stored like a confidence: 250 is all of them, 255 where there are none (`tiling.encoding`).

    Raises:
        TilingError: if a clear observation is of no class.
    """
    n_dates, shape = len(classes), clear.shape[1:]
    commonest, share = np.full(shape, NODATA, np.uint8), np.full(shape, NODATA, np.uint8)
    network, shares = batcher_network(n_dates), _shares(n_dates)
    for rows, cols in strips(shape, _STRIP_PX):
        # 255 has all bits
        ordered = [classes[date, rows, cols] | (clear[date, rows, cols].view(np.uint8) - 1) for date in range(n_dates)]
        if n_dates and (stray := _largest_class(ordered)) >= n_classes:
            raise TilingError(
                f"an observation is of class {stray}, but there are {n_classes} classes; the cube and its legend do not "
                "belong together"
            )
        if n_dates:
            best, most, n_clear = _longest_run(ordered, network)
            commonest[rows, cols], share[rows, cols] = best, shares[most, n_clear]
    return commonest, share


def _largest_class(rows: Sequence[NDArray[np.uint8]]) -> int:
    """The largest class of a class map whose nodata is 255; -1 if there is nothing else."""
    return int(max((row + np.uint8(1)).max() for row in rows)) - 1


def _longest_run(
    rows: list[NDArray[np.uint8]], network: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]]:
    """The commonest value of each pixel, how often it is there, and how often any is. Changes `rows`.

    Sorted by the network, equals are neighbours, and of two runs of one length the lower value's comes first.
    """
    votes = np.dtype(np.uint8 if len(rows) < 256 else np.uint16)
    n_clear, run, most = (np.zeros(rows[0].shape, votes) for _ in range(3))
    spare, mask = np.empty_like(rows[0]), np.empty(rows[0].shape, np.int8)
    for low, high in network:
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    best, before = rows[0].copy(), rows[0]
    for row in rows:
        known = (row != NODATA).view(np.uint8)
        run *= (row == before).view(np.uint8)
        run += known  # of nodata it is 0: that comes last, after a change or from the beginning
        n_clear += known
        np.negative((run > most).view(np.int8), out=mask)
        np.maximum(most, run, out=most)
        select(best, row, mask, spare)
        before = row
    return best, most, n_clear


def _shares(n_dates: int) -> NDArray[np.uint8]:
    """(n_dates + 1, n_dates + 1), how n of m is stored: in steps of 1/250, halves rounded up; 255 of nothing."""
    part, whole = np.ogrid[: n_dates + 1, : n_dates + 1]
    stored = (2 * CONFIDENCE_STEPS * np.minimum(part, whole) + whole) // np.maximum(2 * whole, 1)
    return np.where(whole > 0, stored, NODATA).astype(np.uint8)
