"""The driver: plans, hands blocks to workers, publishes scenes as they are done, and keeps the record.

Never touches a pixel while blocks run: workers read and write by themselves, and what comes back is a small record.
One bad scene does not stop the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from earthloom.cluster.executor import Task
from earthloom.cluster.outcome import Done, Failed
from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.engine import Engine, idle_engine, open_engine, plan_here
from earthloom.jobs.execution.worker import BlockTask
from earthloom.jobs.planning.plan import RunPlan, ScenePlan
from earthloom.jobs.products.layout import layout_of
from earthloom.jobs.publish.catalog import link, tabulate
from earthloom.jobs.publish.scene import committed, prepare, publish
from earthloom.jobs.records.attempt import Attempt, SceneProgress, begin
from earthloom.jobs.records.blocks import BlockRecord, ShardRecord
from earthloom.jobs.records.documents import commit
from earthloom.jobs.records.markers import finished_shards, missing_blocks
from earthloom.jobs.records.result import SceneResult
from earthloom.jobs.records.run_commit import commit_run
from earthloom.jobs.report.telemetry import Meter, memory_summary
from earthloom.tiling.errors import EarthloomError, StorageError
from earthloom.tiling.redact import redact
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a progress display shows."""

    scene_id: str
    status: str
    blocks_done: int
    blocks: int
    computed_px: int
    """Output pixels of the block that was just computed."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended."""

    run_id: str
    out: str
    scenes: dict[str, SceneProgress]
    """By scene id, refused ones too."""
    results: dict[str, SceneResult]
    """Published scenes, by scene id."""
    telemetry: dict[str, Any]
    stopped: str | None = None
    """Why it stopped early, if it did."""

    @property
    def exit_code(self) -> int:
        """0 all published · 1 nothing was · 2 every scene was refused · 3 some scenes were not published."""
        if len(self.results) == len(self.scenes) and not self.stopped:
            return 0
        if self.results:
            return 3
        return 2 if all(scene.status == "refused" for scene in self.scenes.values()) else 1


@dataclass(slots=True)
class _SceneState:
    plan: ScenePlan
    shards: dict[tuple[int, int], ShardRecord] = field(default_factory=dict)
    waiting: int = -1
    """Blocks still to come back; -1 before the scene's blocks were listed."""


