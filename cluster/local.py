"""The executor without Ray: the worker's lanes are threads of this process. For tests, notebooks and small runs.

The reference for the other executors: same retries, same faults, same laziness. A task that kills its process kills
this one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Generator, Iterable

from earthloom.cluster.backlog import Backlog, Ticket
from earthloom.cluster.executor import Task, Worker, WorkerFactory
from earthloom.cluster.outcome import Outcome
from earthloom.cluster.retry import Budget, pause_after
from earthloom.cluster.worker import Reply, WorkerStats, attempt, build, vitals
from earthloom.tiling.errors import ConfigError

_log = logging.getLogger(__name__)


class LocalExecutor:
    """Runs tasks in threads of this process.

    Threads cannot be stopped: after `close()` a task that is running goes on to its end in the background, unheard,
    and keeps neither the caller nor the interpreter's exit waiting.
    """

    def __init__(self, factory: WorkerFactory, *, lanes: int = 3, budget: Budget | None = None) -> None:
        """
        Args:
            factory: makes the one worker, in the thread that iterates.
            lanes: tasks that run at once.
            budget: budget of each task, and of the factory's own transient faults.

        Raises:
            ConfigError: if `lanes` is below 1.
        """
        if lanes < 1:
            raise ConfigError(f"an executor needs at least one lane, got {lanes}")
        self._factory = factory
        self._lanes = lanes
        self._budget = budget or Budget()
        self._stats: list[WorkerStats] = []

    def worker_stats(self) -> list[WorkerStats]:
        """The worker as it was after its latest reply; empty before the first run."""
        return list(self._stats)

    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        """See `cluster.executor.Executor.run`."""
        begun = time.monotonic()
        worker = self._start()
        start_s = time.monotonic() - begun
        self._note(start_s, 0)
        inbox: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        outbox: queue.SimpleQueue[tuple[Ticket, Reply]] = queue.SimpleQueue()
        for lane in range(self._lanes):
            threading.Thread(target=_serve, args=(worker, inbox, outbox), name=f"lane-{lane}", daemon=True).start()
        backlog = Backlog(tasks, self._budget, self._lanes)
        running = answered = 0
        try:
            while True:
                while running < self._lanes and (taken := backlog.take(time.monotonic())):
                    inbox.put(taken)
                    running += 1
                if backlog.finished:
                    return
                idle = running < self._lanes  # with every lane busy, a task whose pause is over has to wait anyway
                try:
                    ticket, reply = outbox.get(timeout=backlog.pause_s(time.monotonic()) if idle else None)
                except queue.Empty:
                    continue
                running -= 1
                answered += 1
                self._note(start_s, answered)
                if (outcome := backlog.answered(ticket, reply, time.monotonic())) is not None:
                    yield outcome
        finally:
            for _ in range(self._lanes):
                inbox.put(None)

    def dismiss(self) -> None:
        """See `cluster.executor.Executor.dismiss`: threads end with their run."""

    def _start(self) -> Worker:
        begun = time.monotonic()
        attempts = 0
        while True:
            worker, reply = build(self._factory)
            if worker is not None:
                return worker
            attempts += 1
            assert reply.fault is not None
            elapsed_s = time.monotonic() - begun
            pause = pause_after(reply.fault, key="worker", attempts=attempts, elapsed_s=elapsed_s, budget=self._budget)
            if pause is None:
                raise reply.fault.as_error()
            _log.warning("worker could not start, trying again in %.1f s: %s", pause, reply.fault.message)
            time.sleep(pause)

    def _note(self, start_s: float, tasks: int) -> None:
        self._stats = [WorkerStats(worker=0, vitals=vitals(), start_s=start_s, tasks=tasks)]


def _serve(
    worker: Worker, inbox: queue.SimpleQueue[Ticket | None], outbox: queue.SimpleQueue[tuple[Ticket, Reply]]
) -> None:
    while (ticket := inbox.get()) is not None:
        outbox.put((ticket, attempt(worker, ticket.task.payload)))
