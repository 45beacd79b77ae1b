"""Cubes in memory with shards of any size, and what an update of their alerts does."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.evidence import ClassEvidence
from earthloom.jobs.monitoring.alerts.head import read_head
from earthloom.jobs.monitoring.alerts.history import EPOCH, AlertSet
from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE, NOTHING, OTHER
from earthloom.jobs.monitoring.alerts.rule import Change, Rule
from earthloom.jobs.monitoring.alerts.stage import finish_alerts, plan_alerts
from earthloom.jobs.monitoring.cube.cube import ClassInfo, Cube, Step
from earthloom.jobs.records.blocks import StoredObject
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from tests.faults.store import Killed
from tests.jobs.monitoring.alert_worlds import World

MONITOR = "monitors/here/landwater/0123456789abcdef"
CLASSES = {BEFORE: 0, AFTER: 1, OTHER: 2, NOTHING: NODATA}
"""Of `MemoryCube`, by what they say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCube(Cube):
    """A cube whose layers are arrays."""

    values: dict[str, NDArray[np.uint8]]
    """(T, h, w) by layer."""

    def read(self, store: Store, layer: str, window: Window, steps: Sequence[int] | None = None) -> NDArray[Any]:  # noqa: ARG002
        rows, cols = window.slices(self.grid.window)
        return self.values[layer][list(range(len(self.steps)) if steps is None else steps), rows, cols]


def cube_of(world: World, tile_px: int, known: Collection[int], generation: int = 1) -> MemoryCube:
    """The cube when only these of the world's dates, by position, have been mapped."""
    kept = sorted(known)
    table = np.zeros(256, np.uint8)
    table[list(CLASSES)] = list(CLASSES.values())
    dates = [EPOCH + datetime.timedelta(days=world.days[position]) for position in kept]
    return MemoryCube(
        prefix=f"{MONITOR}/generations/{generation}/cube.zarr", grid=world.grid, shard_px=tile_px, layers=(),
        classes=tuple(ClassInfo(value=n, name=name, color="#000000") for n, name in enumerate(("land", "water", "snow"))),
        steps=tuple(Step(date=date, scenes=(f"scenes/{date}/{'0' * 64}",)) for date in dates),
        values={"classes": table[world.seen[kept]], "confidence": world.confidence[kept]},
    )  # fmt: skip


def alerts_of(cube: Cube, rule: Rule) -> AlertSet:
    evidence = ClassEvidence(change=Change(before=(CLASSES[BEFORE],), after=(CLASSES[AFTER],)))
    return AlertSet(cube=cube, prefix=MONITOR, product="landwater", rule=rule, evidence=evidence)


def update(store: Store, of: AlertSet) -> None:
    """Bring the alerts up to date, as a driver would: plan, do, plan again, and finish."""
    while tasks := plan_alerts(store, of):
        assert len({task.key for task in tasks}) == len(tasks)
        for task in tasks:
            assert task.memory_bytes > 0
            task.do(store)
    finish_alerts(store, of)


def persist(stores: Iterable[Store], of: AlertSet) -> int:
    """Update with one store after another until it succeeds, as a scheduler would, and say how often that took."""
    for tries, store in enumerate(stores, 1):
        try:
            update(store, of)
        except (EarthloomError, Killed):
            continue
        return tries
    raise AssertionError("no update came to its end")


def published(store: Store, of: AlertSet) -> dict[str, bytes]:
    """Everything that a reader sees, by name: the view that `head.json` names, and the partitions."""
    places = of.places()
    head = read_head(store, places)
    assert head is not None
    folder = f"{places.folder}/updates/{head.generation}"
    keys = {name: f"{places.folder}/{head.view}/{name}" for name in head.files}
    keys |= {f"{name}.parquet": f"{folder}/{name}.parquet" for name in head.updates}
    found = {name: store.get(key) for name, key in keys.items()}
    vouched = {**head.files, **{f"{name}.parquet": entry for name, entry in head.updates.items()}}
    assert {name: StoredObject.of(data) for name, data in found.items()} == vouched
    assert {entry.key for entry in store.list(folder)} <= set(keys.values()), "no partition but the history's own"
    return found
