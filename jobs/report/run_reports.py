"""What a run says of itself while it lives: the record of its attempt, its page, its metrics.

Written now and then, and less often where writing takes long, so that a run is not held up by what is said of it.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from earthloom.cluster.outcome import Failed, Outcome
from earthloom.cluster.worker import WorkerStats
from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.records.attempt import Attempt, now
from earthloom.jobs.records.result import SceneSummary
from earthloom.jobs.report.metrics import Metrics
from earthloom.jobs.report.operation import Operation
from earthloom.jobs.report.page import RunView, page
from earthloom.jobs.report.telemetry import Meter
from earthloom.jobs.report.timeline import Moment, Moments
from earthloom.jobs.report.verdict import count
from earthloom.tiling.storage.store import Store

EVERY_S = 5.0
"""Least time between two pages."""
SHARE = 0.02
"""Largest share of the time that writing them may take."""

log = logging.getLogger(__name__)


class RunReports:
    """Reports of one run; every method is called from the driver's thread, and none raises.

    Args:
        results: published scenes by id; the driver adds to it.
        worker_stats: of the engine.
    """

    def __init__(
        self, store: Store, plan: RunPlan, attempt: Attempt, meter: Meter, results: Mapping[str, SceneSummary],
        operation: Operation, worker_stats: Callable[[], Sequence[WorkerStats]],
    ) -> None:  # fmt: skip
        self._store, self._plan, self._attempt, self._meter = store, plan, attempt, meter
        self._results, self._operation, self._worker_stats = results, operation, worker_stats
        self._metrics = Metrics(plan.out.url, operation.options.metrics_file)
        self._dates = {one.scene.id: one.scene.datetime for one in plan.scenes}
        self._latencies: dict[str, float] = {}
        self._moments = Moments()
        self._retried = self._quarantined = 0
        self._started = time.monotonic()
        self._next = 0.0

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"{self._store.ref.url.rstrip('/')}/{self._key}"

    @property
    def _key(self) -> str:
        return f"runs/{self._plan.run_id}/index.html"

    def note(self, outcome: Outcome, *, is_block: bool) -> None:
        """Count what did not go well at once."""
        failed = isinstance(outcome, Failed)
        self._retried += max(0, len(outcome.causes) - failed)
        self._quarantined += failed and is_block

    def refresh(self) -> None:
        """Write what is due."""
        self._attempt.save()
        if time.monotonic() >= self._next:
            begun = time.monotonic()
            self._write("running", (), None)
            self._next = time.monotonic() + max(EVERY_S, (time.monotonic() - begun) / SHARE)

    def end(self, state: str, notes: Sequence[tuple[str, str]], stopped: str | None) -> None:
        """Write how it ended; the last that is said."""
        self._write(state, notes, stopped)

    def _write(self, state: str, notes: Sequence[tuple[str, str]], stopped: str | None) -> None:
        try:
            elapsed_s = time.monotonic() - self._started
            if state == "running":
                self._attempt.telemetry |= self._meter.summary(elapsed_s, self._operation.options.price_per_hour)
            view = self._view(state, elapsed_s, notes, stopped)
            self._set_metrics(view)
            self._metrics.write()
            self._store.put(self._key, page(view).encode())
        except Exception as error:  # a report is no reason to fail
            log.warning("the page of this run is not up to date: %s", error)

    def _view(self, state: str, elapsed_s: float, notes: Sequence[tuple[str, str]], stopped: str | None) -> RunView:
        scenes, telemetry = self._attempt.scenes, self._attempt.telemetry
        n_new = sum(scenes[name].status == "published" for name in self._results)
        workers = telemetry.get("workers", {}).values()
        blocks = sum(worker["blocks"] for worker in workers)
        self._moments.add(
            Moment(
                elapsed_s=elapsed_s, blocks=blocks, pixels=telemetry.get("computed_px", 0), scenes=n_new
            )
        )  # fmt: skip
        left = sum(
            scene.blocks - scene.blocks_done for scene in scenes.values() if scene.status in ("waiting", "running")
        )
        plan, attempt = self._plan, self._attempt
        return RunView(
            run_id=plan.run_id, out=plan.out.url, product=plan.model, attempt=attempt.number, state=state,
            device=f"{plan.device.device_class}, {plan.device.precision}", started=attempt.started, updated=now(),
            elapsed_s=elapsed_s, scenes=scenes, results=self._results, telemetry=telemetry,
            moments=self._moments.kept, cost=self._operation.cost, notes=notes, stopped=stopped,
            remaining_s=elapsed_s * left / blocks if state == "running" and blocks else None,
        )  # fmt: skip

    def _set_metrics(self, view: RunView) -> None:
        counts, telemetry, put = count(view.scenes.values()), view.telemetry, self._metrics.set
        put("earthloom_blocks_done_total", self._moments.kept[-1].blocks)
        put("earthloom_blocks_retried_total", self._retried)
        put("earthloom_blocks_quarantined_total", self._quarantined)
        put("earthloom_scenes_published_total", counts.new)
        put(
            "earthloom_scenes_failed_total", counts.failed + counts.refused - counts.known_failed - counts.known_refused
        )
        put("earthloom_pixels_total", telemetry.get("computed_px", 0))
        running = view.state == "running"
        put("earthloom_workers", len(self._worker_stats()) if running else 0, state="started")
        put("earthloom_workers", len(telemetry.get("workers", ())) if running else 0, state="working")
        if telemetry.get("computed_px"):  # a night without news leaves what the last one said
            put("earthloom_device_busy_ratio", telemetry["device_busy_percent"] / 100)
            if "cost_per_1000_km2" in telemetry:
                put("earthloom_cost_per_1000km2", telemetry["cost_per_1000_km2"])
        moment = datetime.now(UTC)
        for name in view.results.keys() - self._latencies.keys():
            if view.scenes[name].status == "published" and (date := self._dates.get(name)):
                self._latencies[name] = (moment - datetime.fromisoformat(date)).total_seconds()
        if self._latencies:
            put("earthloom_latency_to_map_seconds", statistics.median(self._latencies.values()))
