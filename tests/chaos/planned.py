"""A driver alone: many scenes, planned and sent to workers that do nothing, over a store that keeps nothing.

What is left is what the driver itself takes: the plan, the schedule, the record of the attempt. Catalogues are made by
their own code and measured by the benchmark `linear`; here they are left out.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from earthloom.cluster.executor import Task
from earthloom.cluster.outcome import Done, Outcome
from earthloom.jobs.config import load
from earthloom.jobs.execution import driver
from earthloom.jobs.execution.engine import Engine
from earthloom.jobs.execution.opening import StoredScenes
from earthloom.jobs.execution.scene_worker import PublishedScene
from earthloom.jobs.execution.tasks import BlockTask, PublishTask
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.planning import plan as planning
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.jobs.records.blocks import BlockCost
from earthloom.jobs.records.canonical import canonical
from earthloom.jobs.records.result import SceneSummary
from earthloom.jobs.report.operation import operating
from tests.memory_store import MemoryStore
from tests.scenes import landscape, write_scene

_MIB = 2**20


def planned(n_scenes: int) -> dict[str, str]:
    """What a driver of so many scenes takes."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_scene(Path(folder) / "one.tif", landscape(64, 64, 2), ("green", "swir16"))
        options = {
            "model": "water-index",
            "scale": 1e-4,
            "quantity": "reflectance",
            "device": "cpu",
            "shard": 512,
            "block": 512,
        }
        config = load({"scenes": (str(path),), "out": folder, "executor": "local", **options})
        (request,) = expand(config.scenes)
        (one,) = open_all([request], config.scene)
        plan(config, requests=[request])  # loads what a plan of any size loads
        Path("/proc/self/clear_refs").write_text("5")  # from here on its peak is counted anew
        before = _memory_mib("VmRSS")
        begun = time.process_time()
        with mock.patch.object(
            planning, "open_all", side_effect=lambda *_, **__: [_moved(one, n) for n in range(n_scenes)]
        ):
            made = plan(config, requests=[request])
    planned_s, planned_mib = time.process_time() - begun, _memory_mib("VmRSS") - before
    store = _Sieve()
    engine = Engine(plan=made, executor=_Nothing(), start_s=0.0, worker_stats=list)
    with (
        operating(config.report, store, "planned", {}) as operation,
        mock.patch.object(driver, "Linker", _NoLinker),
        mock.patch.object(driver._Driver, "_catalogue", _nothing),
    ):
        result = driver._Driver(config, engine, store, StoredScenes(store, made.scenes), operation, None).run()
    seconds = time.process_time() - begun
    assert result.exit_code == 0
    assert len(result.results) == n_scenes
    above_mib = _memory_mib("VmHWM") - before
    return {
        "scenes planned": f"{n_scenes:,}", "processor seconds of planning": f"{planned_s:.1f}",
        "processor seconds of driving": f"{seconds - planned_s:.1f}",
        "microseconds for each scene": f"{seconds / n_scenes * 1e6:.0f}",
        "memory of the plans, MiB": f"{planned_mib:.0f}",
        "peak of the driver above one scene's, MiB": f"{above_mib:.0f}",
        "bytes of it for each scene": f"{above_mib * _MIB / n_scenes:,.0f}",
        "plan.json, MB": f"{len(canonical(made.document())) / 1e6:.1f}",
        "largest record of the attempt, MB": f"{store.largest / 1e6:.1f}",
        "bytes put": f"{store.put_bytes:,}",
    }  # fmt: skip


def _moved(opened: OpenedScene | RefusedScene, number: int) -> OpenedScene:
    """A scene of its own, as if its header had been read: nothing of it is shared with the others."""
    assert isinstance(opened, OpenedScene)
    own: OpenedScene = pickle.loads(pickle.dumps(opened))
    scene = own.scene
    a, b, c, d, e, f = scene.grid.transform
    grid = dataclasses.replace(scene.grid, transform=(a, b, c + number % 1000 * 100, d, e, f + number // 1000 * 100))
    asset = dataclasses.replace(scene.assets[0], identity=f"sha256:{number:064x}")
    return dataclasses.replace(
        own, scene=dataclasses.replace(scene, id=f"scene-{number:06}", grid=grid, assets=(asset,)), grids=(grid,)
    )


class _Sieve(MemoryStore):
    """Keeps small documents, forgets large ones, and holds no scene."""

    largest = put_bytes = 0

    def put(self, key: str, data: bytes) -> None:  # noqa: ARG002
        self.largest, self.put_bytes = max(self.largest, len(data)), self.put_bytes + len(data)

    def create(self, key: str, data: bytes) -> bool:
        return super().create(key, data if len(data) < _MIB else data[:1])

    def list(self, prefix: str = "") -> Iterator[Any]:
        return iter(()) if prefix.startswith("scenes/") else super().list(prefix)


class _Nothing:
    """Says of each task that it is done."""

    def dismiss(self) -> None:
        """Nobody is kept."""

    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        for task in tasks:
            assert task is not None
            yield Done(key=task.key, value=_answer(task.payload), attempts=1, seconds=0.0)


def _answer(task: Any) -> BlockCost | PublishedScene:
    if isinstance(task, BlockTask):
        return BlockCost(
            block=task.block.name, chips=1, skipped=0, chip_px=1, computed_px=4096, worker="w", lane=0, started_s=0.0,
            read_s=0.0, wait_s=0.0, compute_s=0.0, write_s=0.0, read_bytes=0, written_bytes=0, decoded_px=0, source_px=0,
        )  # fmt: skip
    assert isinstance(task, PublishTask)
    summary = SceneSummary(
        scene_id=task.plan.scene.id, key=task.plan.key, prefix=task.plan.prefix, model="m", rasters=("m.tif",),
        class_areas=tuple(
            {"value": n, "name": name, "color": "#000000", "pixels": id(task), "area_m2": 1.0 * id(task), "percent": 50.0}
            for n, name in enumerate(("land", "water"))
        ),
        nodata_px=0,
    )  # fmt: skip
    return PublishedScene(summary=summary, won=True, started_s=0.0, seconds=0.0)


class _NoLinker:
    def __init__(self, store: object) -> None:
        """Links nothing."""

    def add(self, plan: object) -> None:
        """Nor this."""

    def close(self, wait: bool) -> None:
        """Nothing is open."""


def _nothing(_: RunPlan) -> None:
    """In place of the catalogue."""


def _memory_mib(name: str) -> float:
    """Of this process: `VmRSS` now, `VmHWM` at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024
