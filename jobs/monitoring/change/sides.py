"""Finds the map that a user means by a date or a period: `1985`, `2020-07`, `2020-DJF`, `2020-07-01`.

A period is its composite where there is one of all of its dates, else the date within it that lies nearest to its middle; what
was taken is told. The composite of a single date is that date: the same classes, and the model's own confidence instead of
how many dates agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from earthloom.jobs.monitoring.composites.maps import ClassMap, map_of_result, map_of_step
from earthloom.jobs.monitoring.composites.periods import CADENCES, Period, parse_period, period_of
from earthloom.jobs.monitoring.composites.rules import parse_rule
from earthloom.jobs.monitoring.composites.stage import Composites, read_composites
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.publish.files import committed_document
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store

_RULES = ("mode", "best", "best:middle", "best:clear", "max:confidence", "min:confidence")
"""Rules for composites of classes; the first that the cube has is taken."""
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Found:
    """A map and, in words, what was taken for what was asked."""

    map: ClassMap
    note: str


def find_map(store: Store, folder: str, cube: Cube, text: str) -> Found:
    """The map of a date or a period of a monitored product.

    Args:
        store: on OUT.
        folder: folder of the product: `monitors/<aoi>/<product>/<key>`.
        cube: its cube.
        text: the name of a period.

    Raises:
        ConfigError: if it is no name of a period, or nothing lies in it; the message says what is there.
    """
    period = parse_period(text)
    inside = [n for n, step in enumerate(cube.steps) if step.date in period]
    behind = ""
    for rule, composites in _composites(store, folder, cube, period) if len(inside) != 1 else ():
        if outdated := composites.outdated.get(period.name):
            behind = f" of them: that by {rule} is of {len(outdated['dates'])}, or of other scenes"
        entry = composites.current.get(period.name)
        document = committed_document(store, entry["prefix"]) if entry else None
        if entry and document and document["class_areas"]:
            found = map_of_result(
                store, entry["prefix"], document, name=period.name, start=period.start, end=period.end
            )
            return Found(found, f"{period.name}: composite of {len(inside)} date{'s' * (len(inside) != 1)}, {rule}")
    if not inside:
        raise ConfigError(f"there is no date in {period.name} ({_span(period)}); there are {_dates(cube)}")
    nearest = min(inside, key=lambda n: (period.half_days_from_middle(cube.steps[n].date), cube.steps[n].date))
    date = map_of_step(cube, nearest)
    made = replace(date, name=period.name, start=period.start, end=period.end)
    if len(inside) == 1:
        return Found(made, f"{period.name}: {date.name}" if period.start != period.end else f"{period.name}: date")
    return Found(
        made, f"{period.name}: {date.name}, the nearest of {len(inside)} dates to its middle; no composite{behind}"
    )


def _composites(store: Store, folder: str, cube: Cube, period: Period) -> Iterator[tuple[str, Composites]]:
    """Composites of a period's cadence by their rules: modes first, then the best observation."""
    every = next(one for one in CADENCES if period_of(one, period.start) == period)
    for rule in _RULES:
        if found := read_composites(store, folder, cube, parse_rule(rule), every):
            yield rule, found


def _span(period: Period) -> str:
    return str(period.start) if period.start == period.end else f"{period.start} to {period.end}"


def _dates(cube: Cube) -> str:
    dates = [str(step.date) for step in cube.steps]
    if len(dates) <= _NAMED:
        return ", ".join(dates) or "none at all"
    return f"{', '.join(dates[: _NAMED - 1])}, … {len(dates)} dates in all, the last {dates[-1]}"
