"""Changes that an AOI file asks for (`jobs.monitoring.change.table`), as a stage of `earthloom monitor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from earthloom.jobs.monitoring.change.map import Change
from earthloom.jobs.monitoring.change.polygons import default_least_m2
from earthloom.jobs.monitoring.change.sides import find_map
from earthloom.jobs.monitoring.change.table import ChangeTable
from earthloom.jobs.monitoring.change.tasks import plan_change
from earthloom.jobs.monitoring.composites.periods import parse_period, period_of
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.linking import HEAD, advance, relink
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.tiling.storage.store import Store


def changes_of(store: Store, monitored: Monitored) -> Iterator[tuple[Change, str]]:
    """Each change that is asked for and can be made already, and what was taken for its sides, in words."""
    for table in monitored.product.change:
        for before, after in _pairs(monitored, table):
            yield make_change(
                store, monitored.prefix, monitored.cube, before, after, aoi=monitored.area.name, product=monitored.name,
                least_m2=table.min_area_m2,
            )  # fmt: skip


def make_change(
    store: Store, folder: str, cube: Cube, before: str, after: str, *, aoi: str, product: str,
    least_m2: float | None = None,
) -> tuple[Change, str]:  # fmt: skip
    """The change between two dates or periods, and what was taken for them, in words.

    Args:
        folder: folder of the monitored product: `monitors/<aoi>/<product>/<key>`.
        before, after: names of periods.
        least_m2: minimum mapping unit; None for nine pixels.

    Raises:
        ConfigError: if one of them is none or holds no date, or they cannot be compared.
    """
    sides = [find_map(store, folder, cube, text) for text in (before, after)]
    change = Change(
        folder=folder, aoi=aoi, product=product, before=sides[0].map, after=sides[1].map,
        least_m2=default_least_m2(cube.grid) if least_m2 is None else least_m2,
    )  # fmt: skip
    return change, "; ".join(side.note for side in sides)


def _pairs(monitored: Monitored, table: ChangeTable) -> Iterator[tuple[str, str]]:
    """Names of periods, those only that hold a date."""
    dates = [step.date for step in monitored.cube.steps]
    if table.every is not None:
        yield from pairwise(dict.fromkeys(period_of(table.every, date).name for date in dates))
    if table.before is None or table.after is None:
        return
    if all(any(date in parse_period(side) for date in dates) for side in (table.before, table.after)):
        yield table.before, table.after


def plan_changes(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    """The shards that are missing, and the publication of each change of which none is."""
    tasks: dict[str, MonitorTask] = {}
    for change, _ in changes_of(store, monitored):
        tasks |= {task.key: task for task in plan_change(store, change)}
    return list(tasks.values())


def finish_changes(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Say which results are the current ones; those of a later cube stay.

    Returns:
        By name of the change where it lies and of what it is; None for one whose dates have not come yet.
    """
    if not monitored.product.change:
        relink(store, monitored.area.name, f"{monitored.prefix}/change", ())
        return {}
    current: dict[str, dict[str, str]] = {}
    for change, note in changes_of(store, monitored):
        entry = {"prefix": change.prefix, "key": change.key, "of": note}
        if current.setdefault(change.name, entry)["key"] != change.key:  # the same sides with another smallest polygon
            current[f"{change.name}, {change.least_m2:g} m2"] = entry
    advance(store, f"{monitored.prefix}/change/{HEAD}", monitored.cube, lambda _: {"changes": current})
    relink(store, monitored.area.name, f"{monitored.prefix}/change", [str(one["prefix"]) for one in current.values()])
    waiting = [f"{one.before}--{one.after}" for one in monitored.product.change if one.before is not None]
    return {name: current.get(name) for name in sorted({*current, *waiting})}


CHANGE_STAGE = Stage(name="change", plan=plan_changes, finish=finish_changes)
