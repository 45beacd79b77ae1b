"""Mann and Kendall's test for a trend, and Sen's slope."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.sen import count_falling, count_rising, median_slopes
from earthloom.jobs.monitoring.trends.detectors.series import blocks

Singles = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trend:
    """The findings of Mann and Kendall's test for P pixels; NaN where fewer than `min_observations` were made.

    Attributes:
        slope: (P,) Sen's slope, in the values' unit per year.
        p_value: (P,) of the two-sided test that there is no trend.
        tau: (P,) Kendall's tau-b of values and time.
        n: (P,) observations.
    """

    slope: Singles
    p_value: Singles
    tau: Singles
    n: NDArray[np.int16]


def mann_kendall(
    values: NDArray[np.floating], years: NDArray[np.float64], *, min_observations: int = 4
) -> Trend:  # fmt: skip
    """Mann, H. B. (1945): Nonparametric tests against trend. Econometrica 13, 245-259. Kendall, M. G. (1975): Rank
    correlation methods. Griffin, London. Sen, P. K. (1968): Estimates of the regression coefficient based on Kendall's tau.
    Journal of the American Statistical Association 63, 1379-1389.

        S = sum_{i < j} sign(y_j - y_i),   Var(S) = [n (n - 1) (2 n + 5) - sum_ties t (t - 1) (2 t + 5)] / 18
        Z = (S - sign(S)) / sqrt(Var(S)),   p = 2 (1 - Phi(|Z|)),   tau_b = S / sqrt(n_0 (n_0 - n_1))

    n_0 = n (n - 1) / 2 pairs, of which n_1 have equal values. The slope is the median of (y_j - y_i) / (t_j - t_i) over all
    pairs. The normal approximation of p is good from about 8 observations on. Nothing is corrected for autocorrelation
    within or between years: give one value a year, or expect p-values that are too small.

    Args:
        values: (T, P), NaN where nothing was observed; taken in float32.
        years: (T,), rising.
        min_observations: below that nothing is said; at least 3.

    Raises:
        InputError: if the shapes do not fit each other or the times do not rise.
    """
    n_px = values.shape[1]
    slopes, p_values, taus = np.full((3, n_px), np.nan, np.float32)
    trend = Trend(slope=slopes, p_value=p_values, tau=taus, n=np.zeros(n_px, np.int16))
    times = years - years[0]
    for part, block in blocks(values.astype(np.float32, copy=False), years):
        single = block.astype(np.float32)
        n = np.isfinite(single).sum(axis=0)
        pairs = n * (n - 1) // 2
        falling, rising = count_falling(single), count_rising(single)
        s, equal = rising - falling, pairs - rising - falling
        variance = (n * (n - 1) * (2 * n + 5) - _ties(single, equal > 0)) / 18
        z = np.divide(np.abs(s) - (s != 0), np.sqrt(variance), out=np.zeros(len(s)), where=variance > 0)
        p = np.fromiter(map(math.erfc, (z / math.sqrt(2)).tolist()), np.float64, len(z))
        root = np.sqrt(pairs.astype(np.float64) * (pairs - equal))
        tau = np.divide(s, root, out=np.zeros(len(s)), where=root > 0)
        slope = median_slopes(single, times, falling, rising, pairs)
        size, enough = part.stop - part.start, n >= max(min_observations, 3)
        for array, found in ((trend.slope, slope), (trend.p_value, p), (trend.tau, tau)):
            array[part] = np.where(enough, found, np.nan)[:size]
        trend.n[part] = n[:size]
    return trend


def _ties(values: Singles, where: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(P,) sum of t (t - 1) (2 t + 5) over the groups of t equal values, of the pixels `where` there are any.

    A group that grows from r to r + 1 adds 6 r (r + 2).
    """
    found = np.zeros(values.shape[1], np.int64)
    chosen = np.flatnonzero(where)
    rows = np.sort(values[:, chosen].T, axis=1)
    equal = (rows[:, 1:] == rows[:, :-1]).T
    run, total = np.zeros((2, len(chosen)), np.int64)
    for column in equal:
        run += 1
        run *= column
        total += 6 * run * (run + 2)
    found[chosen] = total
    return found
