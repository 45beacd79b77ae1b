"""Many tiny scenes: what a scene costs that has almost no pixels, on disk and in a distant bucket.

python -m tests.bench.scenes local FOLDER 300
python -m tests.bench.scenes s3 FOLDER 300
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
from affine import Affine

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.jobs.execution.event import Event
from earthloom.jobs.planning.plan import RunPlan
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply, derive
from earthloom.tiling.storage.store import open_store
from infra.s3_server import s3_server
from tests.bench.command import command
from tests.bench.scaling import line
from tests.faults.proxy import Rule, fault_proxy

SIDE_PX = 256
_COUNTS = tuple(int(n) for n in os.environ.get("EARTHLOOM_BENCH_SCENES", "100,300,1000,3000").split(","))
_LATENCY_S = 0.04


def scenes(folder: Path) -> list[dict[str, Any]]:
    """Many scenes of 256 x 256 px with one worker: processor time of the driver and of all processes, and scenes a second."""
    rows: list[dict[str, Any]] = []
    for where in ("local", "s3"):
        found = [command("tests.bench.scenes", where, str(folder), str(count)).printed for count in _COUNTS]
        for count, output in zip(_COUNTS, found, strict=True):
            rows.append(
                {
                    "where": "on disk" if where == "local" else f"S3, {1000 * _LATENCY_S:.0f} ms away", "scenes": count,
                    "driver CPU s a scene": f"{output['driver_s'] / count:.4f}",
                    "of it planning": f"{output['plan_s'] / count:.4f}",
                    "all CPU s a scene": f"{output['all_s'] / count:.4f}", "scenes/s": f"{count / output['wall_s']:.2f}",
                    "driver MiB": f"{output['driver_mib']:.0f}", "R² of driver and all CPU": "",
                }
            )  # fmt: skip
        if len(_COUNTS) > 2:
            lines = [line(list(_COUNTS), [output[what] for output in found]) for what in ("driver_s", "all_s")]
            rows.append(
                {
                    "where": "line", "scenes": "one more", "driver CPU s a scene": f"{lines[0][0]:.4f}",
                    "of it planning": "", "all CPU s a scene": f"{lines[1][0]:.4f}", "scenes/s": "", "driver MiB": "",
                    "R² of driver and all CPU": " and ".join(f"{r2:.4f}" for _, _, r2 in lines),
                }
            )  # fmt: skip
    return rows


def write_scenes(folder: Path, count: int) -> Path:
    """So many small GeoTIFFs of two bands, side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(500, 6000, (2, SIDE_PX, SIDE_PX)).astype(np.uint16)
    for number in range(count):
        east, south = 10 * SIDE_PX * (number % 100), 10 * SIDE_PX * (number // 100)
        profile = {
            "driver": "GTiff", "width": SIDE_PX, "height": SIDE_PX, "count": 2, "dtype": "uint16", "tiled": True,
            "blockxsize": SIDE_PX, "blockysize": SIDE_PX, "compress": "zstd", "crs": "EPSG:32617",
            "transform": Affine(10, 0, 300000 + east, 0, -10, 4500000 - south),
        }  # fmt: skip
        with rasterio.open(folder / f"scene-{number:05}.tif", "w", **profile) as dataset:
            dataset.write(np.roll(pixels, number, axis=1))
            dataset.descriptions = ("green", "swir16")
    return folder


def measured(scenes: str, out: str) -> dict[str, Any]:
    """A run of all of them with one worker, from the beginning to the end of the run, without the start of the engine.

    The worker is counted from its first block to the last scene, Ray's own processes with it.
    """
    me = psutil.Process()
    apart = {child.pid for child in me.children(recursive=True)}  # the storage, if it is here
    marks: dict[str, tuple[float, float]] = {}
    counts: list[int] = []
    n_scenes = 0

    def mark(name: str) -> None:
        times = me.cpu_times()
        marks[name] = float(times.user + times.system), float(times.children_user + times.children_system)

    def note(event: Event) -> None:
        if event.computed_px and "first" not in marks:
            marks["first"] = 0.0, _below_s(me, apart)
        if event.status == "published":
            counts.append(1)
            if len(counts) % 50 == 0 or len(counts) == n_scenes:
                marks["last"] = 0.0, _below_s(me, apart)

    def begin(plan: RunPlan) -> None:
        nonlocal n_scenes
        n_scenes = len(plan.scenes)
        mark("planned")

    mark("begin")
    begun = time.perf_counter()
    config = load(
        {"scenes": (scenes,), "out": out, "model": "water-index", "scale": 1e-4, "quantity": "toa_reflectance",
         "workers": 1}
    )  # fmt: skip
    result = run(config, on_plan=begin, on_event=note)
    wall_s = time.perf_counter() - begun - result.telemetry["start_s"]
    assert result.exit_code == 0, [scene.error for scene in result.scenes.values() if scene.error][:3]
    mark("end")
    driver_s = marks["end"][0] - marks["begin"][0]
    inspected_s = marks["planned"][1] - marks["begin"][1]
    return {
        "wall_s": wall_s, "driver_s": driver_s, "plan_s": marks["planned"][0] - marks["begin"][0],
        "all_s": driver_s + inspected_s + marks["last"][1] - marks["first"][1],
        "inspected_s": inspected_s, "driver_mib": me.memory_info().rss / 2**20,
    }  # fmt: skip


def _below_s(process: psutil.Process, apart: set[int]) -> float:
    """Processor time of everything below a process that lives, but for some."""
    total = 0.0
    for child in process.children(recursive=True):
        if child.pid in apart:
            continue
        with suppress(psutil.NoSuchProcess):
            own = child.cpu_times()
            total += float(own.user + own.system)
    return total


def main(where: str, folder: str, count: int) -> None:
    source = write_scenes(Path(folder) / f"in-{count}", count)
    time.sleep(3)  # files that have just been written may still change, so their digests are not kept
    with ExitStack() as stack:
        if where == "local":
            places = str(source), str(Path(folder) / f"out-{count}")
        else:
            server = stack.enter_context(s3_server(["scenes", "maps"]))
            proxy = stack.enter_context(fault_proxy(server.endpoint))
            env = server.env | {"AWS_ENDPOINT_URL": server.endpoint}
            os.environ |= env | derive(env)
            apply()
            store = open_store(ObjectRef.parse("s3://scenes/in"))
            for path in source.iterdir():
                store.put(path.name, path.read_bytes())
            proxy.set(Rule(".*", ".*", "delay", times=1 << 60, seconds=_LATENCY_S))
            env = server.env | {"AWS_ENDPOINT_URL": proxy.endpoint}
            os.environ |= env | derive(env)
            places = "s3://scenes/in/", "s3://maps/out"
        print(json.dumps(measured(*places)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
