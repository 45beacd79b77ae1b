"""The driver: plans, hands surveys, blocks and scenes to be published to workers, and keeps the record.

It opens no tile and no pixel, and holds of a scene only how far it is: workers read and write by themselves, and what comes
back is a small record. One bad scene does not stop the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from earthloom.cluster.outcome import Done, Failed
from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.budget import seconds_left
from earthloom.jobs.execution.choice import Choice, settle
from earthloom.jobs.execution.engine import Engine, idle_engine, open_engine, plan_here, workers_here
from earthloom.jobs.execution.event import Event
from earthloom.jobs.execution.known import KnownTroubles, problems
from earthloom.jobs.execution.opening import StoredScene, StoredScenes
from earthloom.jobs.execution.scene_worker import PublishedScene
from earthloom.jobs.execution.schedule import Schedule
from earthloom.jobs.execution.tasks import BlockTask, PublishTask, SceneTask, SurveyTask
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.page.site import write_page
from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.products.item_table import load_libraries
from earthloom.jobs.publish.correction import Correction, correct_all, kept_date, needs_correction
from earthloom.jobs.publish.entering import enter
from earthloom.jobs.publish.linker import Linker
from earthloom.jobs.records.attempt import Attempt, SceneProgress, begin
from earthloom.jobs.records.blocks import BlockCost
from earthloom.jobs.records.documents import commit
from earthloom.jobs.records.result import SceneSummary
from earthloom.jobs.records.run_commit import commit_run
from earthloom.jobs.report.metrics import Metrics
from earthloom.jobs.report.operation import Operation, operating
from earthloom.jobs.report.run_reports import RunReports
from earthloom.jobs.report.telemetry import Meter, memory_summary
from earthloom.jobs.report.verdict import Counts, count
from earthloom.tiling.background import Background
from earthloom.tiling.errors import EarthloomError, StorageError
from earthloom.tiling.redact import redact
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_conditional_writes
from earthloom.tiling.storage.store import Store, open_store

log = logging.getLogger(__name__)

_DOING: dict[type[SceneTask], str] = {SurveyTask: "surveying", PublishTask: "publishing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended."""

    run_id: str
    """Empty where the run was skipped."""
    out: str
    scenes: dict[str, SceneProgress]
    """Progress of each scene by its id, refused ones too."""
    results: dict[str, SceneSummary]
    """Published scenes, by scene id."""
    telemetry: dict[str, Any]
    notes: tuple[tuple[str, str], ...] = ()
    """Assumptions and warnings, of the plan and of what storage holds: (scene id, text)."""
    stopped: str | None = None
    """Why it stopped early, if it did."""
    skipped: str | None = None
    """Why nothing was looked at, if so: the same command is at work elsewhere."""
    page: str | None = None
    """Address of the run's page."""
    allows_known: bool = False
    """Whether a scene that an earlier run named, with the same bytes and reason, is no failure."""

    @property
    def counts(self) -> Counts:
        """Scenes by what became of them."""
        return count(self.scenes.values())

    @property
    def exit_code(self) -> int:
        """0 all published · 1 nothing was · 2 every scene was refused · 3 some scenes were not published."""
        missing = [scene for name, scene in self.scenes.items() if name not in self.results]
        if not self.stopped and all(self.allows_known and scene.known for scene in missing):
            return 0
        if self.results:
            return 3
        return 2 if all(scene.status == "refused" for scene in self.scenes.values()) else 1


