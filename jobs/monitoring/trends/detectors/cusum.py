"""CUSUM: did the mean of a series change, when, and by how much? Looks back over all dates; needs no history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.anomalies import NO_BREAK, UNKNOWN
from earthloom.jobs.monitoring.trends.detectors.boundaries import bridge_p_values
from earthloom.jobs.monitoring.trends.detectors.regression import LeastSquares, season_trend
from earthloom.jobs.monitoring.trends.detectors.series import (
    FLAT,
    blocks,
    clear_unknown,
    running_sums,
)

_OVERSHOOT = 0.5826
"""-zeta(1/2) / sqrt(2 pi): by how much a walk of unit steps passes a boundary on average."""


@dataclass(frozen=True, slots=True)
class Shift:
    """The findings of the CUSUM of OLS residuals for P pixels.

    Attributes:
        first: (P,) int16, number of the first date after the change; NO_BREAK where the test does not reject constancy, or
            nothing can be said.
        magnitude: (P,) float32, mean of what follows the likeliest change less the mean of what comes before it, whether or
            not the test rejects; NaN where nothing can be said.
        p_value: (P,) float32; NaN where nothing can be said.
        flags: (T, P) int8: 0 before the change and where there is none, then its sign; UNKNOWN where nothing was observed.
        n: (P,) int16, observations; 0 where nothing can be said.
    """

    first: NDArray[np.int16]
    magnitude: NDArray[np.float32]
    p_value: NDArray[np.float32]
    flags: NDArray[np.int8]
    n: NDArray[np.int16]


def cusum(
    values: NDArray[np.floating], years: NDArray[np.float64], *, order: int = 0, level: float = 0.05,
    min_observations: int = 0,
) -> Shift:  # fmt: skip
    """Ploberger, W., Kraemer, W. (1992): The CUSUM test with OLS residuals. Econometrica 60, 271-285.

        W(i) = 1 / (sigma sqrt(n)) sum_{s <= i} (y_s - x_s' b),   p = P(sup |Brownian bridge| > max_i |W(i)| + 0.5826 / sqrt(n))

    sigma^2 is the residuals' sum of squares over n - k. The change lies after the observation at which |W| is largest. A sum
    over n steps peaks lower than the bridge, by that term (Siegmund, D. (1985): Sequential Analysis. Springer, chapter X);
    without it the test could never reject at 0.05 with 8 observations. With it false alarms are 0.05 from about 60 on and
    fewer below: 0.036 of 20, 0.009 of 8.

    Args:
        values: (T, P), NaN where nothing was observed.
        years: (T,), rising.
        order: harmonics of a year that are fitted with the mean; 0 for one value a year. There is no trend, under which the
            limit would be another one.
        level: at which constancy is rejected.
        min_observations: below that nothing is said; at least one more than the model's coefficients.

    Raises:
        InputError: if there are too few dates, the shapes do not fit each other or the times do not rise.
    """
    n_dates, n_px = values.shape
    design = season_trend(years, order, trend=False, origin=float(years[0]))
    squares = LeastSquares(design, min_observations)
    shift = Shift(
        first=np.full(n_px, NO_BREAK, np.int16), magnitude=np.full(n_px, np.nan, np.float32),
        p_value=np.full(n_px, np.nan, np.float32), flags=np.full((n_dates, n_px), UNKNOWN, np.int8),
        n=np.zeros(n_px, np.int16),
    )  # fmt: skip
    dates = np.arange(n_dates, dtype=np.int16)[:, None]
    for part, block in blocks(values, years):
        known = clear_unknown(block)
        fit = squares.fit(block, known)
        residuals = fit.residuals(design, block, known)
        sigma = fit.deviation(residuals)
        usable = fit.solved & (sigma > FLAT * np.abs(block).max(axis=0))
        sums = running_sums(residuals, np.float64)
        counts = running_sums(known, np.int16)
        last = np.abs(sums).argmax(axis=0)  # of equal sums the first: an observation, never a gap after it
        at = np.arange(len(last))
        before, total = counts[last, at], sums[last, at]
        statistic = np.divide(np.abs(total), sigma * np.sqrt(fit.n), out=np.zeros(len(last)), where=usable)
        p_value = bridge_p_values(statistic + _OVERSHOOT / np.sqrt(np.maximum(fit.n, 1)))
        # the residuals' sum is 0, so that what follows sums up to -total
        magnitude = -total / np.maximum(fit.n - before, 1) - total / np.maximum(before, 1)
        changed = usable & (p_value < level)
        first = np.where(changed, (counts > before).argmax(axis=0), NO_BREAK).astype(np.int16)
        flags = np.where(changed & (dates >= first), np.sign(magnitude), 0).astype(np.int8)
        size = part.stop - part.start
        shift.first[part] = first[:size]
        shift.magnitude[part] = np.where(usable, magnitude, np.nan)[:size]
        shift.p_value[part] = np.where(usable, p_value, np.nan)[:size]
        shift.flags[:, part] = np.where(known & usable, flags, UNKNOWN)[:, :size]
        shift.n[part] = (fit.n * usable)[:size]
    return shift
