"""The worker of a run: one object per process that surveys scenes, computes their blocks and publishes them.

Runs in a Ray actor or in this process alike, called from several threads at once. Only small records leave it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from earthloom.cluster.allowance import Allowance
from earthloom.jobs.execution.tasks import BlockTask, PublishTask, SceneTask, SurveyTask
from earthloom.jobs.execution.worker import BlockWorker, WorkerSetup
from earthloom.jobs.planning.memory import publishing_bytes, survey_bytes
from earthloom.jobs.publish.scene import publish
from earthloom.jobs.records.blocks import BlockCost
from earthloom.jobs.records.result import SceneSummary
from earthloom.jobs.report.metrics import Metrics
from earthloom.tiling.redact import guard_logs
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedScene:
    """What the driver is told of a scene that was published."""

    summary: SceneSummary
    won: bool
    """Whether this task committed it; False if another driver was faster and made the same."""
    started_s: float
    """POSIX time."""
    seconds: float


class SceneWorker:
    """Does whatever a run asks of a worker."""

    def __init__(self, setup: WorkerSetup) -> None:
        guard_logs()
        apply(threads=setup.threads)
        self._store = open_store(setup.out)
        self._blocks = BlockWorker(setup)
        self._metrics, self._counting = Metrics(setup.out.url), threading.Lock()
        self._n_blocks = self._n_px = 0
        self._device_s = 0.0
        self._of_scenes = Allowance(setup.shape.scene_bytes)

    def __call__(self, task: SceneTask) -> BlockCost | PublishedScene | tuple[str, ...]:
        match task:
            case BlockTask():
                cost = self._blocks(task)
                self._count(cost)
                return cost
            case SurveyTask():
                with self._of_scenes.taken(survey_bytes(task.plan.chain.stages)):
                    return self._blocks.survey(task.plan)
            case PublishTask():
                return self._publish(task)

    def _count(self, cost: BlockCost) -> None:
        """Tell Prometheus, on the node where this worker is; the driver's own counts lose nothing when it dies."""
        with self._counting:
            self._n_blocks, self._n_px = self._n_blocks + 1, self._n_px + cost.computed_px
            self._device_s += cost.compute_s
            self._metrics.set("earthloom_worker_blocks_total", self._n_blocks)
            self._metrics.set("earthloom_worker_pixels_total", self._n_px)
            self._metrics.set("earthloom_worker_device_seconds_total", self._device_s)

    def _publish(self, task: PublishTask) -> PublishedScene:
        plan = task.plan
        needed = publishing_bytes(plan.grid.window, plan.shard_px, plan.chain.stored_bytes, plan.chain.table_bytes)
        with self._of_scenes.taken(needed):
            started_s, started = time.time(), time.perf_counter()
            summary, won = publish(self._store, plan, task.write_id)
            return PublishedScene(
                summary=summary, won=won, started_s=started_s, seconds=time.perf_counter() - started
            )  # fmt: skip