def run(
    config: RunConfig,
    *,
    on_plan: Callable[[RunPlan], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> RunResult:
    """Map every scene of `config` and publish the results below `config.out`.

    Args:
        on_plan: called once with the plan, before anything is written.
        on_event: called from this thread whenever a scene moves on.

    Raises:
        InputError: nothing could be planned at all.
        EngineError: Ray, a GPU or the cluster is not as asked for.
        StorageError: `config.out` cannot be written.
    """
    made = plan_here(config)
    if made and not made.scenes:  # nothing to compute: start no engine and write nothing
        if on_plan:
            on_plan(made)
        return RunResult(
            run_id=made.run_id, out=made.out.url, scenes=_refused(made), results={}, telemetry={}
        )  # fmt: skip
    with ExitStack() as stack:
        # a nightly run without news must not cost the start of an engine
        idle = made and _all_published(made)
        engine = idle_engine(made) if made and idle else stack.enter_context(open_engine(config, made))
        if on_plan:
            on_plan(engine.plan)
        return _Driver(config, engine, on_event).run()


class _Driver:
    """State of one run; every method but `_publish` runs in the caller's thread."""

    def __init__(self, config: RunConfig, engine: Engine, on_event: Callable[[Event], None] | None) -> None:
        self._config, self._engine, self._on_event = config, engine, on_event
        self._plan = engine.plan
        self._store: Store = open_store(self._plan.out)
        self._states = {plan.scene.id: _SceneState(plan) for plan in self._plan.scenes}
        self._progress = {
            plan.scene.id: SceneProgress("waiting", key=plan.key, blocks=plan.n_blocks) for plan in self._plan.scenes
        } | _refused(self._plan)
        self._results: dict[str, SceneResult] = {}
        self._publishing: dict[str, Future[tuple[SceneResult, bool]]] = {}
        self._meter = Meter(profile=config.profile, computing=self._plan.computing)
        self._stopped: str | None = None
        self._started = time.monotonic()

    def run(self) -> RunResult:
        probe_conditional_writes(self._store)
        commit(self._store, f"runs/{self._plan.run_id}/plan.json", self._plan.document())
        attempt = begin(self._store, self._plan.run_id, self._progress)
        publisher = ThreadPoolExecutor(1, "publish")  # one: a second would double the memory and the scratch space
        try:
            with closing(self._engine.executor.run(self._tasks(attempt.number, publisher))) as outcomes:
                for outcome in outcomes:
                    self._take(outcome, publisher)
                    self._collect()
                    attempt.save()
                    if self._should_stop():
                        break
            for future in list(self._publishing.values()):
                future.exception()  # waits; the failure itself is taken by _collect, with all that is done by then
                self._collect()
            attempt.state = self._finish(attempt)
        except BaseException:
            attempt.state = "stopped"
            raise
        finally:
            publisher.shutdown(wait=False, cancel_futures=True)
            for progress in self._progress.values():
                if progress.status in ("waiting", "running"):
                    progress.status = "unfinished"
            attempt.end()
        return RunResult(
            run_id=self._plan.run_id, out=self._plan.out.url, scenes=self._progress, results=self._results,
            telemetry=attempt.telemetry, stopped=self._stopped,
        )  # fmt: skip

    def _tasks(self, attempt: int, publisher: ThreadPoolExecutor) -> Iterator[Task]:
        """Blocks still to do, scene by scene, listed only when workers ask for more."""
        for scene_id, state in self._states.items():
            try:
                state.waiting = self._open(state)
            except EarthloomError as error:
                self._fail(scene_id, type(error).__name__, str(error))
                continue
            if self._progress[scene_id].status == "running" and not state.waiting:
                self._publish(scene_id, publisher)
            known = frozenset(state.shards)
            for block in missing_blocks(state.plan.blocks(), state.plan.shard_px, known) if state.waiting else ():
                if self._progress[scene_id].status != "running":
                    break  # it failed meanwhile: its other blocks would be work for nothing
                task = BlockTask(plan=state.plan, block=block, attempt=attempt)
                yield Task(key=task.key, payload=task)

    def _open(self, state: _SceneState) -> int:
        """Number of blocks of a scene that storage does not vouch for; none if it is published."""
        plan, progress = state.plan, self._progress[state.plan.scene.id]
        if result := committed(self._store, plan):
            progress.status, progress.blocks_done = "already published", progress.blocks
            self._results[plan.scene.id] = result
            self._tell(plan.scene.id)
            return 0
        prepare(self._store, plan)
        state.shards = finished_shards(self._store, plan.prefix, layout_of(plan))
        missing = sum(1 for _ in missing_blocks(plan.blocks(), plan.shard_px, state.shards))
        progress.status, progress.blocks_done = "running", plan.n_blocks - missing
        self._tell(plan.scene.id)
        return missing

    def _take(self, outcome: Done | Failed, publisher: ThreadPoolExecutor) -> None:
        scene_id, _, block = outcome.key.rpartition("/")
        state, progress = self._states[scene_id], self._progress[scene_id]
        progress.note(block, outcome.causes)
        if isinstance(outcome, Failed):
            where = f"block {block} after {outcome.attempts} attempt{'s' if outcome.attempts > 1 else ''}"
            self._fail(scene_id, outcome.error.kind, f"{where}: {outcome.error.message}")
            return
        record = outcome.value
        assert isinstance(record, BlockRecord), "workers return BlockRecords"
        state.shards |= {(shard.row, shard.col): shard for shard in record.shards}
        state.waiting -= 1
        progress.blocks_done += 1
        self._tell(scene_id, computed_px=self._meter.add(state.plan, record))
        if state.waiting == 0 and progress.status == "running":
            self._publish(scene_id, publisher)

    def _publish(self, scene_id: str, publisher: ThreadPoolExecutor) -> None:
        state = self._states[scene_id]

        def work() -> tuple[SceneResult, bool]:
            with self._meter.mark(f"publish {scene_id}"):
                published = publish(self._store, state.plan, state.shards)
                link(self._store, [state.plan])
            return published

        self._publishing[scene_id] = publisher.submit(work)

    def _collect(self) -> None:
        """Take the results of scenes that the publisher has finished."""
        for scene_id in [name for name, future in self._publishing.items() if future.done()]:
            future = self._publishing.pop(scene_id)
            error = future.exception()
            if error is None:
                self._results[scene_id], won = future.result()
                self._progress[scene_id].status = "published" if won else "already published"  # by another driver
                self._states[scene_id].shards = {}
                self._tell(scene_id)
            else:
                if not isinstance(error, EarthloomError):  # a bug of ours: say where, and let the other scenes finish
                    log.error("publishing %s", scene_id, exc_info=error)
                self._fail(scene_id, type(error).__name__, redact(f"publishing: {error}"))

    def _fail(self, scene_id: str, kind: str, message: str) -> None:
        progress = self._progress[scene_id]
        if progress.status != "failed":
            progress.status, progress.kind, progress.error = "failed", kind, message
            log.warning("scene %s failed: %s", scene_id, message)
            self._tell(scene_id)

    def _tell(self, scene_id: str, computed_px: int = 0) -> None:
        if self._on_event is None:
            return
        progress = self._progress[scene_id]
        self._on_event(
            Event(
                scene_id=scene_id, status=progress.status, blocks_done=progress.blocks_done, blocks=progress.blocks,
                computed_px=computed_px, error=progress.error,
            )
        )  # fmt: skip

    def _should_stop(self) -> bool:
        failed = sum(scene.status == "failed" for scene in self._progress.values())
        elapsed = time.monotonic() - self._started
        if self._config.max_runtime is not None and elapsed > self._config.max_runtime:
            self._stopped = f"`max_runtime` of {self._config.max_runtime} s is over; the same command continues"
        elif self._config.max_failures is not None and failed > self._config.max_failures:
            self._stopped = f"{failed} scenes failed, more than `max_failures={self._config.max_failures}`"
        return self._stopped is not None

    def _catalogue(self) -> None:
        """Link what is published, again: an earlier run may have died between a commit and its link."""
        plans = {scene_id: self._states[scene_id].plan for scene_id in self._results}
        try:
            link(self._store, list(plans.values()))
            tabulate(self._store, list(plans.values()))
        except EarthloomError:
            for scene_id, plan in plans.items():  # one by one, so that only the scene in question fails
                try:
                    link(self._store, [plan])
                    tabulate(self._store, [plan])
                except EarthloomError as error:
                    del self._results[scene_id]
                    self._fail(scene_id, type(error).__name__, f"entering the catalogue: {error}")

    def _finish(self, attempt: Attempt) -> str:
        elapsed = time.monotonic() - self._started
        attempt.telemetry |= self._meter.summary(elapsed, self._config.price_per_hour)
        attempt.telemetry |= {"start_s": round(self._engine.start_s, 3)}
        attempt.telemetry |= memory_summary(self._plan.worker_bytes, self._engine.worker_stats())
        self._catalogue()
        if self._config.profile:
            prefix = f"runs/{self._plan.run_id}/profiles/{attempt.number}"
            try:
                attempt.telemetry["profile"] = self._meter.save_profile(self._store, prefix)
            except StorageError as error:
                log.warning("the profile of this attempt is not written: %s", error)
        complete = len(self._results) == len(self._progress)
        if complete:
            self._stopped = None  # the block that came too late was the last
        if complete or (self._config.allow_failures and self._results and not self._stopped):
            commit_run(
                self._store,
                self._plan.run_id,
                scenes={name: result.prefix for name, result in self._results.items()},
                missing=set(self._progress) - set(self._results),
            )
        return "done" if complete else "stopped" if self._stopped else "failed"


def _all_published(plan: RunPlan) -> bool:
    try:
        return all(committed(open_store(plan.out), scene) for scene in plan.scenes)
    except EarthloomError:
        return False  # whose fault it is, is told scene by scene


def _refused(plan: RunPlan) -> dict[str, SceneProgress]:
    return {scene.id: SceneProgress("refused", error=scene.message, kind=scene.kind) for scene in plan.refused}
