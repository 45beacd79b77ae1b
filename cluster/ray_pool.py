"""The executor on Ray: raw actors, each with lanes, that replace one another when they die.

Ray retries and restarts nothing here; the attempt budget is ours (`cluster.backlog`). When an actor dies, the tasks that
were in it are suspects and run again one at a time, alone, on the first idle actor, so that the guilty one is found and
the innocent are not charged. There are never more actors than tasks that have no outcome yet. Ray must be connected
(`cluster.session`). Knows nothing of what the tasks are.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections import deque
from collections.abc import Generator, Iterable
from typing import Any

import ray
from ray.exceptions import RayError

from earthloom.cluster.backlog import Backlog, Ticket
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.outcome import Fault, Outcome
from earthloom.cluster.ray_actor import ActorHandle, Call, Flight
from earthloom.cluster.resources import WorkerResources, choose_workers
from earthloom.cluster.retry import Budget, Retry, decide
from earthloom.cluster.worker import Reply, Report, WorkerStats
from earthloom.tiling.errors import ConfigError, EngineError

_log = logging.getLogger(__name__)
_ray: Any = ray  # its annotations are partial
_START_DEATHS = 3
_DEATHS_IN_A_ROW = 16
_NAMED = 6


class RayExecutor:
    """Runs tasks on actors of the connected Ray cluster."""

    def __init__(
        self,
        factory: WorkerFactory,
        *,
        workers: int | None = None,
        lanes: int = 3,
        resources: WorkerResources | None = None,
        budget: Budget | None = None,
        start_timeout_s: float = 600.0,
        keeps_workers: bool = False,
    ) -> None:
        """
        Args:
            factory: makes one worker in each actor.
            workers: actors, at most; None for as many as fit on the cluster.
            lanes: tasks that run in one actor at once.
            resources: of one actor.
            budget: of each task, and of transient faults of the factory.
            start_timeout_s: how long to wait for the first actor to be placed and its factory to return.
            keeps_workers: whether actors stay, with the cores that they hold, from one run to the next until `dismiss`.

        Raises:
            ConfigError: if `lanes` or `workers` is below 1.
        """
        if lanes < 1 or (workers is not None and workers < 1):
            raise ConfigError(f"an executor needs at least one worker and one lane, got {workers=}, {lanes=}")
        self._factory = factory
        self._asked = workers
        self._lanes = lanes
        self._resources = resources or WorkerResources()
        self._budget = budget or Budget()
        self._start_timeout_s = start_timeout_s
        self._keeps_workers = keeps_workers
        self._kept: _Crew | None = None
        self._stats: dict[int, WorkerStats] = {}

    def worker_stats(self) -> list[WorkerStats]:
        """Every worker of the latest run as it was after its latest reply, those that died included."""
        return [stats for _, stats in sorted(self._stats.copy().items())]

    def run(self, tasks: Iterable[Task | None]) -> Generator[Outcome, None, None]:
        """See `cluster.executor.Executor.run`.

        Raises:
            EngineError: if not one worker fits on the cluster, none starts in time, or workers die one after another
                with no task finished between.
        """
        crew, self._kept = self._kept or self._hire(), None
        self._stats = {}
        backlog = Backlog(tasks, self._budget, crew.most * self._lanes)
        try:
            while True:
                yield from crew.fill(backlog)
                if backlog.finished:
                    self._kept = crew if self._keeps_workers else None
                    return
                outcomes = crew.listen(backlog)
                self._stats |= crew.stats()
                yield from outcomes
        finally:
            if self._kept is not crew:
                crew.dismiss()
            self._stats |= crew.stats()

    def dismiss(self) -> None:
        """See `cluster.executor.Executor.dismiss`."""
        if self._kept is not None:
            self._kept.dismiss()
            self._kept = None

    def _hire(self) -> _Crew:
        nodes = [node["Resources"] for node in _ray.nodes() if node["Alive"]]
        workers = choose_workers(self._asked, self._resources, nodes)
        return _Crew(
            self._factory, workers, self._resources.actor_options(), self._lanes, self._budget, self._start_timeout_s
        )


class _Crew:
    """The actors of one run, or of several one after another."""

    def __init__(
        self,
        factory: WorkerFactory,
        workers: int,
        options: dict[str, Any],
        lanes: int,
        budget: Budget,
        start_timeout_s: float,
    ) -> None:
        self._factory = factory
        self._options = options
        self._lanes = lanes
        self._budget = budget
        self._start_timeout_s = start_timeout_s
        self._inbox: queue.SimpleQueue[tuple[ActorHandle, Call]] = queue.SimpleQueue()
        self._actors: list[ActorHandle] = []
        self.most = workers
        self._vacancies = [0.0] * workers
        """Places without an actor, by the time from which one may be hired."""
        self._for_new: deque[Ticket] = deque()
        """Taken for actors that are starting; whoever is free first gets them."""
        self._hired = 0
        self._begun = time.monotonic()
        self._anyone_ready = False
        self._start_faults = 0
        self._start_deaths = 0
        self._deaths_in_a_row = 0
        self._gone: list[ActorHandle] = []

    def fill(self, backlog: Backlog) -> Generator[Outcome, None, None]:
        """Hire as far as there is work, then give idle lanes work; yields tasks that could not be sent."""
        now = time.monotonic()
        for due in [due for due in self._vacancies if due <= now]:
            while self._n_open(backlog) <= len(self._actors) and (taken := backlog.take(now)):
                self._for_new.append(taken)
            if self._n_open(backlog) <= len(self._actors):
                break  # no more actors than tasks
            self._vacancies.remove(due)
            self._actors.append(ActorHandle.launch(self._hired, self._factory, self._options, self._lanes, self._inbox))
            self._hired += 1
        if backlog.n_suspects and not any(actor.in_isolation for actor in self._actors):
            for actor in self._actors:
                if actor.idle and (suspect := backlog.take_suspect(now)) is not None:
                    actor.send(suspect, alone=True)
                    break
        while free := [actor for actor in self._actors if actor.room]:
            if not (ticket := self._for_new.popleft() if self._for_new else backlog.take(now)):
                return
            try:
                max(free, key=lambda actor: actor.room).send(ticket)
            except RayError:
                raise
            except Exception as error:  # whatever a payload's own pickling raises
                yield backlog.refused(ticket, Fault.of(error))

    def _n_open(self, backlog: Backlog) -> int:
        """Tasks that run or could run now."""
        return sum(len(actor.flights) for actor in self._actors) + len(self._for_new) + backlog.n_suspects

    def listen(self, backlog: Backlog) -> list[Outcome]:
        """Wait until something happens, and settle it."""
        arrived = []
        with contextlib.suppress(queue.Empty):
            arrived.append(self._inbox.get(timeout=self._patience(backlog)))
            while True:
                arrived.append(self._inbox.get_nowait())
        outcomes: list[Outcome] = []
        for actor, call in arrived:
            if call is actor.starting:
                self._started(actor, call)
            elif call in actor.flights:  # else its actor was buried a moment ago, and this was settled then
                outcomes += self._landed(actor, call, backlog)
        if not self._anyone_ready and time.monotonic() - self._begun > self._start_timeout_s:
            raise EngineError(
                f"no worker started within {self._start_timeout_s:.0f} s; the cluster's cores, GPUs or memory are taken "
                "by other work, or the worker takes longer to load: see `ray status`, free them or wait longer"
            )
        return outcomes

    def dismiss(self) -> None:
        """Kill all actors without waiting."""
        for actor in self._actors:
            actor.kill()
        self._gone += self._actors
        self._actors = []

    def stats(self) -> dict[int, WorkerStats]:
        """Of the actors that have answered at least once, by number."""
        stats_by_number = {actor.number: actor.stats() for actor in (*self._gone, *self._actors)}
        return {number: stats for number, stats in stats_by_number.items() if stats is not None}

    def _patience(self, backlog: Backlog) -> float | None:
        """Seconds until something is due that no worker announces; None for never."""
        now = time.monotonic()
        dues = [due - now for due in self._vacancies if due > now]
        pause = backlog.pause_s(now)
        if pause is not None and (self._vacancies or any(actor.room for actor in self._actors)):
            dues.append(pause)  # with no free lane, a task whose pause is over has to wait anyway
        if not self._anyone_ready:
            dues.append(max(0.1, self._begun + self._start_timeout_s - now))
        return min(dues, default=None)

    def _started(self, actor: ActorHandle, call: Call) -> None:
        try:
            reply = actor.receive(call).reply
        except RayError as error:
            cause = actor.cause_of_death(error)
            self._start_deaths += 1
            if self._start_deaths >= _START_DEATHS:
                raise EngineError(
                    f"{self._start_deaths} workers in a row died while starting; the last: {cause}. Usually the model "
                    "does not fit into the node's memory: give workers more, or start fewer on a node"
                ) from error
            self._replace(actor, cause)
            return
        if reply.fault is not None:
            self._not_started(actor, reply)
            return
        actor.starting = None
        actor.start_s = time.monotonic() - actor.asked_at
        self._anyone_ready = True
        self._start_faults = self._start_deaths = 0

    def _not_started(self, actor: ActorHandle, reply: Reply) -> None:
        assert reply.fault is not None
        self._start_faults += 1
        elapsed_s = time.monotonic() - self._begun
        verdict = decide(
            reply.fault, key="worker", attempts=self._start_faults, elapsed_s=elapsed_s, budget=self._budget
        )
        if not isinstance(verdict, Retry):
            raise verdict.fault.as_error()
        self._replace(actor, reply.fault.message, after_s=verdict.after_s)

    def _landed(self, actor: ActorHandle, call: Call, backlog: Backlog) -> list[Outcome]:
        try:
            report = actor.receive(call)
        except RayError as error:
            return self._bury(actor, error, backlog)
        actor.in_isolation = False
        self._deaths_in_a_row = 0
        return self._settle(actor, actor.flights.pop(call), report, backlog)

    def _settle(self, actor: ActorHandle, flight: Flight, report: Report, backlog: Backlog) -> list[Outcome]:
        actor.answered += 1
        outcome = backlog.answered(flight.ticket, report.reply, time.monotonic())
        return [] if outcome is None else [outcome]

    def _bury(self, actor: ActorHandle, error: RayError, backlog: Backlog) -> list[Outcome]:
        cause = actor.cause_of_death(error)
        now = time.monotonic()
        outcomes: list[Outcome] = []
        lost = []
        for call, flight in actor.flights.items():
            try:  # an answer that arrived before the death still counts
                report = actor.receive(call)
            except RayError:
                lost.append(flight)
                continue
            outcomes += self._settle(actor, flight, report, backlog)
        tickets = [flight.ticket for flight in lost]
        alone = len(lost) == 1 and not lost[0].shared
        seconds = now - lost[0].since if alone else 0.0
        keys = ", ".join(ticket.task.key for ticket in tickets[:_NAMED]) + ", …" * (len(tickets) > _NAMED)
        failed = backlog.died(tickets, cause, alone=alone, seconds=seconds, now=now)
        if failed is not None:
            outcomes.append(failed)
        self._deaths_in_a_row = 0 if outcomes and failed is None else self._deaths_in_a_row + 1
        if self._deaths_in_a_row >= _DEATHS_IN_A_ROW:
            raise EngineError(
                f"{self._deaths_in_a_row} workers died in a row and no task came back between; the last, with {keys} in "
                f"it: {cause}. Usually the node has too little memory for its workers, or a library crashes on it"
            ) from error
        self._replace(actor, f"{cause} (it was running {keys})")
        return outcomes

    def _replace(self, actor: ActorHandle, cause: str, *, after_s: float = 0.0) -> None:
        _log.warning("worker %d is replaced: %s", actor.number, cause)
        actor.flights.clear()
        actor.starting = None
        actor.kill()
        self._actors.remove(actor)
        self._gone.append(actor)
        self._vacancies.append(time.monotonic() + after_s)
