"""The maps of all monitors of a product as a stage of `earthloom monitor`: what is missing, and which are the current ones.

Nothing is remembered beside what storage holds. When a date is added a map has a new key and so a new folder; the `head.json`
of a monitor names the folder that is current, and the area's collection links to that one only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from earthloom.jobs.monitoring.linking import HEAD, advance, relink
from earthloom.jobs.monitoring.publishing import plan_derived
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.trends.map import MonitorMap, monitor_map
from earthloom.jobs.monitoring.trends.tasks import JudgeTask
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.publish.files import committed_document
from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store


def maps_of(monitored: Monitored) -> list[tuple[MonitorMap, str | None]]:
    """The map of each monitor of the product, and what it waits for, None if it can be made.

    Raises:
        ConfigError: if a monitor is not of one of the product's layers, or two share a name.
    """
    cube = monitored.cube
    maps: dict[str, tuple[MonitorMap, str | None]] = {}
    for rule in monitored.product.monitor:
        trend = monitor_map(cube, monitored.prefix, rule, aoi=monitored.area.name, product=monitored.name)
        if trend.name in maps:
            raise ConfigError(
                f"two monitors of {monitored.name} are called {trend.name}; give one of them another `name`"
            )
        maps[trend.name] = trend, rule.waits_for([step.date for step in cube.steps])
    return list(maps.values())


def plan(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    """Shards that nobody has judged yet; when all of a map are done, its publication."""
    return [
        task
        for trend, waits in maps_of(monitored)
        if not waits
        for task in plan_derived(store, trend, partial(JudgeTask, made=trend))
    ]


def finish(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Say which map of each monitor is the current one, where it lies and what it found, or what it waits for."""
    summary: dict[str, Any] = {}
    current: list[str] = []
    for trend, waits in maps_of(monitored):
        if waits:
            summary[trend.name] = {"waits_for": waits}
        elif document := committed_document(store, trend.prefix):
            current.append(write_head(store, trend))
            summary[trend.name] = {"prefix": trend.prefix, "areas": document["class_areas"]}
    relink(store, monitored.area.name, f"{monitored.prefix}/trends", current)
    return summary


def write_head(store: Store, trend: MonitorMap) -> str:
    """Replace the head of a monitor unless it is of a later state of the cube; twice leaves the same bytes.

    Returns:
        The prefix of the map that it names now.
    """
    key = f"{trend.shelf}/{HEAD}"
    content = {
        "key": trend.key, "prefix": trend.prefix, "rule": trend.rule.model_dump(mode="json", by_alias=True),
        "layer": trend.layer.name, "latest": str(trend.steps[-1].date),
    }  # fmt: skip
    advance(store, key, trend.cube, lambda _: content)
    return str(read_document(store.get(key), key)["prefix"])


MONITORS = Stage(name="monitors", plan=plan, finish=finish)
