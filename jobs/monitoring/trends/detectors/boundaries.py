"""Critical values and boundaries: the reach of a process of residuals beyond which its model is rejected.

Closed forms where there are; the moving sum's values are quantiles of its simulated limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import ConfigError

Floats = NDArray[np.float64]

LEVELS = (0.001, 0.01, 0.05, 0.1, 0.2)
SHARES = (0.25, 0.5, 1.0)
"""Widths h of a moving sum, as shares of the history."""
ENDS = (2, 4, 6, 8, 10)
"""Ends of monitoring, in lengths of the history."""


_CERTAIN = 0.25
_MOSUM = {
    (0.25, 2): (2.365, 2.021, 1.733, 1.592, 1.431),
    (0.25, 4): (2.464, 2.145, 1.885, 1.757, 1.613),
    (0.25, 6): (2.465, 2.148, 1.892, 1.766, 1.627),
    (0.25, 8): (2.465, 2.148, 1.893, 1.767, 1.630),
    (0.25, 10): (2.465, 2.148, 1.893, 1.768, 1.631),
    (0.5, 2): (3.433, 2.858, 2.377, 2.136, 1.869),
    (0.5, 4): (3.653, 3.108, 2.665, 2.448, 2.200),
    (0.5, 6): (3.655, 3.113, 2.680, 2.472, 2.234),
    (0.5, 8): (3.655, 3.113, 2.683, 2.476, 2.242),
    (0.5, 10): (3.655, 3.114, 2.684, 2.478, 2.245),
    (1.0, 2): (4.907, 3.950, 3.147, 2.749, 2.304),
    (1.0, 4): (5.491, 4.584, 3.820, 3.433, 2.997),
    (1.0, 6): (5.503, 4.603, 3.863, 3.494, 3.081),
    (1.0, 8): (5.503, 4.607, 3.873, 3.508, 3.105),
    (1.0, 10): (5.503, 4.607, 3.876, 3.514, 3.115),
}
"""By (h, end), for LEVELS: quantiles of 300,000 paths of 1,000 steps to a length of the history. At h 0.25, end 10 and level
0.05 R's strucchange has 1.898, from a simulation of its own."""


def mosum_critical_value(h: float, end: float, level: float) -> float:
    """Critical value of the moving sum of OLS residuals whose boundary is `mosum_boundary` (Zeileis et al. 2005, section 3).

    The quantile 1 - level of sup_{1 <= t <= end} |W(t) - W(t - h) - h W(1)| / sqrt(log+ t), W a Wiener process.

    Raises:
        ConfigError: if the table has no such entry.
    """
    if h not in SHARES or end not in ENDS or level not in LEVELS:
        raise ConfigError(
            f"critical values are known for 'h' of {_listed(SHARES)}, 'end' of {_listed(ENDS)} and 'level' of "
            f"{_listed(LEVELS)}; got {h:g}, {end:g} and {level:g}"
        )
    return _MOSUM[(h, int(end))][LEVELS.index(level)]


def mosum_boundary(ratio: Floats, critical_value: float) -> Floats:
    """lambda sqrt(log+ t), with log+ t = 1 up to e (Leisch, Hornik and Kuan 2000).

    Args:
        ratio: t, observations so far over those of the history.
    """
    late = ratio > math.e
    if not late.any():
        return np.full(ratio.shape, critical_value)
    found: Floats = critical_value * np.sqrt(np.log(ratio, out=np.ones_like(ratio), where=late))
    return found


@cache
def cusum_critical_value(level: float) -> float:
    """a of `cusum_boundary` (Chu, Stinchcombe and White 1996, Monitoring structural change, Econometrica 64, 1045-1065).

    The boundary is crossed with probability 2 [1 - Phi(a) + a phi(a)].
    """

    def crossed(a: float) -> float:
        return math.erfc(a / math.sqrt(2)) + 2 * a * math.exp(-a * a / 2) / math.sqrt(2 * math.pi)

    return _where(crossed, level)


def cusum_boundary(ratio: Floats, critical_value: float) -> Floats:
    """sqrt(t (t - 1) [a^2 + log(t / (t - 1))]), for t > 1; 0 at 1."""
    beyond = np.maximum(ratio - 1, 1e-9)
    found: Floats = np.sqrt((1 + beyond) * beyond * (critical_value**2 + np.log(1 / beyond + 1)))
    return found


@cache
def recursive_cusum_critical_value(level: float) -> float:
    """a of the lines +-a (1 + 2 t) for the CUSUM of recursive residuals (Brown, Durbin and Evans 1975, equation 10).

    One line is crossed with probability Q(3a) + exp(-4a^2) (1 - Q(a)), Q(x) the upper tail of the normal distribution.
    """

    def crossed(a: float) -> float:
        return 2 * (_upper_tail(3 * a) + math.exp(-4 * a * a) * (1 - _upper_tail(a)))

    return _where(crossed, level)


def bridge_p_values(sizes: Floats) -> Floats:
    """Probability that a Brownian bridge goes beyond +-x: 2 sum_{i >= 1} (-1)^(i+1) exp(-2 i^2 x^2) (Kolmogorov 1933)."""
    x = np.maximum(sizes, _CERTAIN)  # the series alternates: for less than this it needs more terms, and its sum is 1
    found: Floats = np.zeros_like(x)
    for i in range(1, 20):
        found += (2 if i % 2 else -2) * np.exp(-2 * i * i * x * x)
    return np.clip(found, 0, 1)


def _upper_tail(x: float) -> float:
    return math.erfc(x / math.sqrt(2)) / 2


def _where(falling: Callable[[float], float], level: float) -> float:
    """The argument at which a falling function comes down to `level`, by bisection.

    Raises:
        ConfigError: if the level is no probability below 1.
    """
    if not 0 < level < 1:
        raise ConfigError(f"'level={level:g}' is the probability of a false alarm: more than 0 and less than 1")
    low, high = 0.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > level else (low, middle)
    return high


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
