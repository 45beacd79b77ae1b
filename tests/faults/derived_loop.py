"""The n-th request loop over what is derived from a cube: each request of a stage meets each fault once; then it is done again.

Whatever the fault was, a reader who follows a head or a commit before any request finds every file whole, and in the end
all is byte for byte what it is without faults.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from earthloom.jobs.monitoring.alerts.stage import ALERTS
from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.change.stage import CHANGE_STAGE
from earthloom.jobs.monitoring.composites.stage import COMPOSITES
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.monitoring.trends.stage import MONITORS
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_sink import Layer
from tests.faults import again
from tests.faults.again import Verdict
from tests.faults.store import Fault, FaultyStore, Injector, Request
from tests.jobs.monitoring.cubes import make_cube, make_grid, make_layers
from tests.memory_store import MemoryStore

SIDE_PX, SHARD_PX = (600, 90), 512
DAYS = ("2016-07-01", "2017-07-01", "2018-07-01", "2019-07-01", "2020-07-01")
FOLDER = "monitors/here/{}/0123456789abcdef"
_ROUNDS = 6

TABLES: Mapping[str, Mapping[str, Any]] = {
    "composites": {"composites": [{"every": "year", "rule": "mode"}]},
    "change": {"change": [{"from": "2016", "to": "2020", "min_area_m2": 1000}]},
    "alerts": {"alert": [{"name": "flooded", "from": "land", "to": "water"}]},
    "trends": {"monitor": [{"method": "mann-kendall", "level": 0.3}]},
}
_STAGES = {"composites": COMPOSITES, "change": CHANGE_STAGE, "alerts": ALERTS, "trends": MONITORS}


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedCase:
    """A stage over a cube, as it is without a fault."""

    stage: Stage
    of: Monitored
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]
    requests: tuple[Request, ...]


def derived_case(name: str) -> DerivedCase:
    """A cube of two shards and five dates, and what the stage makes of it."""
    store, of = _watched(name)
    before = dict(store.objects)
    injector = Injector()
    _derive(FaultyStore(store, injector), _STAGES[name], of)
    return DerivedCase(
        stage=_STAGES[name], of=of, before=before, after=snapshot(store), requests=tuple(injector.requests)
    )


def _watched(name: str) -> tuple[MemoryStore, Monitored]:
    product = "index" if name == "trends" else "landwater"
    store, grid, draw = MemoryStore(), make_grid(*SIDE_PX), np.random.default_rng(3)
    shape = (len(DAYS), *grid.shape)
    prefix = f"{FOLDER.format(product)}/generations/1/cube.zarr"
    if name == "trends":
        values = (draw.normal(0, 500, shape) + np.linspace(0, 2000, shape[2])).astype(np.int16)
        cube = make_layers(
            store, prefix, grid, SHARD_PX, DAYS, {"index": values}, [Layer(name="index", dtype="int16", nodata=-1)]
        )
    else:
        classes = np.kron(draw.integers(0, 2, (len(DAYS), 9, 60)), np.ones((1, 10, 10))).astype(np.uint8)
        confidence = draw.integers(100, 251, shape).astype(np.uint8)
        cube = make_cube(store, prefix, grid, SHARD_PX, DAYS, classes, confidence, ("land", "water"))
    table = ProductTable.model_validate({"model": product, **TABLES[name]})
    area = Area(name="here", where="here.toml", grid=grid, shard_px=SHARD_PX, outline=None, products=(table,))
    return store, Monitored(area=area, product=table, name=product, prefix=FOLDER.format(product), cube=cube)


def _derive(store: Store, stage: Stage, of: Monitored) -> None:
    """Plan, do and finish, as the driver does it, with its tasks one after another."""
    for _ in range(_ROUNDS):
        tasks = stage.plan(store, of)
        if not tasks:
            stage.finish(store, of)
            return
        for task in tasks:
            task.do(store)
    raise StorageError(f"{stage.name} has planned {_ROUNDS} times and is not done")


def strike(fault: Fault, one: DerivedCase) -> Verdict:
    """Derive with one fault, then again until all is done, with a reader before each request."""

    def derive(store: FaultyStore) -> None:
        _derive(store, one.stage, one.of)

    return again.strike(fault, MemoryStore(objects=dict(one.before)), derive, look, snapshot, one.after)


def look(objects: Mapping[str, bytes]) -> list[str]:
    """What is wrong for a reader who follows heads and commits: files that are not there, or are not what was said."""
    wrong = []
    for key in sorted(objects):
        folder, _, name = key.rpartition("/")
        if name == "head.json" and folder != FOLDER:
            document = json.loads(objects[key])
            entries = (
                [document]
                if "prefix" in document
                else (document.get("periods") or document.get("changes") or {}).values()
            )
            wrong += [
                f"{key} leads to {entry['prefix']}, which is not committed"
                for entry in entries
                if f"{entry['prefix']}/result.json" not in objects
            ]
            if "view" in document:
                wrong += _broken(objects, f"{folder}/{document['view']}", document["files"])
                updates = {f"{name}.parquet": one for name, one in document["updates"].items()}
                wrong += _broken(objects, f"{folder}/updates/{document['generation']}", updates)
        elif name == "result.json":
            wrong += _broken(objects, folder, json.loads(objects[key])["files"])
    return wrong


def _broken(objects: Mapping[str, bytes], folder: str, files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"{folder}/{name} is not what was said"
        for name, stored in files.items()
        if hashlib.sha256(objects.get(f"{folder}/{name}", b"")).hexdigest() != stored["sha256"]
    ]


def snapshot(store: MemoryStore) -> dict[str, bytes]:
    """All that readers may follow, and of commits all but who wrote them; without what workers leave on the way."""
    found = {}
    for key, data in store.objects.items():
        if "/state/" in key or "/blocks/" in key or "/parts/" in key:
            continue
        if key.endswith("/result.json"):
            data = json.dumps({**json.loads(data), "write_id": ""}).encode()
        found[key] = data
    return found
