"""The median of all pairwise slopes of a series, for many series at once, without holding the slopes.

The slope of a pair is below b where y - b t falls from one date to the other, so that one comparison of each pair counts
the slopes below b. A bracket around the median is narrowed by such counts until so few slopes lie in it that they can be
sorted. Pairs are compared in float32; slopes that this cannot tell from the ends of the bracket are among those that are
sorted, in float64, and where that shows that the bracket missed the median, all slopes of the pixel are looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.regression import Bools, Floats

Counts = NDArray[np.int64]
Singles = NDArray[np.float32]

_FEW_PAIRS = 400
"""Up to here all slopes are sorted."""
_CANDIDATES = 16
"""Slopes in a bracket that are sorted; more than that are narrowed further."""
_SAMPLE = 128
"""Pairs whose slopes give the first guess."""
_SAMPLE_REACH = 1.2
"""Reach of the bracket around the sample's median, in units of the square root of its size."""
_MAX_PASSES = 24
_MOSTLY = 0.7
"""Share of the pixels from which on it is cheaper to count for all of them."""
_ROUNDING = 4 * 2.0**-23
"""Rounding error of the difference of two values less a line, relative to the largest."""
_SUMMED = 255
"""Flags that a byte can count."""


def count_falling(lines: NDArray[np.floating]) -> Counts:
    """(P,) pairs of dates i < j with lines_j < lines_i, of (T, P); a pair with NaN does not count."""
    return _count(lines, np.less)


def count_rising(lines: NDArray[np.floating]) -> Counts:
    """(P,) pairs of dates i < j with lines_j > lines_i, of (T, P)."""
    return _count(lines, np.greater)


def median_slopes(values: Singles, times: Floats, falling: Counts, rising: Counts, pairs: Counts) -> Floats:
    """(P,) median of (y_j - y_i) / (t_j - t_i) over i < j, the mean of the two middle ones of an even number.

    Args:
        values: (T, P), NaN where nothing was observed.
        times: (T,), rising.
        falling, rising: (P,) pairs whose slope is below and above 0.
        pairs: (P,) pairs that were both observed; where that is 0 the result has no meaning.
    """
    n_dates = len(times)
    if n_dates * (n_dates - 1) // 2 <= _FEW_PAIRS:
        return _by_sorting(values, times, pairs)
    return _Search(values, times, falling, rising, pairs).run()


def _count(lines: NDArray[np.floating], compare: np.ufunc) -> Counts:
    n_dates, n_px = lines.shape
    flags, total = np.empty((n_dates, n_px), np.bool_), np.zeros(n_px, np.int64)
    for lag in range(1, n_dates):
        found = flags[: n_dates - lag]
        compare(lines[lag:], lines[:-lag], out=found)
        _add_flags(found, total)
    return total


def _add_flags(flags: Bools, total: Counts) -> None:
    """Add to `total` (P,) the number of true ones among (N, P)."""
    for start in range(0, len(flags), _SUMMED):
        total += np.add.reduce(flags[start : start + _SUMMED].view(np.uint8), axis=0, dtype=np.uint8)


def _by_sorting(values: Singles, times: Floats, pairs: Counts) -> Floats:
    n_dates, n_px = values.shape
    early, late = np.triu_indices(n_dates, 1)
    slopes = np.empty((n_px, len(early)))
    slopes.T[:] = _slopes(values, times, early, late)
    slopes.sort(axis=1)  # NaN comes last
    at = np.arange(n_px)
    lower, upper = np.maximum(pairs - 1, 0) // 2, np.minimum(pairs // 2, slopes.shape[1] - 1)
    found: Floats = 0.5 * (slopes[at, lower] + slopes[at, upper])
    return found


def _slopes(values: Singles, times: Floats, early: Counts, late: Counts) -> Floats:
    """(N, P) of N pairs of dates."""
    found: Floats = np.subtract(values[late], values[early], dtype=np.float64) / (times[late] - times[early])[:, None]
    return found


