"""How a run scales: with workers, with nodes and with pixels.

python -m tests.bench.scaling workers 2 scene.tif
python -m tests.bench.scaling nodes 8
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.outcome import Done
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.session import connect
from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import Event, run
from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_OPTIONS = {"scale": 1e-4, "quantity": "toa_reflectance"}
_BLOCK_PX = 1024
_SIDE_PX = 6144
_SIDES_PX = (2000, 4000, 6000, 8000, 12000)
_LANES = 3
_TASK_S = 0.75
_ROUNDS = 50
_MIB = 2**20


def scaling(folder: Path) -> list[dict[str, Any]]:
    """Two workers of one thread each against one, both with all of this machine: landwater, end to end."""
    scene = large_scene(folder / "scaling.tif", _SIDE_PX, LANDWATER_BANDS)
    time.sleep(3)  # a file that has just been written may still change, so its digest is not kept
    rows: list[dict[str, Any]] = []
    base: dict[str, Any] = {}
    for workers in (1, 2):
        told = command("tests.bench.scaling", "workers", str(workers), str(scene)).told
        base = base or told
        rows.append(
            {
                "workers": workers, "scene": f"{_SIDE_PX}²", "blocks": told["blocks"],
                "Mpx/s while computing": f"{told['steady']:.3f}", "speed-up": f"{told['steady'] / base['steady']:.2f}",
                "Mpx/s with start of workers": f"{told['whole']:.3f}",
                "speed-up with start": f"{told['whole'] / base['whole']:.2f}",
            }
        )  # fmt: skip
    scene.unlink()
    return rows


def cluster(_: Path) -> list[dict[str, Any]]:
    """A cluster of eight nodes on this machine against one node; workers sleep, so that the engine alone is measured."""
    rows: list[dict[str, Any]] = []
    base: dict[str, Any] = {}
    for nodes in (1, 8):
        told = command("tests.bench.scaling", "nodes", str(nodes)).told
        base = base or told
        rows.append(
            {
                "nodes": nodes, "lanes": nodes * _LANES, "tasks": told["tasks"], "task s": _TASK_S,
                "ideal s": f"{told['ideal_s']:.1f}", "measured s": f"{told['measured_s']:.1f}",
                "efficiency": f"{told['ideal_s'] / told['measured_s']:.3f}",
                "tasks/s": f"{told['tasks_per_s']:.2f}",
                "speed-up": f"{told['tasks_per_s'] / base['tasks_per_s']:.2f}",
                "s with start of workers": f"{told['whole_s']:.1f}", "driver CPU s": f"{told['cpu_s']:.1f}",
            }
        )  # fmt: skip
    return rows


def linear(folder: Path) -> list[dict[str, Any]]:
    """Cost of `run` against pixels: water-index without Ray, whole command, processor time of all its processes."""
    sizes, walls, cpus = [], [], []
    rows: list[dict[str, Any]] = []
    for side_px in _SIDES_PX:
        scene = large_scene(folder / f"linear-{side_px}.tif", side_px, ("green", "swir16"))
        time.sleep(3)  # as above
        before = os.times()
        options = (*SCENE_OPTIONS, "--json", "--executor", "local")
        done = command(
            "earthloom", "run", str(scene), "--out", str(folder / f"out-{side_px}"), "--model", "water-index", *options
        )
        after = os.times()
        scene.unlink()
        sizes.append(side_px**2 / 1e6)
        walls.append(done.wall_s)
        cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
        rows.append(
            {"Mpx": f"{sizes[-1]:.0f}", "wall s": f"{walls[-1]:.2f}", "processor s": f"{cpus[-1]:.2f}", "R²": ""}
        )
    (wall, start, wall_fit), (cpu, cpu_start, cpu_fit) = _line(sizes, walls), _line(sizes, cpus)
    return [
        *rows,
        {
            "Mpx": "per 100", "wall s": f"{100 * wall:.2f}", "processor s": f"{100 * cpu:.2f}",
            "R²": f"{wall_fit:.4f} and {cpu_fit:.4f}",
        },
        {"Mpx": "at 0", "wall s": f"{start:.2f}", "processor s": f"{cpu_start:.2f}", "R²": ""},
    ]  # fmt: skip


def _line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line."""
    slope, intercept = (float(value) for value in np.polyfit(x, y, 1))
    left = sum((b - (slope * a + intercept)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, intercept, 1 - left / (len(y) * float(np.var(y)))


def _workers(workers: int, scene: str) -> dict[str, Any]:
    """Rate of a run on `workers` cores; the connection made here keeps each worker at one thread.

    While computing: from the moment that every worker has given its first block to the last block, without publishing.
    """
    times: list[float] = []

    def note(event: Event) -> None:
        if event.computed_px:
            times.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=Path(scene).parent) as out, connect("local", cpus=workers):
        config = load(
            {"scenes": (scene,), "out": out, "model": "landwater", "workers": workers, "block": _BLOCK_PX,
             "shard": _BLOCK_PX, **_OPTIONS}
        )  # fmt: skip
        started = time.perf_counter()

        def begin(_: object) -> None:
            nonlocal started
            started = time.perf_counter()

        result = run(config, on_event=note, on_plan=begin)
    assert result.exit_code == 0
    mpx = _BLOCK_PX**2 / 1e6
    return {
        "blocks": len(times),
        "steady": (len(times) - workers) * mpx / (times[-1] - times[workers - 1]),
        "whole": len(times) * mpx / (times[-1] - started),
    }


def naps(_: None) -> Callable[[float], tuple[int, float, float]]:
    """A worker that sleeps and says where, from when and until when."""

    def work(seconds: float) -> tuple[int, float, float]:
        begun = time.monotonic()
        time.sleep(seconds)
        return os.getpid(), begun, time.monotonic()

    return work


def _nodes(nodes: int) -> dict[str, Any]:
    """Tasks that sleep on a cluster of `nodes` raylets of this machine, one worker on each.

    Measured from the moment that every worker runs: what the lanes slept from then on, over what they could have.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    from ray.cluster_utils import Cluster  # Ray reads its settings when it is imported

    from earthloom.cluster.ray_pool import RayExecutor

    tasks, lanes = nodes * _LANES * _ROUNDS, nodes * _LANES
    simulated: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * _MIB})
    try:
        for _ in range(nodes):
            simulated.add_node(num_cpus=1, object_store_memory=80 * _MIB)
        simulated.wait_for_nodes()
        with connect(simulated.address):
            executor = RayExecutor(WorkerFactory(naps), workers=nodes, lanes=_LANES, resources=WorkerResources(cpus=1))
            begun, cpu = time.monotonic(), time.process_time()
            outcomes = list(executor.run(Task(key=str(number), payload=_TASK_S) for number in range(tasks)))
            whole_s, cpu = time.monotonic() - begun, time.process_time() - cpu
    finally:
        simulated.shutdown()
    spans = [outcome.value for outcome in outcomes if isinstance(outcome, Done)]
    assert len(spans) == tasks
    first: dict[int, float] = {}
    for worker, start, _ in spans:
        first[worker] = min(start, first.get(worker, start))
    assert len(first) == nodes, "every node has a worker, and none died"
    all_there, end = max(first.values()), max(stop for _, _, stop in spans)
    slept = sum(max(0.0, stop - max(start, all_there)) for _, start, stop in spans)
    return {
        "tasks": tasks, "ideal_s": slept / lanes, "measured_s": end - all_there, "whole_s": whole_s, "cpu_s": cpu,
        "tasks_per_s": slept / _TASK_S / (end - all_there),
    }  # fmt: skip


def main(what: str, count: int, *scene: str) -> None:
    print(json.dumps(_workers(count, *scene) if what == "workers" else _nodes(count)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
