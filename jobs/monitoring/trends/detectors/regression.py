"""Season and trend by ordinary least squares, for many pixels whose observations are missing at different dates.

Normal equations, pixels innermost, so that each step is one operation on contiguous arrays. Which dates a pixel has enters
only through the sums of the regressors' products over those dates, and these are looked up for eight dates at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import InputError
from earthloom.tiling.rounding import ceil_div

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_DATES = 8
"""Dates in one entry of a table of sums: the bits of a byte."""
_SINGULAR = 1e-9
"""A pivot below this share of its own sum of squares says that the dates do not tell the regressors apart."""


def season_trend(years: Floats, order: int, *, trend: bool, origin: float) -> Floats:
    """Regressors (T, k) of the season-trend model of Verbesselt, Zeileis and Herold (2012), their equation 1:

        y_t = a_1 + a_2 t + sum_{j=1..order} g_j sin(2 pi j t + d_j)

    A constant, the years since `origin` where `trend`, then cosine and sine of each harmonic of a year.

    Args:
        years: (T,) times in years.
        order: harmonics; 0 for none.
        trend: whether the mean may drift.
        origin: where the trend is 0; only the numbers' size depends on it.
    """
    columns = [np.ones_like(years)]
    if trend:
        columns.append(years - origin)
    for j in range(1, order + 1):
        angle = 2 * np.pi * j * np.mod(years, 1)
        columns += [np.cos(angle), np.sin(angle)]
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class Fit:
    """Least squares of many pixels.

    Attributes:
        coefficients: (k, P); 0 where there is no solution.
        n: (P,) observations.
        solved: (P,) whether there were enough observations, at dates that tell the regressors apart.
    """

    coefficients: Floats
    n: NDArray[np.int64]
    solved: Bools

    def predict(self, design: Floats, out: Floats) -> Floats:
        """Values (T, P) of the model at the dates of `design` (T, k), written to `out`."""
        return np.einsum("tk,kp->tp", design, self.coefficients, out=out, optimize=False)

    def residuals(self, design: Floats, values: Floats, known: Bools) -> Floats:
        """Values (T, P) less those of the model; 0 where not known."""
        found = self.predict(design, np.empty_like(values))
        np.subtract(values, found, out=found)
        found *= known
        return found

    def deviation(self, residuals: Floats) -> Floats:
        """(P,) standard deviation of what the model was fitted to, by the degrees of freedom that are left."""
        squares = np.add.reduce(residuals * residuals, axis=0)
        found: Floats = np.sqrt(squares / np.maximum(self.n - len(self.coefficients), 1))
        return found


class LeastSquares:
    """Regressors at given dates, ready for any number of blocks of pixels.

    Args:
        design: (n, k), regressors at the dates that the model is fitted to.
        min_observations: below that a pixel is not fitted; never less than k + 1.

    Raises:
        InputError: if there are fewer dates than `min_observations`.
    """

    def __init__(self, design: Floats, min_observations: int = 0) -> None:
        n_dates, k = design.shape
        self._design = design
        self._least = max(min_observations, k + 1)
        if n_dates < self._least:
            raise InputError(
                f"a model of {k} coefficients is fitted to at least {self._least} dates, and its period has {n_dates}; "
                "name a longer one, or a lower 'order'"
            )
        rows, columns = np.tril_indices(k)
        self._tables = _tables(design[:, rows] * design[:, columns])

    def fit(self, values: Floats, known: Bools) -> Fit:
        """Coefficients that make the squared residuals smallest.

        Args:
            values: (n, P), 0 where not known.
            known: (n, P).
        """
        moments = np.einsum("tk,tp->kp", self._design, values, optimize=False)
        dates = np.packbits(known[:, :1] if known.all() else known, axis=0)  # without gaps all have the same products
        products = np.zeros((dates.shape[1], self._tables.shape[2]))
        found = np.empty_like(products)
        for table, bits in zip(self._tables, dates, strict=True):
            np.take(table, bits, axis=0, out=found, mode="clip")
            np.add(products, found, out=products)
        n = known.sum(axis=0, dtype=np.int64)
        coefficients, regular = _solve(np.ascontiguousarray(products.T), moments)
        solved = regular & (n >= self._least)
        coefficients *= solved
        return Fit(coefficients=coefficients, n=n, solved=solved)


def _tables(products: Floats) -> Floats:
    """(G, 256, q): for eight dates each, the sum of `products` (n, q) over those whose bit is set, the first the highest."""
    n_dates, q = products.shape
    n_groups = ceil_div(n_dates, _DATES)
    padded = np.zeros((n_groups * _DATES, q))
    padded[:n_dates] = products
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    tables = np.zeros((n_groups, 256, q))
    for place in range(_DATES):
        tables += bits[:, place][None, :, None] * padded[place::_DATES][:, None, :]
    return tables


def _solve(triangle: Floats, moments: Floats) -> tuple[Floats, Bools]:
    """Solutions (k, P) of symmetric positive systems by Cholesky's method, and (P,) where they are unique.

    Args:
        triangle: (k (k + 1) / 2, P or 1), lower triangles by rows; written to. One may serve all pixels.
        moments: (k, P), right-hand sides; written to.
    """
    k, n_systems = len(moments), triangle.shape[1]
    rows = [triangle[i * (i + 1) // 2 : i * (i + 1) // 2 + i + 1] for i in range(k)]
    least = np.stack([rows[i][i] for i in range(k)]) * _SINGULAR
    regular = np.ones(n_systems, np.bool_)
    terms = np.empty_like(moments)
    factors, reciprocals = np.empty((2, k, n_systems))
    for j in range(k):
        pivot, scale = rows[j][j], reciprocals[j]
        regular &= pivot > least[j]
        np.copyto(pivot, 1.0, where=~regular)
        np.divide(1.0, np.sqrt(pivot), out=scale)
        below = range(j + 1, k)
        for i in below:
            rows[i][j] *= scale
        column = np.stack([rows[i][j] for i in below]) if below else factors[:0]
        for i in below:
            size = i - j
            np.multiply(column[:size], rows[i][j], out=factors[:size])
            rows[i][j + 1 : i + 1] -= factors[:size]
        moments[j] *= scale
        for i in below:
            moments[i] -= np.multiply(rows[i][j], moments[j], out=terms[0])
    for j in reversed(range(k)):
        moments[j] *= reciprocals[j]
        if j:
            np.multiply(rows[j][:j], moments[j], out=terms[:j])
            moments[:j] -= terms[:j]
    return moments, regular
