"""A driver alone: many scenes, planned and sent to workers that do nothing, over a store that keeps nothing.

What is left is what the driver itself takes: the plan, the schedule, the record of the attempt. Catalogues are made by
their own code and measured by the benchmark `linear`; here they are left out.
"""

from __future__ import annotations

import dataclasses
import json
import resource
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
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.jobs.records.blocks import BlockCost
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
        one = plan(config)
    before = _peak_mib()
    begun = time.process_time()
    (first,) = one.scenes
    many = tuple(
        dataclasses.replace(first, scene=dataclasses.replace(first.scene, id=f"s{n:06}"), key=f"{n:064x}")
        for n in range(n_scenes)
    )
    made = dataclasses.replace(one, scenes=many)
    store = _Sieve()
    engine = Engine(plan=made, executor=_Nothing(), start_s=0.0, worker_stats=list)
    with (
        operating(config.report, store, "planned", {}) as operation,
        mock.patch.object(driver, "Linker", _NoLinker),
        mock.patch.object(driver._Driver, "_catalogue", _nothing),
    ):
        result = driver._Driver(config, engine, store, StoredScenes(store, many), operation, None).run()
    seconds = time.process_time() - begun
    assert result.exit_code == 0
    assert len(result.results) == n_scenes
    document = len(json.dumps(made.document()))
    return {
        "scenes planned": f"{n_scenes:,}", "processor seconds of the driver": f"{seconds:.0f}",
        "microseconds for each": f"{seconds / n_scenes * 1e6:.0f}",
        "memory of the driver above that for one scene, MiB": f"{_peak_mib() - before:.0f}",
        "bytes of it for each": f"{(_peak_mib() - before) * _MIB / n_scenes:,.0f}",
        "plan.json, MB": f"{document / 1e6:.0f}",
        "largest record of the attempt, MB": f"{store.largest / 1e6:.0f}",
    }  # fmt: skip


class _Sieve(MemoryStore):
    """Keeps small documents, forgets large ones, and holds no scene."""

    largest = 0

    def put(self, key: str, data: bytes) -> None:  # noqa: ARG002
        self.largest = max(self.largest, len(data))

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
        class_areas=(), nodata_px=0,
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


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
