"""The lives of alerts: how those of one date become those of the next. Pure; knows nothing of shards' pixels or storage.

An **alert** begins when a connected area reaches the rule's least area, and lives until none of its pixels is active. It
keeps its id while it grows, shrinks or moves. Where areas meet, the oldest id survives; where an area falls apart, the part
with most of its pixels keeps the id. So what alerts are on a date follows from the connected areas of that date and the
alerts of the date before, and in the end from the dates of the cube alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from earthloom.jobs.monitoring.alerts.components import NONE, Components, Shard
from earthloom.jobs.monitoring.alerts.outlines import unite
from earthloom.jobs.records.canonical import digest
from earthloom.tiling.components import Ints

State = Literal["provisional", "confirmed", "closed", "settled", "dropped", "merged"]
"""Provisional and confirmed alerts live. Over are those whose change has gone (`closed`) or has become the rule (`settled`),
those that were never confirmed (`dropped`), and those that became part of another (`merged`)."""

_ID_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The extent of an alert on a date, with its measures."""

    px: int
    area: int
    """In units of `pieces.area_unit_m2`."""
    observations: int
    """Observations of all pixels of the change, added up."""
    confidence: int
    """Sum over these of the stored probability."""
    magnitude: int
    """Sum over these of the stored magnitude."""
    outline: bytes
    """WKB in pixel coordinates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert after a date. Days are counted from 1970-01-01."""

    id: str
    state: State
    born_day: int
    """Date on which it reached the least area."""
    born_row: int
    """Row of its first pixel on that date."""
    born_col: int
    first_day: int
    """Earliest observation of the change among the pixels that it ever had."""
    last_day: int
    """Latest one."""
    grown_day: int
    """On which the newest of the pixels that it ever had was first seen changed."""
    confirmed_day: int | None
    """Date on which its confirmed pixels reached the least area; from the first observation to the latest one. A part that
    was split from a confirmed alert has that alert's, brought within its own observations."""
    closed_day: int | None
    """Date on which it was over."""
    count: int
    """Most observations of the change that one of its pixels ever had."""
    now: Extent
    """As it is on this date; once it is over, as it was when it was largest."""
    largest: Extent
    """On the latest of the dates on which its area was largest."""
    merged_into: str | None = None
    split_from: str | None = None

    @property
    def lives(self) -> bool:
        return self.closed_day is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All alerts that there have been until a date, and which pieces of that date belong to them."""

    alerts: tuple[Alert, ...] = ()
    """In the order of their births; an alert keeps its position."""
    pieces: Mapping[Shard, Ints] = field(default_factory=dict)
    """By shard, for each of its pieces on that date the position of its alert, or `components.NONE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The content of an alert's id beside its first date and pixel."""

    identity: Mapping[str, Any]
    """All that tells the rule, its product and the pixels of its grid from others."""
    row: int = 0
    """Row of the grid's first pixel, counted from the origin of the CRS: areas that share pixels share ids."""
    col: int = 0

    def id(self, day: int, row: int, col: int) -> str:
        """The id of an alert that begins on a day with this first pixel, in the row-major order of the grid."""
        return digest({**self.identity, "day": day, "row": row + self.row, "col": col + self.col})[:_ID_DIGITS]


def follow(
    ledger: Ledger, components: Components, day: int, min_area: float, settling: int, naming: Naming
) -> tuple[Ledger, tuple[int, ...]]:
    """Take one date into account.

    Args:
        ledger: after the date before.
        components: the connected areas of the date.
        day: the date, in days since 1970-01-01.
        min_area: with which an alert begins and with which it is confirmed, in units of `pieces.area_unit_m2`.
        settling: observations after which a pixel is settled; 0: it never is.
        naming: makes the ids.

    Returns:
        The ledger after the date, and the positions of the alerts that have changed, ascending.
    """
    heirs = _inherit(ledger.alerts, components)
    alerts = list(ledger.alerts)
    owner = np.full(components.measures.n, NONE, np.int64)
    columns = components.measures.columns()
    large = np.flatnonzero(components.measures.area >= min_area).tolist()
    for component in sorted({*heirs.alert, *large}):
        measured = {name: int(values[component]) for name, values in columns.items()}
        area = _Area(measured, components.outlines[component], min_area)
        if (position := heirs.alert.get(component)) is not None:
            alerts[position] = _continued(alerts[position], area, day)
        else:
            position = len(alerts)
            origin = heirs.parent.get(component)
            alerts.append(_born(area, day, naming, None if origin is None else ledger.alerts[origin]))
        owner[component] = position
    over = _living(ledger) - set(heirs.alert.values())
    for position in over:
        place = heirs.merged.get(position)
        survivor = None if place is None else ledger.alerts[heirs.alert[place]].id
        alerts[position] = _ended(alerts[position], survivor, day, settling)
    touched = {*heirs.alert.values(), *over}
    changed = [position for position in touched if alerts[position] != ledger.alerts[position]]
    changed += range(len(ledger.alerts), len(alerts))
    pieces = {shard: owner[of_piece] for shard, of_piece in components.of_piece.items() if of_piece.size}
    return Ledger(alerts=tuple(alerts), pieces=pieces), tuple(sorted(changed))


@dataclass(frozen=True, slots=True)
class _Heirs:
    """Who goes on where. Positions of alerts, numbers of components."""

    alert: Mapping[int, int]
    """The alert that goes on in a component."""
    merged: Mapping[int, int]
    """The component in which an alert became part of another."""
    parent: Mapping[int, int]
    """The first of the alerts whose pixels a component has in which none goes on."""


def _inherit(alerts: Sequence[Alert], components: Components) -> _Heirs:
    """Each alert goes where most of its pixels are. Of those that meet there the oldest goes on.

    Where as many pixels are in several components, it goes to the largest of these, of equal ones to the first. Of equally
    old alerts the larger goes on, then the one whose first pixel came first.
    """
    places: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    areas = components.measures.area.tolist()
    pairs = zip(components.component.tolist(), components.alert.tolist(), components.shared.tolist(), strict=True)
    for component, position, shared in pairs:
        places[position].append((shared, areas[component], -component))
    heirs: dict[int, int] = {}
    merged: dict[int, int] = {}
    parents: dict[int, int] = {}
    for position in sorted(places, key=lambda position: _seniority(alerts[position])):
        target = -max(places[position])[2]
        if heirs.setdefault(target, position) != position:
            merged[position] = target
        for _, _, component in places[position]:
            parents.setdefault(-component, position)
    return _Heirs(heirs, merged, {component: parents[component] for component in parents.keys() - heirs.keys()})


def _seniority(alert: Alert) -> tuple[int, int, int, int]:
    return alert.born_day, -alert.now.area, alert.born_row, alert.born_col


def _living(ledger: Ledger) -> set[int]:
    """Positions of the alerts that live: those that have pieces."""
    return {position for owners in ledger.pieces.values() for position in np.unique(owners).tolist()} - {NONE}


@dataclass(frozen=True, slots=True)
class _Area:
    """One component."""

    measured: Mapping[str, int]
    outlines: tuple[bytes | None, ...]
    min_area: float

    @property
    def is_confirmed(self) -> bool:
        return self.measured["confirmed_area"] >= max(self.min_area, 1)

    def extent(self, before: Alert | None) -> Extent:
        """`before` is the alert that goes on here: an area that is as it was has its outline."""
        if None in self.outlines:
            assert before is not None  # it lies within one shard, and all of it was this alert
            outline = before.now.outline
        else:
            outline = _united([part for part in self.outlines if part is not None])
        of = self.measured
        return Extent(
            px=of["px"], area=of["area"], observations=of["observations"], confidence=of["confidence"],
            magnitude=of["magnitude"], outline=outline,
        )  # fmt: skip


def _united(outlines: Sequence[bytes]) -> bytes:
    import shapely

    if len(outlines) == 1:
        return outlines[0]
    united: bytes = unite(shapely.from_wkb(list(outlines))).wkb
    return united


def _born(area: _Area, day: int, naming: Naming, origin: Alert | None) -> Alert:
    """`origin` is the alert that it was part of. Where that was confirmed before, so is this one; but the pixels of a part
    may have been seen changed only since then, or not any more by then, so the day is brought within what was seen of them."""
    of, extent = area.measured, area.extent(None)
    row, col = of["row"], of["col"]
    confirmed = None
    if area.is_confirmed:
        confirmed = day
        if origin is not None and origin.confirmed_day is not None:
            confirmed = min(max(origin.confirmed_day, of["first_day"]), of["last_day"])
    return Alert(
        id=naming.id(day, row, col), state="provisional" if confirmed is None else "confirmed", born_day=day, born_row=row,
        born_col=col, first_day=of["first_day"], last_day=of["last_day"], grown_day=of["newest_day"],
        confirmed_day=confirmed, closed_day=None, count=of["count"], now=extent, largest=extent,
        split_from=None if origin is None else origin.id,
    )  # fmt: skip


def _continued(alert: Alert, area: _Area, day: int) -> Alert:
    of, extent = area.measured, area.extent(alert)
    confirmed = alert.confirmed_day if alert.confirmed_day is not None else day if area.is_confirmed else None
    return replace(
        alert, state="provisional" if confirmed is None else "confirmed", confirmed_day=confirmed,
        first_day=min(alert.first_day, of["first_day"]), last_day=max(alert.last_day, of["last_day"]),
        grown_day=max(alert.grown_day, of["newest_day"]),
        count=max(alert.count, of["count"]), now=extent,
        largest=extent if extent.area >= alert.largest.area else alert.largest,
    )  # fmt: skip


def _ended(alert: Alert, survivor: str | None, day: int, settling: int) -> Alert:
    lasted = settling and alert.count >= settling  # one pixel at least
    state: State = (
        "merged" if survivor else "dropped" if alert.confirmed_day is None else "settled" if lasted else "closed"
    )
    return replace(alert, state=state, closed_day=day, merged_into=survivor, now=alert.largest)
