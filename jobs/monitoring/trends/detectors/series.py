"""Series of many pixels, taken some at a time, and what is done to all of them alike. Knows no monitor."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import InputError

N = TypeVar("N", np.int16, np.float64)

FLAT = 1e-12
"""Residuals below this share of a pixel's largest value are the rounding of a series that does not vary."""

BLOCK_PX = 4096
"""Pixels at a time: long enough for numpy's calls to cost nothing, short enough for the arrays to stay in cache."""
_LEAST_PX = 16
"""numpy adds up a single column in another order than several side by side."""


def blocks(values: NDArray[np.floating], years: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Some pixels at a time: where they lie among P, and their values (T, at least that many) as a copy in float64.

    Raises:
        InputError: if the shapes do not fit each other or the times do not rise.
    """
    if values.ndim != 2 or years.shape != values.shape[:1]:
        raise InputError(f"a series is (T, P) values with (T,) times, got {values.shape} and {years.shape}")
    if values.shape[0] > np.iinfo(np.int16).max:
        raise InputError(f"a series has at most {np.iinfo(np.int16).max} dates, got {values.shape[0]}")
    if (np.diff(years) <= 0).any():
        raise InputError("the times of a series must rise from date to date; merge what was seen on one date first")
    n_dates, n_px = values.shape
    for start in range(0, n_px, BLOCK_PX):
        part = slice(start, min(start + BLOCK_PX, n_px))
        block = np.full((n_dates, max(part.stop - part.start, _LEAST_PX)), np.nan)
        block[:, : part.stop - part.start] = values[:, part]
        yield part, block


def decimal_years(dates: Sequence[datetime.date]) -> NDArray[np.float64]:
    """(T,) dates as years and the part of the year that is over: 2020-07-01 is 2020 + 182 / 366."""
    days = [366 if calendar.isleap(date.year) else 365 for date in dates]
    return np.array(
        [date.year + (date.timetuple().tm_yday - 1) / n for date, n in zip(dates, days, strict=True)], np.float64
    )


def history_before(years: NDArray[np.float64], start: float) -> int:
    """The number of dates before monitoring begins.

    Raises:
        InputError: if no date is left to monitor.
    """
    n_history = int(np.searchsorted(years, start))
    if n_history == len(years):
        raise InputError(
            f"monitoring begins in {start:.3f}, after the last date {years[-1]:.3f}; name an earlier 'start'"
        )
    return n_history


def running_sums(rows: NDArray[Any], dtype: type[N]) -> NDArray[N]:
    """(T, P) sums over the dates so far: as `numpy.cumsum` along the first axis, which goes through memory in columns."""
    sums = np.empty(rows.shape, dtype)
    if len(rows):
        sums[0] = rows[0]
    for date in range(1, len(rows)):
        np.add(sums[date - 1], rows[date], out=sums[date])
    return sums


def clear_unknown(block: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Set NaN and infinities to 0 in place; returns where there was a number."""
    known = np.isfinite(block)
    bits = block.view(np.int64)
    bits &= np.negative(
        known, dtype=np.int64, casting="unsafe"
    )  # all bits or none: a masked copy takes four times as long
    return known


def medians(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(P,) median of the known among (M, P); NaN where none is."""
    rows = np.where(known, values, np.inf).T.copy()
    rows.sort(axis=1)
    n = known.sum(axis=0)
    at = np.arange(rows.shape[0])
    middle = 0.5 * (rows[at, np.maximum(n - 1, 0) // 2] + rows[at, np.minimum(n // 2, rows.shape[1] - 1)])
    return np.where(n > 0, middle, np.nan)