class _Search:
    """Brackets [low, high) around the median of each pixel, with the numbers of slopes below their ends."""

    def __init__(self, values: Singles, times: Floats, falling: Counts, rising: Counts, pairs: Counts) -> None:
        self.values, self.times, self.single_times = values, times, times.astype(np.float32)[:, None]
        self.lower, self.upper = np.maximum(pairs - 1, 0) // 2, pairs // 2  # ranks of the two middle slopes
        known = np.isfinite(values)
        spread = np.where(known, values, -np.inf).max(axis=0) - np.where(known, values, np.inf).min(axis=0)
        reach = np.where(pairs > 0, spread, 0.0) / np.diff(times).min() * 1.01 + 1e-30
        self.low, self.high = -reach, reach.copy()
        self.below_low, self.below_high = np.zeros_like(pairs), pairs.copy()
        self.median = np.zeros(values.shape[1])
        # 0 is the likeliest tie, and the only one that is met exactly
        is_zero = (falling <= self.lower) & (self.upper < pairs - rising)
        self._bracket(np.zeros(values.shape[1]), falling, slice(None))
        self.open = (pairs > 0) & ~is_zero

    def run(self) -> Floats:
        guesses = self._sampled()
        for number in range(_MAX_PASSES):
            wide = self.open & (self.below_high - self.below_low > _CANDIDATES)
            if not wide.any():
                break
            where = slice(None) if wide.mean() > _MOSTLY else np.flatnonzero(wide)
            probe = guesses[number][where] if number < len(guesses) else self._interpolated(where, number)
            self._bracket(probe, count_falling(self._lines(probe, where)), where)
        few = self.open & (self.below_high - self.below_low <= _CANDIDATES)
        missed = self._sort_candidates(np.flatnonzero(few))
        for px in np.concatenate([np.flatnonzero(self.open & ~few), missed]):  # ties beyond number, or rounding
            self.median[px] = _median_of_one(self.values[:, px], self.times)
        return self.median

    def _lines(self, slope: Floats, where: Counts | slice) -> Singles:
        """(T, P) values less a line of that slope, in float32."""
        lines: Singles = slope.astype(np.float32) * self.single_times
        np.subtract(self.values[:, where], lines, out=lines)
        return lines

    def _bracket(self, probe: Floats, below: Counts, where: Counts | slice) -> None:
        """Narrow the brackets of the pixels `where` by the number of slopes `below` their probes."""
        low, high = self.low[where], self.high[where]
        inside = (probe > low) & (probe < high)
        raise_low = inside & (below <= self.lower[where])
        cut_high = inside & (below > self.upper[where])
        self.low[where], self.high[where] = np.where(raise_low, probe, low), np.where(cut_high, probe, high)
        self.below_low[where] = np.where(raise_low, below, self.below_low[where])
        self.below_high[where] = np.where(cut_high, below, self.below_high[where])

    def _sampled(self) -> tuple[Floats, Floats]:
        """Two guesses between which the median nearly always lies."""
        n_dates, n_px = self.values.shape
        early, late = np.triu_indices(n_dates, 1)
        chosen = np.random.default_rng(n_dates).permutation(len(early))[:_SAMPLE]
        early, late = early[chosen], late[chosen]
        slopes = np.empty((n_px, len(chosen)))
        slopes.T[:] = _slopes(self.values, self.times, early, late)
        n = np.isfinite(slopes).sum(axis=1)
        slopes.sort(axis=1)
        reach, at = _SAMPLE_REACH * np.sqrt(n), np.arange(n_px)
        first = np.clip((n / 2 - reach).astype(np.int64), 0, len(chosen) - 1)
        last = np.clip((n / 2 + reach).astype(np.int64), 0, np.maximum(n - 1, 0))
        return slopes[at, first], slopes[at, last]

    def _interpolated(self, where: Counts | slice, number: int) -> Floats:
        """A probe a little below the median, and the next time a little above, so that both ends move."""
        low, high = self.low[where], self.high[where]
        below, inside = self.below_low[where], self.below_high[where] - self.below_low[where]
        aside = 0.7 * np.sqrt(inside) * (-1 if number % 2 else 1)
        share = ((self.lower[where] + self.upper[where]) / 2 + 0.5 + aside - below) / np.maximum(inside, 1)
        probe: Floats = low + (high - low) * np.clip(share, 0.02, 0.98)
        return probe

    def _sort_candidates(self, where: Counts) -> Counts:
        """Set the medians of the pixels `where`; returns those among them whose brackets do not hold them."""
        if not len(where):
            return where
        pixels, slopes, below = self._candidates(where)
        order = np.argsort(slopes)
        order = order[np.argsort(pixels[order], kind="stable")]
        pixels, slopes = pixels[order], slopes[order]
        start = np.searchsorted(pixels, np.arange(len(where) + 1))
        lower, upper = (start[:-1] + rank[where] - below for rank in (self.lower, self.upper))
        held = (lower >= start[:-1]) & (upper < start[1:])
        self.median[where[held]] = 0.5 * (slopes[lower[held]] + slopes[upper[held]])
        return where[~held]

    def _candidates(self, where: Counts) -> tuple[NDArray[np.uint16], Floats, Counts]:
        """Pixel (C,) and slope (C,) of all pairs that may lie in their pixels' brackets, and (P,) how many lie below these."""
        values, n_dates, n_px = self.values[:, where], len(self.times), len(where)
        under, over = self._lines(self.low[where], where), self._lines(self.high[where], where)
        doubt = np.float32(_ROUNDING) * np.maximum(_largest(under), _largest(over))
        surely_under, maybe_over = under - doubt, over + doubt
        inside, less = np.empty((2, n_dates, n_px), np.bool_)
        n_below = np.zeros(n_px, np.int64)
        pixels, slopes = [], []
        for lag in range(1, n_dates):
            found, below = inside[: n_dates - lag], less[: n_dates - lag]
            np.less(over[lag:], maybe_over[:-lag], out=found)
            np.less(under[lag:], surely_under[:-lag], out=below)
            _add_flags(below, n_below)
            np.greater(found, below, out=found)
            early, px = np.divmod(np.flatnonzero(found), n_px)
            pixels.append(px.astype(np.uint16))
            rise = np.subtract(values[early + lag, px], values[early, px], dtype=np.float64)
            slopes.append(rise / (self.times[early + lag] - self.times[early]))
        return np.concatenate(pixels), np.concatenate(slopes), n_below


def _largest(lines: Singles) -> Singles:
    """(P,) largest magnitude of the numbers in (T, P)."""
    found: Singles = np.fmax.reduce(np.abs(lines), axis=0)
    return found


def _median_of_one(values: Singles, times: Floats) -> float:
    known = np.isfinite(values)
    y, t = values[known].astype(np.float64), times[known]
    early, late = np.triu_indices(len(y), 1)
    return float(np.median((y[late] - y[early]) / (t[late] - t[early])))
