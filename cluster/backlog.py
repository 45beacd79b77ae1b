"""Decides which task runs next, and what becomes of those that did not succeed: the rules that all executors share.

Pulls tasks lazily, holds those that wait for another attempt, and keeps *suspects*: tasks that were running in a worker
when it died. A suspect runs next alone on a worker; only a death alone is charged to it. Knows no clock, thread or Ray.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from earthloom.cluster.executor import Task
from earthloom.cluster.outcome import Done, Failed, Fault
from earthloom.cluster.retry import NODE_LOST, WORKER_DIED, Budget, fault_of_deaths, pause_after
from earthloom.cluster.worker import Reply
from earthloom.tiling.errors import EngineError

_LOSSES = 3


@dataclass(slots=True, eq=False)
class Ticket:
    """A task that was pulled and has no outcome yet."""

    task: Task
    first_start: float | None
    """When its first attempt that counts began; None until then."""
    attempts: int = 0
    deaths: int = 0
    losses: int = 0
    """Nodes that were lost with it."""
    causes: list[str] = field(default_factory=list)


class Backlog:
    """Tasks on their way to an outcome. Times are seconds of any one clock, given by the caller."""

    def __init__(self, tasks: Iterable[Task | None], budget: Budget, window: int) -> None:
        """
        Args:
            tasks: pulled one at a time, when there is room; None where there is none now (`cluster.executor`).
            budget: budget of each task.
            window: tasks that may run at once. No new one is pulled while twice as many have no outcome, so a storage
                outage that makes every task wait does not pull them all.
        """
        self._tasks: Iterator[Task | None] = iter(tasks)
        self._drained = False
        self._budget = budget
        self._limit = 2 * window
        self._open = 0
        self._waiting: list[tuple[float, int, Ticket]] = []
        self._order = count()
        self._suspects: deque[Ticket] = deque()

    @property
    def finished(self) -> bool:
        """True when every task has its outcome."""
        return self._drained and self._open == 0

    @property
    def n_open(self) -> int:
        """Tasks that were taken and have no outcome yet."""
        return self._open

    def widen(self, window: int) -> None:
        """Let at least so many tasks run at once from now on."""
        self._limit = max(self._limit, 2 * window)

    @property
    def n_suspects(self) -> int:
        """Tasks that wait to run alone."""
        return len(self._suspects)

    def take(self, now: float) -> Ticket | None:
        """The next task that may run beside others: one whose pause is over, else a new one; None when there is none now.

        Raises:
            EngineError: if the source gives none, has not ended, and no task runs whose outcome could change that.
        """
        if self._waiting and self._waiting[0][0] <= now:
            return heapq.heappop(self._waiting)[2]
        if self._drained or self._open >= self._limit:
            return None
        try:
            task = next(self._tasks)
        except StopIteration:
            self._drained = True
            return None
        if task is None:
            if not self._open:
                raise EngineError(
                    "the source of tasks has none to give and has not ended, and no task runs that it could be waiting "
                    "for; this is a defect of the caller, which must end its tasks when all have their outcomes"
                )
            return None
        self._open += 1
        return Ticket(task, first_start=now)

    def take_suspect(self, now: float) -> Ticket | None:
        """The next task that must run alone on its worker."""
        return self._started(self._suspects.popleft(), now) if self._suspects else None

    def pause_s(self, now: float) -> float | None:
        """Seconds until a waiting task is due; None when none waits."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None

    def answered(self, ticket: Ticket, reply: Reply, now: float) -> Done | Failed | None:
        """Record a worker's reply; None when the task will run again."""
        ticket.attempts += 1
        if reply.fault is None:
            self._open -= 1
            return Done(
                key=ticket.task.key, value=reply.value, attempts=ticket.attempts, seconds=reply.seconds,
                causes=tuple(ticket.causes),
            )  # fmt: skip
        ticket.causes.append(_line(reply.fault.kind, reply.fault.message))
        pause = pause_after(
            reply.fault,
            key=ticket.task.key,
            attempts=ticket.attempts,
            elapsed_s=_elapsed(ticket, now),
            budget=self._budget,
        )
        if pause is None:
            return self._failed(ticket, reply.fault, reply.seconds)
        heapq.heappush(self._waiting, (now + pause, next(self._order), ticket))
        return None

    def died(self, tickets: Sequence[Ticket], cause: str, *, alone: bool, seconds: float, now: float) -> Failed | None:
        """Record that a worker died with these tasks in it; those that get no outcome become suspects.

        Args:
            tickets: what was running.
            cause: how it died, in words.
            alone: True when the one ticket shared the worker with no other task during its whole attempt.
            seconds: how long the lone task had been running.
            now: time of the death.
        """
        for ticket in tickets:
            ticket.causes.append(_line(WORKER_DIED, cause))
        if not alone:
            for ticket in tickets:
                if not ticket.attempts:
                    ticket.first_start = None  # nor is the time until its turn alone charged to it
            self._suspects.extend(tickets)
            return None
        (ticket,) = tickets
        ticket.attempts += 1
        ticket.deaths += 1
        fault = fault_of_deaths(
            cause, attempts=ticket.attempts, deaths=ticket.deaths, elapsed_s=_elapsed(ticket, now), budget=self._budget
        )
        if fault is not None:
            return self._failed(ticket, fault, seconds)
        self._suspects.append(ticket)
        return None

    def lost(self, tickets: Sequence[Ticket], cause: str, now: float) -> None:
        """Record that the node of these tasks was lost, which is no fault of theirs: they run again, uncharged.

        One that is lost again and again becomes a suspect, for it may be what takes whole nodes down.
        """
        for ticket in tickets:
            ticket.causes.append(_line(NODE_LOST, cause))
            ticket.losses += 1
            if ticket.losses >= _LOSSES:
                self._suspects.append(ticket)
            else:
                heapq.heappush(self._waiting, (now, next(self._order), ticket))

    def refused(self, ticket: Ticket, fault: Fault) -> Failed:
        """Record that a task could not even be sent to a worker."""
        ticket.attempts += 1
        ticket.causes.append(_line(fault.kind, fault.message))
        return self._failed(ticket, fault, 0.0)

    def _started(self, ticket: Ticket, now: float) -> Ticket:
        if ticket.first_start is None:
            ticket.first_start = now
        return ticket

    def _failed(self, ticket: Ticket, fault: Fault, seconds: float) -> Failed:
        self._open -= 1
        return Failed(
            key=ticket.task.key, error=fault, attempts=ticket.attempts, seconds=seconds, causes=tuple(ticket.causes)
        )


def _line(kind: str, message: str) -> str:
    return f"{kind}: {message}".replace("\n", " ")[:300]


def _elapsed(ticket: Ticket, now: float) -> float:
    return now - ticket.first_start if ticket.first_start is not None else 0.0
