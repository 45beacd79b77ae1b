"""The actors of one run, or of several one after another: hired as there is work and room, given back, replaced.

There are never more actors than tasks that have no outcome yet. An actor is first placed by Ray, which may have to wait
for a node, then makes its worker, then is ready; those that are ready work while others are waited for.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import time
from collections import deque
from collections.abc import Generator
from dataclasses import replace

from ray.exceptions import RayError

from earthloom.cluster.backlog import Backlog, Ticket
from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.outcome import Fault, Outcome
from earthloom.cluster.places import Places
from earthloom.cluster.ray_actor import ActorHandle, Call, Flight, node_lost
from earthloom.cluster.retry import Budget, pause_after
from earthloom.cluster.worker import Reply, Report, WorkerStats
from earthloom.tiling.errors import EngineError, StorageError

_log = logging.getLogger(__name__)
_START_DEATHS = 3
_DEATHS_IN_A_ROW = 16
_NAMED = 6
_OF_THE_NODE = ("NodeError", StorageError.__name__)
"""Faults of a factory for which another node may be better."""


class Crew:
    """Actors and what is in them. Times are of `time.monotonic`."""

    def __init__(
        self, factory: WorkerFactory, places: Places, lanes: int, budget: Budget, name: str, *, keeps_workers: bool
    ) -> None:
        self._factory, self._places, self._lanes, self._budget = factory, places, lanes, budget
        self._name = f"{name} {secrets.token_hex(2)}"  # no two living actors of a driver may share a name
        self._keeps_workers = keeps_workers
        self._inbox: queue.SimpleQueue[tuple[ActorHandle, Call]] = queue.SimpleQueue()
        self._actors: list[ActorHandle] = []
        self._pauses: list[float] = []
        """For each place that stays empty, the time until which it does."""
        self._for_new: deque[Ticket] = deque()
        """Taken for actors that are not ready; whoever is free first gets them."""
        self._hired = 0
        self._none_ready_since: float | None = time.monotonic()
        self._surplus_since: float | None = None
        self._start_faults = 0
        self._start_deaths = 0
        self._deaths_in_a_row = 0
        self._gone: list[ActorHandle] = []

    def fill(self, backlog: Backlog) -> Generator[Outcome, None, None]:
        """Hire as far as there is work, then give idle lanes work; yields tasks that could not be sent."""
        now = time.monotonic()
        self._hire(backlog, now)
        if backlog.n_suspects and not any(actor.in_isolation for actor in self._actors):
            for actor in self._actors:
                if actor.idle and (suspect := backlog.take_suspect(now)) is not None:
                    actor.send(suspect, alone=True)
                    break
        while free := [actor for actor in self._actors if actor.room]:
            if not (ticket := self._taken_for_new(now) or backlog.take(now)):
                break
            try:
                max(free, key=lambda actor: actor.room).send(ticket)
            except RayError:
                raise
            except Exception as error:  # whatever a payload's own pickling raises
                yield backlog.refused(ticket, Fault.of(error))
        self._release(backlog, now)
        self._places.log_waiting(self._n_placed, len(self._actors), now)

    def listen(self, backlog: Backlog) -> list[Outcome]:
        """Wait until something happens, and settle it."""
        arrived = []
        with contextlib.suppress(queue.Empty):
            arrived.append(self._inbox.get(timeout=self._patience(backlog)))
            while True:
                arrived.append(self._inbox.get_nowait())
        outcomes: list[Outcome] = []
        for actor, call in arrived:
            if call is actor.placing:
                self._placed(actor)
            elif call is actor.starting:
                self._started(actor, call)
            elif call in actor.flights:  # else its actor was buried a moment ago, and this was settled then
                outcomes += self._landed(actor, call, backlog)
        if (since := self._none_ready_since) is not None and time.monotonic() - since > self._places.size.wait_s:
            raise self._places.in_vain(self._n_placed, len(self._actors))
        return outcomes

    def dismiss(self) -> None:
        """Kill all actors without waiting."""
        for actor in self._actors:
            actor.kill()
        self._gone += self._actors
        self._actors = []

    def stats(self) -> dict[int, WorkerStats]:
        """Statistics of the actors that have answered at least once, by number."""
        stats_by_number = {actor.number: actor.stats() for actor in (*self._gone, *self._actors)}
        return {number: stats for number, stats in stats_by_number.items() if stats is not None}

    @property
    def _n_placed(self) -> int:
        return sum(actor.placing is None for actor in self._actors)

    def _hire(self, backlog: Backlog, now: float) -> None:
        self._pauses = [due for due in self._pauses if due > now]
        backlog.widen(self._places.most * self._lanes)
        enough = self._places.enough(self._lanes)
        while self._n_open(backlog) < enough and (taken := backlog.take(now)):
            self._for_new.append(taken)
        wanted = self._places.useful(self._n_open(backlog), self._lanes)
        for _ in range(wanted - len(self._actors) - len(self._pauses)):
            name, options = f"{self._name} worker {self._hired}", self._places.options()
            self._actors.append(
                ActorHandle.launch(self._hired, name, self._factory, options, self._lanes, self._inbox)
            )  # fmt: skip
            self._hired += 1

    def _taken_for_new(self, now: float) -> Ticket | None:
        if not self._for_new:
            return None
        ticket = self._for_new.popleft()
        if not ticket.attempts:
            ticket.first_start = now  # the time that it waited for a worker is not charged to it
        return ticket

    def _n_open(self, backlog: Backlog) -> int:
        """Tasks that run or could run now."""
        return sum(len(actor.flights) for actor in self._actors) + len(self._for_new) + backlog.n_suspects

    def _release(self, backlog: Backlog, now: float) -> None:
        """Give back what has been too much for a while: first what no node was found for, then the idle."""
        surplus = len(self._actors) - max(1, backlog.n_open)
        if surplus <= 0 or self._keeps_workers:
            self._surplus_since = None
        elif self._surplus_since is None:
            self._surplus_since = now
        elif now - self._surplus_since >= self._places.size.release_s:
            unplaced = [actor for actor in self._actors if actor.placing is not None]
            for actor in [*unplaced, *(actor for actor in self._actors if actor.idle)][:surplus]:
                _log.info("worker %d is given back: %d tasks are left", actor.number, backlog.n_open)
                self._part_with(actor)
            self._surplus_since = None

    def _patience(self, backlog: Backlog) -> float | None:
        """Seconds until something is due that no worker announces; None for never."""
        now = time.monotonic()
        dues = [due - now for due in self._pauses if due > now]
        pause = backlog.pause_s(now)
        if pause is not None and (not self._actors or any(actor.room for actor in self._actors)):
            dues.append(pause)  # with no free lane, a task whose pause is over has to wait anyway
        if self._none_ready_since is not None:
            dues.append(max(0.1, self._none_ready_since + self._places.size.wait_s - now))
        if self._surplus_since is not None:
            dues.append(max(0.1, self._surplus_since + self._places.size.release_s - now))
        if (due := self._places.due_s(self._n_placed, len(self._actors), now)) is not None:
            dues.append(due)
        return min(dues, default=None)

    def _placed(self, actor: ActorHandle) -> None:
        try:
            actor.placed()
        except RayError as error:
            self._dead_at_start(actor, error)

    def _started(self, actor: ActorHandle, call: Call) -> None:
        try:
            reply = actor.receive(call).reply
        except RayError as error:
            self._dead_at_start(actor, error)
            return
        if reply.fault is not None:
            self._not_started(actor, reply)
            return
        actor.starting = None
        actor.start_s = time.monotonic() - actor.asked_at
        self._none_ready_since = None
        self._start_faults = self._start_deaths = 0

    def _dead_at_start(self, actor: ActorHandle, error: RayError) -> None:
        cause = actor.cause_of_death(error)
        self._start_deaths += not node_lost(error)
        if self._start_deaths >= _START_DEATHS:
            raise EngineError(
                f"{self._start_deaths} workers in a row died while starting; the last: {cause}. Usually the model "
                "does not fit into the node's memory: give workers more, or start fewer on a node"
            ) from error
        self._replace(actor, cause)

    def _not_started(self, actor: ActorHandle, reply: Reply) -> None:
        assert reply.fault is not None
        assert actor.place is not None
        self._start_faults += 1
        elapsed_s = time.monotonic() - actor.asked_at
        pause = pause_after(
            reply.fault, key="worker", attempts=self._start_faults, elapsed_s=elapsed_s, budget=self._budget
        )
        if pause is not None:
            self._replace(actor, reply.fault.message, after_s=pause)
            return
        error = self._with_node(actor, reply.fault).as_error()
        if reply.fault.kind not in _OF_THE_NODE:
            raise error
        self._start_faults = 0
        self._places.exclude(actor.place.node_id, actor.place.node, error)
        self._part_with(actor)

    def _with_node(self, actor: ActorHandle, fault: Fault) -> Fault:
        """A fault with the node on which it happened, where there may be several."""
        if not self._places.size.elastic or actor.place is None:
            return fault
        return replace(fault, message=f"{fault.message} (on node {actor.place.node})")

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
        reply = report.reply
        if reply.fault is not None:
            reply = replace(reply, fault=self._with_node(actor, reply.fault))
        outcome = backlog.answered(flight.ticket, reply, time.monotonic())
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
        keys = ", ".join(ticket.task.key for ticket in tickets[:_NAMED]) + ", …" * (len(tickets) > _NAMED)
        if node_lost(error):
            backlog.lost(tickets, cause, now)
        else:
            self._deaths_in_a_row = 0 if outcomes else self._deaths_in_a_row  # it has answered before it died
            outcomes += self._charge(lost, tickets, cause, now, backlog)
            if self._deaths_in_a_row >= _DEATHS_IN_A_ROW:
                raise EngineError(
                    f"{self._deaths_in_a_row} workers died in a row and no task came back between; the last, with {keys} "
                    f"in it: {cause}. Usually the node has too little memory for its workers, or a library crashes on it"
                ) from error
        self._replace(actor, f"{cause} (it was running {keys})")
        return outcomes

    def _charge(
        self, lost: list[Flight], tickets: list[Ticket], cause: str, now: float, backlog: Backlog
    ) -> list[Outcome]:
        """Who was alone in a process that died is charged with it; others become suspects."""
        alone = len(lost) == 1 and not lost[0].shared
        seconds = now - lost[0].since if alone else 0.0
        failed = backlog.died(tickets, cause, alone=alone, seconds=seconds, now=now)
        self._deaths_in_a_row += 1
        return [] if failed is None else [failed]

    def _replace(self, actor: ActorHandle, cause: str, *, after_s: float = 0.0) -> None:
        _log.warning("worker %d is replaced: %s", actor.number, cause)
        self._part_with(actor)
        if after_s:
            self._pauses.append(time.monotonic() + after_s)

    def _part_with(self, actor: ActorHandle) -> None:
        actor.flights.clear()
        actor.kill()
        self._actors.remove(actor)
        self._gone.append(actor)
        actor.placing = actor.starting = None
        if self._none_ready_since is None and not any(other.ready for other in self._actors):
            self._none_ready_since = time.monotonic()