def run(
    config: RunConfig,
    *,
    requests: Sequence[SceneRequest] | None = None,
    on_plan: Callable[[RunPlan], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_choice: Callable[[Choice], None] | None = None,
) -> RunResult:
    """Map every scene of `config` and publish the results below `config.out`.

    Args:
        requests: scenes that are found already, in the place of those that `config.scenes` names.
        on_plan: called once with the plan, before anything is written but weights that a cluster's nodes may lack.
        on_event: called from this thread whenever a scene moves on.
        on_choice: called with where blocks are computed, if `config` leaves that open.

    Raises:
        InputError: nothing could be planned at all.
        EngineError: Ray, a GPU or the cluster is not as asked for.
        StorageError: `config.out` cannot be written.
    """
    out = ObjectRef.parse(config.out)
    asked = {"model": config.model, "scenes": sorted(config.scenes), "before": config.before, "onto": config.onto}
    with operating(config.report, open_store(out), f"{', '.join(config.model)} to {out.url}", asked) as operation:
        if operation.skipped:
            return RunResult(run_id="", out=out.url, scenes={}, results={}, telemetry={}, skipped=operation.skipped)
        result = _run(config, requests, operation, on_plan, on_event, on_choice)
        operation.end(
            str(result.counts), problems(result.scenes, result.stopped), new=result.counts.new, link=result.page or "",
            known=frozenset(name for name, scene in result.scenes.items() if scene.known),
        )  # fmt: skip
        return result


def _run(
    config: RunConfig, requests: Sequence[SceneRequest] | None, operation: Operation,
    on_plan: Callable[[RunPlan], None] | None, on_event: Callable[[Event], None] | None,
    on_choice: Callable[[Choice], None] | None,
) -> RunResult:  # fmt: skip
    made = plan_here(config, requests)
    if made and not made.scenes:  # nothing to compute: start no engine and write no record of a run
        return _all_refused(config, made, on_plan, on_event)
    store, ahead = _ahead(made) if made else (None, None)
    with ExitStack() as stack:
        # a nightly run without news must not cost the start of an engine
        idle = made and ahead and ahead.all_published()
        if made and ahead and not idle and config.report.max_cost:
            operation.check_budget(seconds_left(made, ahead, workers_here(config, made)))
        config, choice = settle(config, made, ahead) if made and ahead and not idle else (config, None)
        engine = idle_engine(made) if made and idle else stack.enter_context(open_engine(config, made, requests))
        if store is None or ahead is None:
            store, ahead = _ahead(engine.plan)
            if config.report.max_cost:  # only the nodes knew how fast they are
                operation.check_budget(seconds_left(engine.plan, ahead, engine.n_workers))
        if on_plan:
            on_plan(engine.plan)
        if choice and on_choice:
            on_choice(choice)
        return _Driver(config, engine, store, ahead, operation, on_event).run()


def _all_refused(
    config: RunConfig, made: RunPlan, on_plan: Callable[[RunPlan], None] | None, on_event: Callable[[Event], None] | None
) -> RunResult:  # fmt: skip
    if on_plan:
        on_plan(made)
    scenes, allows = _refused(made), config.report.allow_failures == "known"
    if allows:
        troubles = KnownTroubles(open_store(made.out), made)
        for scene_id, scene in scenes.items():
            troubles.mark(scene_id, scene)
        troubles.remember(scenes)
    for scene_id, scene in scenes.items():
        if on_event:
            on_event(Event(run_id=made.run_id, product=made.model, scene_id=scene_id, status=scene.status, blocks_done=0,
                           blocks=0, computed_px=0, error=scene.error, known=scene.known))  # fmt: skip
    metrics = Metrics(made.out.url, config.report.metrics_file)
    metrics.set("earthloom_scenes_failed_total", sum(not scene.known for scene in scenes.values()))
    metrics.write()
    return RunResult(
        run_id=made.run_id, out=made.out.url, scenes=scenes, results={}, telemetry={}, notes=made.notes, allows_known=allows
    )  # fmt: skip


def _ahead(made: RunPlan) -> tuple[Store, StoredScenes]:
    return (store := open_store(made.out)), StoredScenes(store, made.scenes)


class _Driver:
    """State of one run; every method runs in the caller's thread."""

    def __init__(
        self, config: RunConfig, engine: Engine, store: Store, ahead: StoredScenes, operation: Operation,
        on_event: Callable[[Event], None] | None,
    ) -> None:  # fmt: skip
        self._config, self._engine, self._operation, self._on_event = config, engine, operation, on_event
        self._plan, self._store = engine.plan, store
        self._plans = {plan.scene.id: plan for plan in self._plan.scenes}
        self._progress = {
            plan.scene.id: SceneProgress("waiting", key=plan.key, blocks=plan.n_blocks) for plan in self._plan.scenes
        } | _refused(self._plan)
        self._results: dict[str, SceneSummary] = {}
        self._schedule = Schedule(ahead, on_stored=self._begin, on_failed=self._fail)
        self._linker = Linker(store)
        self._meter = Meter(profile=config.profile, computing=self._plan.shape.computing)
        self._n_failed = 0
        self._notes = list(self._plan.notes)
        self._troubles = KnownTroubles(store, self._plan)
        self._reports: RunReports | None = None
        self._stopped: str | None = None
        self._started = time.monotonic()

    def run(self) -> RunResult:
        probe_conditional_writes(self._store)
        commit(self._store, f"runs/{self._plan.run_id}/plan.json", self._plan.document())
        for scene in self._plan.refused:
            self._troubles.mark(scene.id, self._progress[scene.id])
            self._tell(scene.id)
        attempt = begin(self._store, self._plan.run_id, self._progress)
        self._reports = reports = RunReports(
            self._store, self._plan, attempt, self._meter, self._results, self._operation, self._engine.worker_stats
        )
        Background(1, "libraries").submit(load_libraries)  # of the end, while workers read and compute
        try:
            with closing(self._engine.executor.run(self._schedule.tasks(attempt.number))) as outcomes:
                for outcome in outcomes:
                    self._take(outcome)
                    reports.refresh()
                    if self._should_stop() and self._schedule.stop():
                        break
            self._linker.close(wait=True)
            attempt.state = self._finish(attempt)
        except BaseException:
            attempt.state = "stopped"
            raise
        finally:
            self._linker.close(wait=False)
            for progress in self._progress.values():
                if progress.status in ("waiting", "running"):
                    progress.status = "unfinished"
            attempt.end()
            reports.end(attempt.state, self._notes, self._stopped)
        return RunResult(
            run_id=self._plan.run_id, out=self._plan.out.url, scenes=self._progress, results=self._results,
            telemetry=attempt.telemetry, notes=tuple(self._notes), stopped=self._stopped, page=reports.url,
            allows_known=self._config.report.allow_failures == "known",
        )  # fmt: skip

    def _begin(self, scene_id: str, stored: StoredScene) -> None:
        """Take note of what storage holds of a scene whose turn has come."""
        progress = self._progress[scene_id]
        if stored.result:
            progress.status, progress.blocks_done = "already published", progress.blocks
            self._results[scene_id] = stored.result
            if kept := kept_date(self._plans[scene_id], stored.result):
                log.warning("%s: %s", scene_id, kept)
                self._notes.append((scene_id, kept))
        else:
            progress.status, progress.blocks_done = "running", progress.blocks - stored.missing
        self._tell(scene_id)

    def _take(self, outcome: Done | Failed) -> None:
        task = self._schedule.taken(outcome)
        scene_id, name = task.plan.scene.id, outcome.key.rpartition("/")[2]
        progress = self._progress[scene_id]
        progress.note(name, outcome.causes)
        if self._reports:
            self._reports.note(outcome, is_block=isinstance(task, BlockTask))
        if isinstance(outcome, Failed):
            what = f"block {name}" if isinstance(task, BlockTask) else _DOING[type(task)]
            times = f" after {outcome.attempts} attempts" if outcome.attempts > 1 else ""
            self._fail(scene_id, outcome.error.kind, redact(f"{what}{times}: {outcome.error.message}"))
        elif isinstance(task, SurveyTask):
            assert isinstance(outcome.value, tuple), "surveys come back as what they say"
            self._notes += [(scene_id, note) for note in outcome.value]
        elif isinstance(task, BlockTask):
            assert isinstance(outcome.value, BlockCost), "blocks come back as what they cost"
            progress.blocks_done += 1
            self._tell(scene_id, computed_px=self._meter.add(task.plan, outcome.value))
        elif isinstance(task, PublishTask):
            published = outcome.value
            assert isinstance(published, PublishedScene), "scenes come back as what was committed"
            self._results[scene_id] = published.summary
            progress.status = "published" if published.won else "already published"  # by another driver
            self._meter.mark(f"publish {scene_id}", published.started_s, published.seconds)
            self._linker.add(task.plan)
            self._tell(scene_id)

    def _fail(self, scene_id: str, kind: str, message: str) -> None:
        progress = self._progress[scene_id]
        if progress.status != "failed":
            progress.status, progress.kind, progress.error = "failed", kind, message
            self._troubles.mark(scene_id, progress)
            self._n_failed += 1
            log.log(logging.INFO if self._on_event else logging.WARNING, "scene %s failed: %s", scene_id, message)
            self._tell(scene_id)

    def _tell(self, scene_id: str, computed_px: int = 0) -> None:
        if self._on_event is None:
            return
        progress = self._progress[scene_id]
        self._on_event(
            Event(
                run_id=self._plan.run_id, product=self._plan.model, scene_id=scene_id, status=progress.status,
                blocks_done=progress.blocks_done, blocks=progress.blocks, computed_px=computed_px,
                error=progress.error, known=progress.known,
            )
        )  # fmt: skip

    def _should_stop(self) -> bool:
        elapsed = time.monotonic() - self._started
        if self._config.max_runtime is not None and elapsed > self._config.max_runtime:
            self._stopped = f"`max_runtime` of {self._config.max_runtime} s is over; the same command continues"
        elif self._config.max_failures is not None and self._n_failed > self._config.max_failures:
            self._stopped = f"{self._n_failed} scenes failed, more than `max_failures={self._config.max_failures}`"
        else:
            self._stopped = self._operation.over_budget()
        return self._stopped is not None

    def _correct(self) -> dict[str, Correction]:
        """Give what was published earlier the dates of this plan; the catalogue does not know of it yet."""
        plans = [
            self._plans[scene_id] for scene_id, summary in self._results.items()
            if needs_correction(self._plans[scene_id], summary)
        ]  # fmt: skip
        corrected = {}
        for plan, made in zip(plans, correct_all(self._store, plans), strict=True):
            scene_id = plan.scene.id
            if isinstance(made, EarthloomError):
                del self._results[scene_id]
                self._fail(scene_id, type(made).__name__, f"correcting its date: {made}")
            elif made:
                corrected[scene_id] = made
                self._progress[scene_id].status, self._progress[scene_id].corrected = "corrected", made.to_dict()
                self._notes.append((scene_id, made.describe()))
                self._tell(scene_id)
        return corrected

    def _catalogue(self) -> None:
        """Link what is published, again: an earlier run may have died between a commit and its link."""
        corrected = self._correct()
        notes, errors = enter(self._store, {name: self._plans[name] for name in self._results}, corrected)
        self._notes += [note for note in notes if note not in self._notes]
        for scene_id, error in errors.items():
            del self._results[scene_id]
            self._fail(scene_id, type(error).__name__, f"entering the catalogue: {error}")
        if self._results:
            write_page(self._store)

    def _finish(self, attempt: Attempt) -> str:
        elapsed = time.monotonic() - self._started
        attempt.telemetry |= self._meter.summary(elapsed, self._config.report.price_per_hour)
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
        self._troubles.remember(self._progress)
        missing = [scene for name, scene in self._progress.items() if name not in self._results]
        allows = self._config.report.allow_failures
        excused = allows == "known" and not self._stopped and all(scene.known for scene in missing)
        if complete or ((excused or allows == "any") and self._results and not self._stopped):
            commit_run(
                self._store,
                self._plan.run_id,
                scenes={name: result.prefix for name, result in self._results.items()},
                missing=set(self._progress) - set(self._results),
            )
        return "done" if complete or excused else "stopped" if self._stopped else "failed"


def _refused(plan: RunPlan) -> dict[str, SceneProgress]:
    return {scene.id: SceneProgress("refused", error=scene.message, kind=scene.kind) for scene in plan.refused}
