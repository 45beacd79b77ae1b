"""How a run scales: with workers, with nodes and with pixels.

python -m tests.bench.scaling workers 2 scene.tif
python -m tests.bench.scaling nodes 8 folder
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.session import connect
from earthloom.jobs.config import load
from earthloom.jobs.execution import engine
from earthloom.jobs.execution.driver import run
from earthloom.jobs.execution.event import Event
from earthloom.jobs.execution.scene_worker import SceneWorker
from earthloom.jobs.execution.tasks import BlockTask, SceneTask
from earthloom.jobs.execution.worker import WorkerSetup
from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.records.blocks import BlockCost
from earthloom.jobs.records.markers import marker_key
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import open_store
from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_OPTIONS = {"scale": 1e-4, "quantity": "toa_reflectance"}
_BLOCK_PX = 1024
_SIDE_PX = 6144
_SIDES_PX = (2000, 4000, 6000, 8000, 12000)
_TASK_S = 0.75
_NAP_PX = 512
_NAP_SCENES = 5
"""For each node."""
_MIB = 2**20


def scaling(folder: Path) -> list[dict[str, Any]]:
    """Two workers of one thread each against one, both with all of this machine: landwater, end to end."""
    scene = large_scene(folder / "scaling.tif", _SIDE_PX, LANDWATER_BANDS)
    time.sleep(3)  # a file that has just been written may still change, so its digest is not kept
    rows: list[dict[str, Any]] = []
    base: dict[str, Any] = {}
    for workers in (1, 2):
        found = command("tests.bench.scaling", "workers", str(workers), str(scene)).printed
        base = base or found
        rows.append(
            {
                "workers": workers, "scene": f"{_SIDE_PX}²", "blocks": found["blocks"],
                "Mpx/s while computing": f"{found['steady']:.3f}", "speed-up": f"{found['steady'] / base['steady']:.2f}",
                "Mpx/s with start of workers": f"{found['whole']:.3f}",
                "speed-up with start": f"{found['whole'] / base['whole']:.2f}",
            }
        )  # fmt: skip
    scene.unlink()
    return rows


def cluster(folder: Path) -> list[dict[str, Any]]:
    """A cluster of eight nodes on this machine against one: blocks only sleep, scenes are really published and linked."""
    rows: list[dict[str, Any]] = []
    base: dict[str, Any] = {}
    for nodes in (1, 8):
        found = command("tests.bench.scaling", "nodes", str(nodes), str(folder)).printed
        base = base or found
        rows.append(
            {
                "nodes": nodes, "lanes": found["lanes"], "scenes": found["scenes"], "blocks": found["blocks"],
                "s a block": _TASK_S, "s a publication": f"{found['publication_s']:.2f}",
                "ideal s": f"{found['ideal_s']:.1f}", "measured s": f"{found['measured_s']:.1f}",
                "efficiency": f"{found['ideal_s'] / found['measured_s']:.3f}",
                "blocks/s": f"{found['blocks_per_s']:.2f}",
                "speed-up": f"{found['blocks_per_s'] / base['blocks_per_s']:.2f}",
                "driver CPU s": f"{found['cpu_s']:.1f}",
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
    (wall, start, wall_fit), (cpu, cpu_start, cpu_fit) = line(sizes, walls), line(sizes, cpus)
    return [
        *rows,
        {
            "Mpx": "per 100", "wall s": f"{100 * wall:.2f}", "processor s": f"{100 * cpu:.2f}",
            "R²": f"{wall_fit:.4f} and {cpu_fit:.4f}",
        },
        {"Mpx": "at 0", "wall s": f"{start:.2f}", "processor s": f"{cpu_start:.2f}", "R²": ""},
    ]  # fmt: skip


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
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


@dataclass(frozen=True, slots=True)
class Nap:
    """A worker's setup, and where the markers lie that its blocks put in place."""

    setup: WorkerSetup
    markers: Path


class NappingWorker(SceneWorker):
    """Its blocks sleep, and then their markers appear: their pixels were computed before. All else it does in earnest."""

    def __init__(self, nap: Nap) -> None:
        super().__init__(nap.setup)
        self._nap = nap

    def __call__(self, task: SceneTask) -> Any:
        if not isinstance(task, BlockTask):
            return super().__call__(task)
        started_s = time.time()
        time.sleep(_TASK_S)
        key = marker_key(task.plan.prefix, task.block, task.plan.shard_px)
        open_store(self._nap.setup.out).put(key, (self._nap.markers / key).read_bytes())
        return BlockCost(
            block=task.block.name, chips=0, skipped=0, chip_px=0, computed_px=task.block.core.size_px,
            worker=str(os.getpid()), lane=threading.get_ident(), started_s=started_s, read_s=0.0, wait_s=0.0,
            compute_s=time.time() - started_s, write_s=0.0, read_bytes=0, written_bytes=0, decoded_px=0, source_px=0,
        )  # fmt: skip


