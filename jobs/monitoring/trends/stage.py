"""The maps of all monitors of a product as a stage of `earthloom monitor`: what is missing, and which are the current ones.

Nothing is remembered beside what storage holds. When a date is added a map has a new key and so a new folder; the `head.json`
of a monitor names the folder that is current, and the area's collection links to that one only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from earthloom.jobs.monitoring.composites.stage import HEAD, cube_state
from earthloom.jobs.monitoring.linking import relink
from earthloom.jobs.monitoring.publishing import PublishTask
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.trends.map import MonitorMap, monitor_map
from earthloom.jobs.monitoring.trends.tasks import JudgeTask
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.publish.files import committed_document
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import merge
from earthloom.jobs.records.markers import finished_shards
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store


def maps_of(monitored: Monitored) -> list[tuple[MonitorMap, str | None]]:
    """The map of each monitor of the product, and what it waits for, None if it can be made.

    Raises:
        ConfigError: if a monitor is not of one of the product's layers, or two share a name.
    """
    cube = monitored.cube
    found: dict[str, tuple[MonitorMap, str | None]] = {}
    for rule in monitored.product.monitor:
        made = monitor_map(cube, monitored.prefix, rule, aoi=monitored.area.name, product=monitored.name)
        if made.name in found:
            raise ConfigError(
                f"two monitors of {monitored.name} are called {made.name}; give one of them another `name`"
            )
        found[made.name] = made, rule.waits_for([step.date for step in cube.steps])
    return list(found.values())


def plan(store: Store, monitored: Monitored) -> Sequence[MonitorTask]:
    """Shards that nobody has judged yet; when all of a map are done, its publication."""
    tasks: list[MonitorTask] = []
    for made, waits in maps_of(monitored):
        if waits or committed_document(store, made.prefix) is not None:
            continue
        done = finished_shards(store, made.prefix, made.publication.layout)
        missing = [JudgeTask(made=made, part=part) for row, col, part in made.cube.shards() if (row, col) not in done]
        tasks += missing or [PublishTask(made=made)]
    return tasks


def finish(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Say which map of each monitor is the current one, where it lies and what it found, or what it waits for."""
    summary: dict[str, Any] = {}
    current: list[str] = []
    for made, waits in maps_of(monitored):
        if waits:
            summary[made.name] = {"waits_for": waits}
        elif document := committed_document(store, made.prefix):
            current.append(write_head(store, made))
            summary[made.name] = {"prefix": made.prefix, "areas": document["class_areas"]}
    relink(store, monitored.area.name, f"{monitored.prefix}/trends", current)
    return summary


def write_head(store: Store, made: MonitorMap) -> str:
    """Replace the head of a monitor unless it is of a later state of the cube; twice leaves the same bytes.

    Returns:
        The prefix of the map that it names now.
    """
    state, key = cube_state(made.cube), f"{made.shelf}/{HEAD}"

    def change(existing: bytes | None) -> bytes:
        theirs = read_document(existing, key) if existing is not None else None
        if theirs and existing is not None and (theirs["generation"], theirs["steps"]) > state:
            return existing
        return canonical(
            {
                "format": FORMAT, "generation": state[0], "steps": state[1], "key": made.key, "prefix": made.prefix,
                "rule": made.rule.model_dump(mode="json", by_alias=True), "layer": made.layer.name,
                "latest": str(made.steps[-1].date),
            }
        )  # fmt: skip

    merge(store, key, change)
    return str(read_document(store.get(key), key)["prefix"])


MONITORS = Stage(name="monitors", plan=plan, finish=finish)
