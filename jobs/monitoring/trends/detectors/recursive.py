"""Recursive residuals, and the stable part of a history that they leave: the reverse-ordered CUSUM.

Pesaran and Timmermann (2002), Market timing and return prediction under model instability, Journal of Empirical Finance
9, 495-510, as Verbesselt, Zeileis and Herold (2012) use it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.boundaries import recursive_cusum_critical_value
from earthloom.jobs.monitoring.trends.detectors.regression import Bools, Floats
from earthloom.jobs.monitoring.trends.detectors.series import running_sums

_NOTHING = 1e-100
"""Weight of what is known before the first observation: too little to count beside one, and no division by 0."""


def recursive_residuals(design: Floats, values: Floats, known: Bools) -> Floats:
    """One-step-ahead errors of the regression on the dates before, each over its standard error in units of sigma.

        w_r = (y_r - x_r' b_(r-1)) / sqrt(1 + x_r' (X_(r-1)' X_(r-1))^-1 x_r)

    (Brown, Durbin and Evans 1975, Techniques for testing the constancy of regression relationships over time, Journal of
    the Royal Statistical Society B 37, 149-192.) They are what is left of an observation that is rotated into the
    triangular factor of those before it (Gentleman 1974, Algorithm AS 75, Applied Statistics 23, 448-454), which needs
    neither an inverse nor a first fit: the first k observations of a pixel leave 0.

    Args:
        design: (n, k) in the order in which observations come.
        values, known: (n, P).

    Returns:
        (n, P), 0 where not known and of each pixel's first k observations.
    """
    n_dates, k = design.shape
    n_px = values.shape[1]
    squares = np.full((k, n_px), _NOTHING)
    factor = np.zeros((k, k + 1, n_px))  # unit upper triangle; the last column is of the values
    row, terms = np.empty((k + 1, n_px)), np.empty((k, n_px))
    weight, part, share, square = np.empty((4, n_px))
    found = np.empty((n_dates, n_px))
    for at in range(n_dates):
        row[:k], row[k] = design[at][:, None], values[at]
        weight[:] = known[at]
        for i in range(k):
            np.multiply(weight, row[i], out=part)
            np.multiply(part, row[i], out=square)
            square += squares[i]  # of the factor's row, with this observation
            np.divide(1.0, square, out=share)
            part *= share
            share *= squares[i]
            weight *= share
            squares[i] = square
            rest, above, below = row[i + 1 :], factor[i, i + 1 :], terms[: k - i]
            np.multiply(above, row[i], out=below)
            rest -= below
            np.multiply(rest, part, out=below)
            above += below
        np.sqrt(weight, out=weight)
        np.multiply(row[k], weight, out=found[at])
    return found


def stable_since(design: Floats, values: Floats, known: Bools, level: float) -> NDArray[np.int64]:
    """(P,) number of the date from which on the history is stable, looking back from its end.

    The residuals of the reversed history are summed up; where |sum| / (sigma sqrt(n - k)) first leaves a (1 + 2 r), r from
    0 to 1 over the n - k residuals, the regression was another one: the stable history begins with the date after that.

    Args:
        design: (n, k), oldest date first.
        values, known: (n, P).
        level: level of the test.
    """
    n_dates, k = design.shape
    errors = recursive_residuals(design[::-1], values[::-1], known[::-1])
    counts = running_sums(known[::-1], np.int16)
    n = np.maximum(counts[-1] - k, 2).astype(np.float64)
    used = known[::-1] & (counts > k)
    errors *= used
    sums = running_sums(errors, np.float64)
    deviations = errors - sums[-1] / n
    deviations *= used
    deviations *= deviations
    sigma = np.sqrt(np.add.reduce(deviations, axis=0) / (n - 1))
    limit = recursive_cusum_critical_value(level) * sigma * np.sqrt(n)
    reach = (counts - k) * (2 / n)
    reach += 1
    reach *= limit
    np.abs(sums, out=sums)
    outside = sums > reach
    outside &= used
    crossing = np.where(outside.any(axis=0), outside.argmax(axis=0), n_dates)
    return np.asarray(n_dates - crossing, np.int64)