def _nodes(nodes: int, folder: str) -> dict[str, Any]:
    """A run on a cluster of `nodes` raylets of this machine, one worker on each.

    Measured from the moment that every worker runs: what the lanes did from then on, over what they could have.
    """
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    out, aside = Path(folder) / f"out-{nodes}", Path(folder) / f"markers-{nodes}"
    config = load(
        {"scenes": (str(_napping_scenes(Path(folder) / "in", nodes)),), "out": str(out), "model": "water-index",
         "shard": _NAP_PX, "block": _NAP_PX, "workers": nodes, "profile": True, **_OPTIONS}
    )  # fmt: skip
    with mock.patch("earthloom.jobs.publish.files.commit", side_effect=StorageError("not yet")):
        here = config.engine.model_copy(update={"executor": "local", "workers": None})
        run(config.model_copy(update={"engine": here}))  # all blocks, and no scene
    for marker in out.glob("scenes/*/*/blocks/*.json"):
        kept = aside / marker.relative_to(out)
        kept.parent.mkdir(parents=True, exist_ok=True)
        marker.replace(kept)
    from ray.cluster_utils import Cluster  # Ray reads its settings when it is imported

    real, planned = engine._factory, list[RunPlan]()

    def factory(*arguments: Any) -> WorkerFactory:
        return WorkerFactory(NappingWorker, Nap(real(*arguments).arguments, aside))

    simulated: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * _MIB})
    try:
        for _ in range(nodes):
            simulated.add_node(num_cpus=1, object_store_memory=80 * _MIB)
        simulated.wait_for_nodes()
        as_it_is = mock.patch.object(engine, "carry_all", lambda nap: nap)  # workers that nap have no models to carry
        with connect(simulated.address), mock.patch.object(engine, "_factory", factory), as_it_is:
            cpu = time.process_time()
            result = run(config, on_plan=planned.append)
            cpu = time.process_time() - cpu
    finally:
        simulated.shutdown()
    assert result.exit_code == 0, [scene.error for scene in result.scenes.values()][:3]
    events = [one for one in json.loads((out / result.telemetry["profile"][0]).read_bytes())["traceEvents"]
              if one["ph"] == "X" and one["dur"]]  # fmt: skip
    blocks = [one for one in events if one["name"] == "compute"]
    publications = [one for one in events if one["name"].startswith("publish ")]
    first: dict[int, float] = {}
    for one in blocks:
        first[one["pid"]] = min(one["ts"], first.get(one["pid"], one["ts"]))
    assert len(first) == nodes, "every node has a worker, and none died"
    all_there, end = max(first.values()), max(one["ts"] + one["dur"] for one in events)

    def busy_s(which: list[dict[str, Any]]) -> float:
        return sum(max(0.0, float(one["ts"] + one["dur"] - max(one["ts"], all_there))) for one in which) / 1e6

    lanes = nodes * planned[0].shape.lanes
    return {
        "lanes": lanes, "scenes": len(publications), "blocks": len(blocks),
        "publication_s": sum(one["dur"] for one in publications) / 1e6 / len(publications),
        "ideal_s": busy_s(events) / lanes, "measured_s": (end - all_there) / 1e6, "cpu_s": cpu,
        "blocks_per_s": busy_s(blocks) / _TASK_S / ((end - all_there) / 1e6),
    }  # fmt: skip


def _napping_scenes(folder: Path, nodes: int) -> Path:
    """Scenes of 25 blocks each, so many that the lanes are busy for a while."""
    scenes = folder / str(nodes)
    scenes.mkdir(parents=True)
    one = large_scene(scenes / "scene-000.tif", 5 * _NAP_PX, ("green", "swir16"))
    for number in range(1, _NAP_SCENES * nodes):
        shutil.copyfile(one, scenes / f"scene-{number:03}.tif")
    return scenes


def main(what: str, count: int, *scene: str) -> None:
    print(json.dumps(_workers(count, *scene) if what == "workers" else _nodes(count, *scene)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
