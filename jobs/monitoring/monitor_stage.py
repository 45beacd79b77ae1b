"""The stage that keeps the maps of all monitors of a product up to date (`jobs.monitoring.stage`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from earthloom.jobs.monitoring.monitor_map import MonitorMap, monitor_map
from earthloom.jobs.monitoring.monitor_tasks import JudgeTask, PublishMonitorTask
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.publish.files import committed_document
from earthloom.jobs.records.markers import finished_shards
from earthloom.tiling.storage.store import Store


def maps_of(monitored: Monitored) -> list[tuple[MonitorMap, str | None]]:
    """The map of each monitor of the product, and what it waits for, None if it can be made.

    Raises:
        ConfigError: if a monitor is not one of the product's layers.
    """
    cube = monitored.cube
    found = []
    for rule in monitored.product.monitor:
        made = monitor_map(cube, monitored.prefix, rule, aoi=monitored.area.name, product=monitored.name)
        found.append((made, rule.waits_for([step.date for step in cube.steps])))
    return found


def plan(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    """Shards that nobody has judged yet; when all of a map are done, its publication."""
    tasks: list[MonitorTask] = []
    for made, waits in maps_of(monitored):
        if waits or committed_document(store, made.prefix) is not None:
            continue
        done = finished_shards(store, made.prefix, made.publication.layout)
        missing = [JudgeTask(made=made, part=part) for row, col, part in made.cube.shards() if (row, col) not in done]
        tasks += missing or [PublishMonitorTask(made=made)]
    return tasks


def finish(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Where each map lies and what it found, or what it waits for."""
    said = []
    for made, waits in maps_of(monitored):
        row: dict[str, Any] = {"method": made.rule.method, "layer": made.layer.name}
        if waits:
            row["waits_for"] = waits
        elif document := committed_document(store, made.prefix):
            row |= {"prefix": made.prefix, "areas": document["class_areas"]}
        said.append(row)
    return {"monitors": said}


STAGE = Stage(name="monitors", plan=plan, finish=finish)
