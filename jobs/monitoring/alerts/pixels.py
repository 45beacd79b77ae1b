"""The life of a pixel under a rule, date by date. Arrays in, arrays changed; knows nothing of files or of polygons.

A pixel is **idle**, or **armed** once it was last seen in the state that the change begins from. The first observation of
the change makes an armed pixel **provisional**; each further one in a row is counted, and the rule's `confirmations`-th
makes it **confirmed**. Any other observation drops a provisional pixel. A confirmed one is over after `closing` others in a
row, or on the date after the one that completed `settling` observations of the change: it has become the rule. What is not
observed says nothing, and leaves all as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.rule import MOST_COUNTED, MOST_OBSERVATIONS, Change, Direction, Rule
from earthloom.jobs.monitoring.trends.detectors.anomalies import UNKNOWN
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import TilingError

NOTHING, BEFORE, AFTER, OTHER = range(4)
"""The word of one date on a pixel: nothing, the state before the change, the state after it, any other."""

IDLE, ARMED, PROVISIONAL, CONFIRMED = range(4)
"""Phase of a pixel. From PROVISIONAL on it is active: part of an alert."""

MAGNITUDE_STEPS = 10_000
"""Stored magnitude = round(magnitude * 10000): integers, whose sums do not depend on the order of adding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The word of one date on each pixel of a window."""

    seen: NDArray[np.uint8]
    """(h, w): NOTHING, BEFORE, AFTER or OTHER."""
    confidence: NDArray[np.uint8] | None = None
    """(h, w): stored probability, 0 to 250, of the observed class; None where the source states none."""
    magnitude: NDArray[np.int32] | None = None
    """(h, w): how large the change is, in steps of 1/10000; None where it is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelStates:
    """The stages of life of a window's pixels. Arrays (h, w), changed in place by `advance`.

    All but `phase` are 0 where a pixel is not active.
    """

    phase: NDArray[np.uint8]
    misses: NDArray[np.uint8]
    """Observations in a row without the change, of a confirmed pixel."""
    count: NDArray[np.uint16]
    """Observations of the change."""
    first_day: NDArray[np.int32]
    """Date of the first of them, in days since 1970-01-01."""
    last_day: NDArray[np.int32]
    confidence: NDArray[np.uint32]
    """Sum of their stored probabilities."""
    magnitude: NDArray[np.int64]
    """Sum of their stored magnitudes."""

    @classmethod
    def idle(cls, shape: tuple[int, int]) -> PixelStates:
        """Pixels that were never seen. `shape` is (h, w)."""
        return cls(
            phase=np.zeros(shape, np.uint8), misses=np.zeros(shape, np.uint8), count=np.zeros(shape, np.uint16),
            first_day=np.zeros(shape, np.int32), last_day=np.zeros(shape, np.int32),
            confidence=np.zeros(shape, np.uint32), magnitude=np.zeros(shape, np.int64),
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w)"""
        height, width = self.phase.shape
        return height, width

    @property
    def active(self) -> NDArray[np.bool_]:
        """Provisional and confirmed pixels. (h, w)"""
        is_active: NDArray[np.bool_] = self.phase >= PROVISIONAL
        return is_active

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


def advance(states: PixelStates, observation: Observation, day: int, rule: Rule) -> None:
    """Take one date into account. Dates must come in ascending order.

    Args:
        states: changed in place.
        observation: of the date, of the same shape.
        day: the date, in days since 1970-01-01.
        rule: `confirmations` and `closing`.

    Raises:
        TilingError: if the shapes differ.
    """
    if observation.seen.shape != states.shape:
        raise TilingError(f"an observation of {observation.seen.shape} px cannot advance states of {states.shape} px")
    phase, seen = states.phase.reshape(-1), observation.seen.reshape(-1)
    flat = {name: values.reshape(-1) for name, values in states.arrays().items()}
    if rule.settling:
        _end(flat, np.flatnonzero(flat["count"] >= rule.settling))
    active = phase >= PROVISIONAL

    hits = np.flatnonzero((seen == AFTER) & (phase >= ARMED))
    begun = hits[phase[hits] == ARMED]
    flat["first_day"][begun] = day
    flat["last_day"][hits] = day
    flat["misses"][hits] = 0
    count = flat["count"][hits]
    count += count < MOST_COUNTED
    flat["count"][hits] = count
    if observation.confidence is not None:
        flat["confidence"][hits] += observation.confidence.reshape(-1)[hits]
    if observation.magnitude is not None:
        flat["magnitude"][hits] += observation.magnitude.reshape(-1)[hits]
    phase[hits] = np.where(count >= rule.confirmations, CONFIRMED, PROVISIONAL)

    others = (seen == BEFORE) | (seen == OTHER)
    missed = np.flatnonzero(others & active)
    misses = flat["misses"][missed]
    misses += misses < MOST_OBSERVATIONS
    flat["misses"][missed] = misses
    over = phase[missed] == PROVISIONAL
    if rule.closing:
        over |= misses >= rule.closing
    _end(flat, missed[over])  # and armed at once, if that is where a pixel was seen
    rest = others & (phase < PROVISIONAL)
    phase[rest] = np.where(seen[rest] == BEFORE, ARMED, IDLE)


def _end(flat: dict[str, NDArray[Any]], pixels: NDArray[np.intp]) -> None:
    for values in flat.values():
        values[pixels] = 0  # also of the phase: IDLE


def observe_classes(classes: NDArray[np.uint8], confidence: NDArray[np.uint8], change: Change) -> Observation:
    """Observe a change in a class map and its confidence. Both (h, w) as stored; 255 in either is no observation."""
    table = np.full(256, OTHER, np.uint8)
    table[list(change.before)] = BEFORE
    table[list(change.after)] = AFTER
    table[[*change.ignore, NODATA]] = NOTHING
    seen = table[classes]
    seen[confidence == NODATA] = NOTHING
    return Observation(seen=seen, confidence=confidence)


def observe_flags(flags: NDArray[np.int8], direction: Direction | None = None) -> Observation:
    """Observe a change in the flags of a monitor: without a flag a pixel is as before the change, with one as after it.

    Args:
        flags: (h, w): 0 as expected, negative below, positive above, `UNKNOWN` where nothing was observed. How far a flag is
            from 0 is the magnitude.
        direction: which flags are the change; the others are neither before nor after it. None: all are.
    """
    sign = np.sign(flags)
    wanted = {"fall": sign < 0, "rise": sign > 0, None: sign != 0}[direction]
    seen = np.where(wanted, AFTER, np.where(sign == 0, BEFORE, OTHER)).astype(np.uint8)
    seen[flags == UNKNOWN] = NOTHING
    return Observation(seen=seen, magnitude=np.abs(flags.astype(np.int32)) * MAGNITUDE_STEPS)
