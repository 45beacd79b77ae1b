"""The findings of a monitor with a date to begin at, for many pixels. Knows no monitor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -128
"""Flag of a date at which nothing was observed, or of a pixel that cannot be monitored."""
NO_BREAK = -1


@dataclass(frozen=True, slots=True)
class Anomalies:
    """The findings of a monitor with a date to begin at, for P pixels.

    Attributes:
        first: (P,) int16, number of the date of the first anomaly, counted from the series' first date; NO_BREAK where
            there is none, also where the pixel cannot be monitored.
        magnitude: (P,) float32, in the values' unit; NaN where the pixel cannot be monitored.
        flags: (M, P) int8 for the M dates from the beginning of monitoring on: 0 as the model expects, negative below,
            positive above; UNKNOWN where nothing was observed or the pixel cannot be monitored. A flag follows from the dates
            up to its own: later ones do not change it.
        n_history: (P,) int16, observations that the model was fitted to; 0 where the pixel cannot be monitored.
    """

    first: NDArray[np.int16]
    magnitude: NDArray[np.float32]
    flags: NDArray[np.int8]
    n_history: NDArray[np.int16]

    @classmethod
    def empty(cls, n_monitored: int, n_px: int) -> Anomalies:
        """Nothing said yet, for results to be put in."""
        return cls(
            first=np.full(n_px, NO_BREAK, np.int16), magnitude=np.full(n_px, np.nan, np.float32),
            flags=np.full((n_monitored, n_px), UNKNOWN, np.int8), n_history=np.zeros(n_px, np.int16),
        )  # fmt: skip

    def put(self, part: slice, other: Anomalies) -> None:
        """Take over the first pixels of `other`, as many as `part` has."""
        n_px = part.stop - part.start
        self.first[part] = other.first[:n_px]
        self.magnitude[part] = other.magnitude[:n_px]
        self.flags[:, part] = other.flags[:, :n_px]
        self.n_history[part] = other.n_history[:n_px]


def first_of(flagged: NDArray[np.bool_], offset: int) -> NDArray[np.int16]:
    """(P,) number of the first true date of (M, P), plus `offset`; NO_BREAK where none is."""
    if not flagged.shape[0]:
        return np.full(flagged.shape[1], NO_BREAK, np.int16)
    found = flagged.argmax(axis=0).astype(np.int16)
    found += np.int16(offset)
    return np.where(flagged.any(axis=0), found, np.int16(NO_BREAK))
