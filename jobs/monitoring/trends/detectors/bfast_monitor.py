"""BFAST Monitor: does a pixel still behave as the season and trend of its history say?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors import boundaries
from earthloom.jobs.monitoring.trends.detectors.anomalies import UNKNOWN, Anomalies, first_of
from earthloom.jobs.monitoring.trends.detectors.recursive import stable_since
from earthloom.jobs.monitoring.trends.detectors.regression import Bools, Fit, Floats, LeastSquares, season_trend
from earthloom.jobs.monitoring.trends.detectors.series import (
    FLAT,
    blocks,
    clear_unknown,
    history_before,
    medians,
    running_sums,
)

Process = Literal["mosum", "cusum"]
History = Literal["roc", "all"]


def bfast_monitor(
    values: NDArray[np.floating], years: NDArray[np.float64], start: float, *, order: int = 3, trend: bool = True,
    history: History = "roc", process: Process = "mosum", h: float = 0.25, end: float = 10, level: float = 0.05,
    min_observations: int = 0,
) -> Anomalies:  # fmt: skip
    """Verbesselt, J., Zeileis, A., Herold, M. (2012): Near real-time disturbance detection using satellite image time
    series. Remote Sensing of Environment 123, 98-108.

    A season-trend model is fitted by OLS to the n observations of the stable history. Residuals of what comes later are
    summed up, and a break is where the sum first leaves its boundary (Zeileis, A., Leisch, F., Kleiber, C., Hornik, K.
    (2005): Monitoring structural change in dynamic econometric models. Journal of Applied Econometrics 20, 99-121):

        MO_t = 1 / (sigma sqrt(n)) sum_{s = t - floor(h n) + 1 .. t} (y_s - x_s' b),   |MO_t| > lambda sqrt(log+ (t / n))

    for `mosum`, t counting observations; for `cusum` the sum begins with the history and the boundary is
    sqrt(t (t - 1) [a^2 + log(t / (t - 1))]) at t over n. sigma^2 is the residuals' sum of squares over n - k.

    Args:
        values: (T, P), NaN where nothing was observed.
        years: (T,), rising.
        start: start of the monitoring period, in years.
        order, trend: of the season-trend model.
        history: `roc` finds the stable part by the reverse-ordered CUSUM at `level`; `all` takes all before `start`.
        h: width of the moving sum as a share of n.
        end: longest monitoring for which the false alarms are counted, in lengths of the history.
        level: probability of a false alarm within that period.
        min_observations: least number of observations in a history; at least one more than the model's coefficients.

    Returns:
        `magnitude` is the median of the residuals of the monitoring period; `flags` are -1 and 1 while the process is
        beyond its boundary, and 0 within.

    Raises:
        InputError: if there is no date to monitor, or too few before `start`.
        ConfigError: if no critical value is known for h, end and level.
    """
    n_history = history_before(years, start)
    design = season_trend(years, order, trend=trend, origin=start)
    squares = LeastSquares(design[:n_history], min_observations)
    limit = (
        boundaries.mosum_critical_value(h, end, level) if process == "mosum" else boundaries.cusum_critical_value(level)
    )
    anomalies = Anomalies.empty(len(years) - n_history, values.shape[1])
    for part, block in blocks(values, years):
        known = clear_unknown(block)
        if history == "roc":
            since = stable_since(design[:n_history], block[:n_history], known[:n_history], level)
            known[:n_history] &= np.arange(n_history)[:, None] >= since
            block[:n_history] *= known[:n_history]
        fit = squares.fit(block[:n_history], known[:n_history])
        watched = residual_process(block, known, fit, design, n_history, process=process, h=h, limit=limit)
        anomalies.put(part, _judge(watched, known, fit, n_history))
    return anomalies


@dataclass(frozen=True, slots=True)
class ResidualProcess:
    """The process that is watched, of P pixels.

    Attributes:
        residuals: (T, P), 0 where not known.
        sigma: (P,) of the history's residuals.
        usable: (P,) whether the model was fitted and leaves residuals at all.
        level: (M, P), the process at each monitored date; without meaning where not usable.
        reach: (M, P), its boundary.
    """

    residuals: Floats
    sigma: Floats
    usable: Bools
    level: Floats
    reach: Floats


def residual_process(
    values: Floats, known: Bools, fit: Fit, design: Floats, n_history: int, *, process: Process, h: float, limit: float
) -> ResidualProcess:
    """Sums of residuals over those of the history, and their boundary.

    Args:
        values: (T, P), 0 where not known.
        known: (T, P); of the history only what the model was fitted to.
        fit: fit of the history.
        design: (T, k).
        n_history: dates of the history.
        process, h: as in `bfast_monitor`.
        limit: critical value of the process.
    """
    residuals = fit.residuals(design, values, known)
    sigma = fit.deviation(residuals[:n_history])
    usable = fit.solved & (sigma > FLAT * np.abs(values).max(axis=0))
    counts = running_sums(known, np.int16)
    sums = running_sums(residuals, np.float64)
    if process == "mosum" and known.all():
        width = max(int(h * n_history), 1)
        level = sums[n_history:] - sums[n_history - width : -width]
    elif process == "mosum":
        width = np.maximum((h * fit.n).astype(np.int64), 1) * usable
        level = _moving_sums(sums, counts, fit.n, width, n_history)
    else:
        level = sums[n_history:]
    level *= np.divide(1.0, sigma * np.sqrt(fit.n), out=np.zeros_like(sigma), where=usable)
    ratio = counts[n_history:] / np.maximum(fit.n, 1)
    reach = (boundaries.mosum_boundary if process == "mosum" else boundaries.cusum_boundary)(ratio, limit)
    return ResidualProcess(residuals=residuals, sigma=sigma, usable=usable, level=level, reach=reach)


def _judge(watched: ResidualProcess, known: Bools, fit: Fit, n_history: int) -> Anomalies:
    later = known[n_history:] & watched.usable
    outside = later & (np.abs(watched.level) > watched.reach)
    flags = np.full(outside.shape, UNKNOWN, np.int8)
    np.copyto(flags, np.sign(watched.level).astype(np.int8) * outside, where=later)
    return Anomalies(
        first=first_of(outside, n_history),
        magnitude=np.where(watched.usable, medians(watched.residuals[n_history:], later), np.nan).astype(np.float32),
        flags=flags,
        n_history=(fit.n * watched.usable).astype(np.int16),
    )


def _moving_sums(
    sums: Floats, counts: NDArray[np.int16], n: NDArray[np.int64], width: NDArray[np.int64], n_history: int
) -> Floats:
    """(M, P) sums of the last `width` (P,) residuals at each monitored date.

    The running sum is kept by the number of the observation, from the first that a window can begin after: entry e of a
    pixel is its sum after n - width + e observations, so a window that ends with observation c begins at entry c - n.

    Args:
        sums, counts: (T, P) of residuals and observations up to each date.
        n: (P,) observations of the history.
    """
    n_dates, n_px = sums.shape
    first = n - width
    begin = int((counts[:n_history] < first.min()).all(axis=1).sum())
    kept = np.zeros((int(width.max()) + n_dates - n_history + 1, n_px))
    flat, at = kept.reshape(-1), np.arange(n_px)
    found = np.empty((n_dates - n_history, n_px))
    for date in range(begin, n_dates):
        entry = np.maximum(counts[date] - first, 0)
        entry *= n_px
        entry += at
        flat[entry] = sums[date]
        if date >= n_history:
            start = np.maximum(counts[date] - n, 0)
            start *= n_px
            start += at
            np.subtract(sums[date], flat.take(start), out=found[date - n_history])
    return found
