"""EWMACD: an exponentially weighted moving average of residuals from a harmonic model, on a control chart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.anomalies import NO_BREAK, UNKNOWN, Anomalies
from earthloom.jobs.monitoring.trends.detectors.regression import Bools, Fit, Floats, LeastSquares, season_trend
from earthloom.jobs.monitoring.trends.detectors.series import FLAT, blocks, clear_unknown, history_before
from earthloom.tiling.errors import InputError

_MOST = 127


def ewmacd(
    values: NDArray[np.floating], years: NDArray[np.float64], start: float, *, order: int = 2, lambda_: float = 0.3,
    control_limit: float = 3.0, persistence: int = 3, xbar_limit_1: float = 1.5, xbar_limit_2: float = 20.0,
    min_observations: int = 0,
) -> Anomalies:  # fmt: skip
    """Brooks, E. B., Wynne, R. H., Thomas, V. A., Blinn, C. E., Coulston, J. W. (2014): On-the-fly massively multitemporal
    change detection using statistical quality control charts and Landsat data. IEEE Transactions on Geoscience and Remote
    Sensing 52, 3316-3332.

    A constant and `order` pairs of sine and cosine are fitted to the training period, all before `start`. Residuals beyond
    `xbar_limit_1` of their standard deviations (Shewhart's X-bar chart: clouds and shadows) are left out and the rest is
    fitted again. The chart takes residuals r_1, r_2, … within `xbar_limit_1` standard deviations of the training period's,
    and within `xbar_limit_2` of them later on; s is the standard deviation of those of the training period that it takes:

        z_1 = r_1,   z_i = lambda r_i + (1 - lambda) z_(i-1),   limit_i = L s sqrt(lambda / (2 - lambda) (1 - (1 - lambda)^2i))

    and its flag is z_i / limit_i, cut off towards 0.

    Args:
        values: (T, P), NaN where nothing was observed.
        years: (T,), rising.
        start: end of training and beginning of monitoring, in years.
        order: pairs of sine and cosine.
        lambda_: weight of the newest residual, above 0 and at most 1; 1 makes a Shewhart chart.
        control_limit: L, in standard deviations of z.
        persistence: observations with flags of one sign that make a break.
        xbar_limit_1, xbar_limit_2: of the training period, and after it.
        min_observations: least number of observations in the training period; at least one more than the model's coefficients.

    Returns:
        `first` is the first flag of a run of `persistence` flags of one sign; `magnitude` is z at the last observation;
        `flags` are those of the chart, each known when its date is, within -127 and 127.

    Raises:
        InputError: if there is no date to monitor, too few before `start`, or a parameter is out of its range.
    """
    if not 0 < lambda_ <= 1 or control_limit <= 0 or persistence < 1:
        raise InputError(
            f"EWMACD takes a lambda above 0 and at most 1, a control_limit above 0 and a persistence of at least 1; got "
            f"{lambda_:g}, {control_limit:g} and {persistence}"
        )
    n_training = history_before(years, start)
    design = season_trend(years, order, trend=False, origin=start)
    squares = LeastSquares(design[:n_training], min_observations)
    anomalies = Anomalies.empty(len(years) - n_training, values.shape[1])
    for part, block in blocks(values, years):
        known = clear_unknown(block)
        training, past = block[:n_training], known[:n_training]
        residuals = np.empty_like(block)
        fit = squares.fit(training, past)
        np.subtract(training, fit.predict(design[:n_training], residuals[:n_training]), out=residuals[:n_training])
        kept = past & (np.abs(residuals[:n_training]) <= xbar_limit_1 * _deviation(residuals[:n_training], past))
        fit = squares.fit(training * kept, kept)
        np.subtract(block, fit.predict(design, residuals), out=residuals)
        spread, sizes = _deviation(residuals[:n_training], past), np.abs(residuals)
        past &= sizes[:n_training] <= xbar_limit_1 * spread
        known[n_training:] &= sizes[n_training:] <= xbar_limit_2 * spread
        sigma = _deviation(residuals[:n_training], past)
        usable = fit.solved & (sigma > FLAT * np.abs(block).max(axis=0))
        known &= usable
        anomalies.put(
            part,
            _chart(
                residuals, known, np.where(usable, sigma, 0.0), fit, n_training, lambda_, control_limit, persistence
            ),
        )
    return anomalies


def _deviation(residuals: Floats, known: Bools) -> Floats:
    """(P,) standard deviation of the known among (n, P), over their number less 1."""
    n = np.add.reduce(known, axis=0, dtype=np.float64)
    mean = np.add.reduce(residuals * known, axis=0) / np.maximum(n, 1)
    deviations = residuals - mean
    deviations *= known
    deviations *= deviations
    found: Floats = np.sqrt(np.add.reduce(deviations, axis=0) / np.maximum(n - 1, 1))
    return found


def _chart(
    residuals: Floats, known: Bools, sigma: Floats, fit: Fit, n_training: int, lambda_: float, control_limit: float,
    persistence: int,
) -> Anomalies:  # fmt: skip
    """`sigma` is 0 where nothing can be said."""
    n_dates, n_px = residuals.shape
    usable = sigma > 0
    # limits over sigma by number of the observation, which is 0 before the first
    numbers = np.arange(n_dates + 1)
    widths = control_limit * np.sqrt(lambda_ / (2 - lambda_) * (1 - (1 - lambda_) ** (2.0 * np.maximum(numbers, 1))))
    z, step = np.zeros(n_px), np.empty(n_px)
    count = np.zeros(n_px, np.int64)
    reciprocal = np.divide(1.0, sigma, out=np.zeros(n_px), where=usable)
    flags = np.full((n_dates - n_training, n_px), UNKNOWN, np.int8)
    for date in range(n_dates):
        seen = known[date]
        np.subtract(residuals[date], z, out=step)
        weight = np.where(count == 0, 1.0, lambda_)
        weight *= seen
        step *= weight
        z += step
        count += seen
        if date >= n_training:
            ratio = z * reciprocal
            ratio /= widths.take(count)
            np.clip(ratio, -_MOST, _MOST, out=ratio)
            np.copyto(flags[date - n_training], ratio, where=seen, casting="unsafe")
    return Anomalies(
        first=_persisting(flags, persistence, n_training),
        magnitude=np.where(usable, z, np.nan).astype(np.float32),
        flags=flags,
        n_history=(fit.n * usable).astype(np.int16),
    )


def _persisting(flags: NDArray[np.int8], persistence: int, offset: int) -> NDArray[np.int16]:
    """(P,) number of the first date of the first run of `persistence` flags of one sign, dates without one passed over."""
    n_px = flags.shape[1]
    first = np.full(n_px, NO_BREAK, np.int16)
    sign, begun, length = np.zeros(n_px, np.int8), np.zeros(n_px, np.int16), np.zeros(n_px, np.int16)
    for date, row in enumerate(flags):
        seen = row != UNKNOWN
        now = np.sign(row)
        new = seen & (now != sign)
        np.copyto(sign, now, where=new)
        np.copyto(begun, np.int16(date + offset), where=new)
        np.copyto(length, 0, where=new)
        length += seen
        lasting = (length >= persistence) & (sign != 0) & (first < 0)
        np.copyto(first, begun, where=lasting)
    return first
