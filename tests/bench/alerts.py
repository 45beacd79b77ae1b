"""Alerts: one shard of 2048² px through dates, and the join, in maps that are smooth, speckled, or nothing but noise.

Processor time; the peak is what a process of its own takes beyond what it took before the task.

    python -m tests.bench.alerts MAP        # one map; what it took, as JSON
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from earthloom.jobs.monitoring.alerts.labelling import label
from earthloom.jobs.monitoring.alerts.outlines import trace
from earthloom.jobs.monitoring.alerts.pieces import describe, find, pixel_area_units
from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE, NOTHING, Observation, PixelStates, advance
from earthloom.jobs.monitoring.alerts.rule import Rule
from earthloom.jobs.monitoring.alerts.stage import finish_alerts, plan_alerts
from earthloom.tiling.storage.settings import apply
from tests.bench.command import command
from tests.jobs.monitoring.alert_cubes import alerts_of, cube_of
from tests.jobs.monitoring.alert_worlds import World
from tests.memory_store import MemoryStore

_SIDE_PX, _DATES, _GAPS = 2048, 4, 0.1
_MAPS = {"smooth": 10_000.0, "speckled": 10_000.0, "noise": 0.0}
"""Least area of an alert in each map, in square metres of pixels of 30 m."""
_MIB = 2**20
_SAMPLE_S = 0.005
T = TypeVar("T")


def alerts(_: Path) -> list[dict[str, Any]]:
    """Alerts of a shard of 2048² px, by kind of map: CPU seconds of each part for one date, and memory."""
    return [
        row
        for name in _MAPS
        for row in command("tests.bench.alerts", name, env={"MALLOC_ARENA_MAX": "1"}).printed["rows"]
    ]


def world(name: str) -> World:
    """What is seen on some dates: areas that grow with specks at their edges, or half of the pixels at random."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    shape = (_SIDE_PX, _SIDE_PX)
    hills = ndimage.gaussian_filter(rng.random(shape), 8)
    hills = (hills - hills.mean()) / hills.std()
    seen = np.full((_DATES, *shape), BEFORE, np.uint8)
    for step in range(1, _DATES):
        wet = hills + 0.15 * step > 1.5
        if name == "speckled":
            wet |= rng.random(shape) < 0.05
        if name == "noise":
            wet = rng.random(shape) < 0.5
        seen[step][wet] = AFTER
        seen[step][rng.random(shape) < _GAPS] = NOTHING
    confidence = rng.integers(125, 251, seen.shape).astype(np.uint8)
    rule = Rule(name="bench", before="land", after="water", min_area_m2=_MAPS[name])
    return World(seen=seen, confidence=confidence, days=tuple(range(18_000, 18_000 + 16 * _DATES, 16)), rule=rule)


def measure(name: str) -> dict[str, Any]:
    """The rows of one map; others' ways beside ours where there are any."""
    from rasterio.features import shapes
    from scipy import ndimage

    made = world(name)
    of = alerts_of(cube_of(made, _SIDE_PX, range(_DATES)), made.rule)
    window = made.grid.window
    states, tracked = PixelStates.idle(window.shape), np.zeros(window.shape, np.bool_)
    areas = pixel_area_units(made.grid, window)
    for step, day in enumerate(made.days):
        seen = Observation(seen=made.seen[step], confidence=made.confidence[step])
        _, lived_s = _timed(partial(advance, states, seen, day, made.rule))
        found, found_s = _timed(partial(find, states, tracked, areas, window, window, of.min_area))
        (pieces, tracked), told_s = _timed(partial(describe, found, states, tracked, areas, window, window))
    runs, labelled_s = _timed(lambda: label(states.active))
    _, scipy_s = _timed(lambda: ndimage.label(states.active, np.ones((3, 3))))
    image = runs.select(runs.sum(runs.length) * 900 >= made.rule.min_area_m2).image(window.shape)
    outlines, traced_s = _timed(lambda: trace(image, window, int(image.max())))
    _, gdal_s = _timed(lambda: sum(1 for _ in shapes(image, mask=image > 0, connectivity=4)))

    store = MemoryStore()
    (shard,) = plan_alerts(store, of)
    if name == "noise":  # of which the first task finds that it needs more, and is planned anew
        shard.do(store)
        (shard,) = plan_alerts(store, of)
    peak, shard_s = resident_peak(lambda: shard.do(store))
    row: dict[str, Any] = {
        "map": name, "active": f"{states.active.mean():.0%}", "pieces": pieces.measures.n, "alerts": len(outlines),
        "pixels' lives": f"{lived_s:.2f}", "labels (scipy)": f"{labelled_s:.2f} ({scipy_s:.2f})",
        "outlines (GDAL)": f"{traced_s:.2f} ({gdal_s:.2f})", "all of a date": f"{lived_s + found_s + told_s:.2f}",
        "shard task a date": f"{shard_s / _DATES:.2f}",
        "shard MiB (planned)": f"{peak / _MIB:.0f} ({shard.memory_bytes / _MIB:.0f})",
    }  # fmt: skip
    row |= {"join, all dates": "-", "join MiB (planned)": "-", "tiles": "-", "tiles MiB (planned)": "-"}
    if name != "noise":  # whose tiles GDAL would write for an hour
        (joined,) = plan_alerts(store, of)
        peak, joined_s = resident_peak(lambda: joined.do(store))
        row["join, all dates"] = f"{joined_s:.1f}"
        row["join MiB (planned)"] = f"{peak / _MIB:.0f} ({joined.memory_bytes / _MIB:.0f})"
        (tiles,) = plan_alerts(store, of)
        peak, drawn_s = resident_peak(lambda: tiles.do(store))
        finish_alerts(store, of)
        row["tiles"] = f"{drawn_s:.1f}"
        row["tiles MiB (planned)"] = f"{peak / _MIB:.0f} ({tiles.memory_bytes / _MIB:.0f})"
    return {"rows": [row]}


def _timed(do: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    result = do()
    return result, time.process_time() - started


def resident_peak(do: Callable[[], object]) -> tuple[int, float]:
    """Bytes beyond what the process had, and CPU seconds."""
    before, peak, done = _resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLE_S):
            peak[0] = max(peak[0], _resident())

    thread = threading.Thread(target=watch)
    thread.start()
    _, seconds = _timed(do)
    done.set()
    thread.join()
    return peak[0] - before, seconds


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _warm() -> None:
    """Import what tasks import, so that it is not taken for theirs."""
    seen = np.random.default_rng(0).choice([BEFORE, AFTER], (_DATES, 64, 64)).astype(np.uint8)
    rule = Rule(name="warm", before="land", after="water")
    some = World(seen=seen, confidence=np.full_like(seen, 200), days=tuple(range(18_000, 18_000 + _DATES)), rule=rule)
    store, of = MemoryStore(), alerts_of(cube_of(some, 32, range(_DATES)), some.rule)
    while tasks := plan_alerts(store, of):
        for task in tasks:
            task.do(store)


if __name__ == "__main__":
    apply()
    _warm()
    print(json.dumps(measure(sys.argv[1])))
