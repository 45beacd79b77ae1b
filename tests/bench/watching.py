"""What tasks of monitoring take, held against their plans: trends, changes and alerts, of smooth maps and of others.

Each in a process of its own, whose heap is given back before the task; the peak is what the process takes beyond that.

    python -m tests.bench.watching change ragged 1024     # one of them; what it took, as JSON
"""

from __future__ import annotations

import ctypes
import datetime
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE
from earthloom.jobs.monitoring.alerts.rule import Rule
from earthloom.jobs.monitoring.alerts.stage import plan_alerts
from earthloom.jobs.monitoring.change.map import Change
from earthloom.jobs.monitoring.change.tasks import plan_change
from earthloom.jobs.monitoring.composites.maps import map_of_step
from earthloom.jobs.monitoring.trends.map import monitor_map
from earthloom.jobs.monitoring.trends.rules import MonitorTable
from earthloom.jobs.monitoring.trends.tasks import JudgeTask
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.writing.zarr_sink import Layer
from tests.bench.alerts import resident_peak
from tests.bench.command import command
from tests.jobs.monitoring.alert_cubes import alerts_of, cube_of
from tests.jobs.monitoring.alert_worlds import World
from tests.jobs.monitoring.cubes import make_cube, make_grid, make_layers
from tests.memory_store import MemoryStore

_CASES = (
    *(("trend", method, 1024) for method in ("mann-kendall", "cusum", "ewmacd", "bfast-monitor")),
    *(
        ("change", kind, side)
        for kind, side in (("smooth", 1024), ("smooth", 2048), ("ragged", 1024), ("specks", 1024))
    ),
    *(
        ("alerts", kind, side)
        for kind, side in (("smooth", 1024), ("smooth", 2048), ("ragged", 1024), ("specks", 1024))
    ),
)
_MIB = 2**20
_DATES = 60


def watching(_: Path) -> list[dict[str, Any]]:
    """What tasks of monitoring take beside their plans, for one shard: MiB, and the plan over the peak."""
    env = {"MALLOC_ARENA_MAX": "1"}
    return [command("tests.bench.watching", what, kind, str(side), env=env).printed for what, kind, side in _CASES]


def _mask(kind: str, side: int) -> NDArray[np.bool_]:
    """A few smooth areas, half of the pixels at random, or one in twenty."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    if kind != "smooth":
        return np.asarray(rng.random((side, side)) < {"ragged": 0.65, "specks": 0.05}[kind])
    hills = ndimage.gaussian_filter(rng.random((side, side)), 8)
    return np.asarray((hills - hills.mean()) / hills.std() > 1.2)


def _change(store: MemoryStore, kind: str, side: int) -> MonitorTask:
    classes = np.stack([np.zeros((side, side), np.uint8), _mask(kind, side).astype(np.uint8)])
    confidence: NDArray[np.uint8] = np.asarray(np.random.default_rng(1).integers(100, 251, classes.shape), np.uint8)
    days, folder = ["1985-07-01", "2020-08-01"], "monitors/here/map/0"
    cube = make_cube(
        store, f"{folder}/generations/1/cube.zarr", make_grid(side, side), side, days, classes, confidence, ("a", "b")
    )
    made = Change(folder=folder, aoi="here", product="map", before=map_of_step(cube, 0), after=map_of_step(cube, 1),
                  least_m2=900.0)  # fmt: skip
    while True:  # as a driver does: until a task is planned with all that it needs
        (task,) = plan_change(store, made)
        held = dict(store.objects)
        task.do(store)
        if not any(key.endswith(".parquet") for key in store.objects):
            continue
        store.objects = held
        return task


def _alerts(store: MemoryStore, kind: str, side: int) -> MonitorTask:
    seen = np.full((3, side, side), BEFORE, np.uint8)
    seen[1:][:, _mask(kind, side)] = AFTER
    confidence = np.random.default_rng(1).integers(125, 251, seen.shape).astype(np.uint8)
    rule = Rule(name="bench", before="land", after="water")
    of = alerts_of(
        cube_of(World(seen=seen, confidence=confidence, days=(18_000, 18_016, 18_032), rule=rule), side, range(3)), rule
    )
    (task,) = plan_alerts(store, of)
    if task.do(store) == 3:
        store.objects.clear()
        return task
    (task,) = plan_alerts(store, of)
    return task


def _trend(store: MemoryStore, method: str, side: int) -> MonitorTask:
    dates = [datetime.date(2010, 1, 1) + datetime.timedelta(days=16 * n) for n in range(_DATES)]
    rng, layer = (
        np.random.default_rng(0),
        Layer(name="v", dtype="int16", nodata=-32768, attributes={"scale_factor": 1e-4}),
    )
    values = rng.normal(6000, 300, (_DATES, side, side)).astype(np.int16)
    values[rng.random(values.shape) < 0.25] = -32768
    folder = "monitors/here/v/0"
    cube = make_layers(
        store, f"{folder}/generations/1/cube.zarr", make_grid(side, side), side, dates, {"v": values}, [layer]
    )
    start = {"start": dates[40]} if method in ("bfast-monitor", "ewmacd") else {}
    rule: MonitorTable = TypeAdapter(MonitorTable).validate_python({"method": method, **start})
    return JudgeTask(made=monitor_map(cube, folder, rule, aoi="here", product="v"), part=cube.grid.window)


_MAKERS = {"trend": _trend, "change": _change, "alerts": _alerts}


def measure(what: str, kind: str, side: int) -> dict[str, Any]:
    """One row."""
    store = MemoryStore()
    task = _MAKERS[what](store, kind, side)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    peak, seconds = resident_peak(lambda: task.do(store))
    return {
        "task": what, "map": kind, "shard": f"{side}²", "peak": f"{peak / _MIB:.0f}",
        "planned": f"{task.memory_bytes / _MIB:.0f}", "plan / peak": f"{task.memory_bytes / peak:.2f}",
        "CPU s": f"{seconds:.1f}",
    }  # fmt: skip


if __name__ == "__main__":
    apply()
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
