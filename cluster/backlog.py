"""Which task runs next, and what becomes of those that did not succeed: the rules that all executors share.

Pulls tasks lazily, holds those that wait for another attempt, and keeps *suspects*: tasks that were running in a worker
when it died. A suspect runs next alone on a worker; only a death alone is charged to it. Several tasks may share one call to
a worker; those that a call came to nothing for get one of their own. Knows no clock, thread or Ray.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from earthloom.cluster.executor import Task
from earthloom.cluster.outcome import Done, Failed, Fault
from earthloom.cluster.retry import WORKER_DIED, Budget, Retry, decide, decide_death
from earthloom.cluster.worker import Reply


@dataclass(slots=True, eq=False)
class Ticket:
    """A task that was pulled and has no outcome yet."""

    task: Task
    first_start: float | None = None
    attempts: int = 0
    deaths: int = 0
    causes: list[str] = field(default_factory=list)


class Backlog:
    """Tasks on their way to an outcome. Times are seconds of any one clock, given by the caller."""

    def __init__(self, tasks: Iterable[Task], budget: Budget, window: int) -> None:
        """
        Args:
            tasks: pulled one at a time, when there is room.
            budget: of each task.
            window: calls that may run at once. No new task is pulled while twice as many have no outcome as would fill
                them, so a storage outage that makes every task wait does not pull them all.
        """
        self._tasks: Iterator[Task] = iter(tasks)
        self._drained = False
        self._budget = budget
        self._window = window
        self._open = 0
        self._waiting: list[tuple[float, int, Ticket]] = []
        self._order = count()
        self._apart: deque[Ticket] = deque()
        self._suspects: deque[Ticket] = deque()

    @property
    def finished(self) -> bool:
        """True when every task has its outcome."""
        return self._drained and self._open == 0

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    def take(self, now: float, most: int = 1) -> list[Ticket]:
        """The next tasks for one call that runs beside others; empty when there is none now.

        One that must have a call of its own; else up to `most` of those whose pause is over, then of new ones.
        """
        if self._apart:
            return [self._started(self._apart.popleft(), now)]
        taken: list[Ticket] = []
        while len(taken) < most and (ticket := self._next(now, 2 * self._window * most)) is not None:
            taken.append(self._started(ticket, now))
        return taken

    def _next(self, now: float, limit: int) -> Ticket | None:
        if self._waiting and self._waiting[0][0] <= now:
            return heapq.heappop(self._waiting)[2]
        if self._drained or self._open >= limit:
            return None
        try:
            task = next(self._tasks)
        except StopIteration:
            self._drained = True
            return None
        self._open += 1
        return Ticket(task)

    def take_suspect(self, now: float) -> Ticket | None:
        """The next task that must run alone on its worker."""
        return self._started(self._suspects.popleft(), now) if self._suspects else None

    def pause_s(self, now: float) -> float | None:
        """Seconds until a waiting task is due; None when none waits."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None

    def settled(self, tickets: Sequence[Ticket], replies: Sequence[Reply], now: float) -> list[Done | Failed]:
        """Record what a call came to: a reply for each task that it began."""
        self.apart(tickets[len(replies) :])
        outcomes = (self.answered(*pair, now) for pair in zip(tickets, replies, strict=False))
        return [outcome for outcome in outcomes if outcome is not None]

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
        verdict = decide(
            reply.fault,
            key=ticket.task.key,
            attempts=ticket.attempts,
            elapsed_s=_elapsed(ticket, now),
            budget=self._budget,
        )
        if isinstance(verdict, Retry):
            heapq.heappush(self._waiting, (now + verdict.after_s, next(self._order), ticket))
            return None
        return self._failed(ticket, verdict.fault, reply.seconds)

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
        verdict = decide_death(
            cause,
            attempts=ticket.attempts,
            deaths=ticket.deaths,
            elapsed_s=_elapsed(ticket, now),
            budget=self._budget,
        )
        if isinstance(verdict, Retry):
            self._suspects.append(ticket)
            return None
        return self._failed(ticket, verdict.fault, seconds)

    def apart(self, tickets: Iterable[Ticket]) -> None:
        """Take back tasks of a call that did not begin them, or that failed as a whole and does not tell through which.

        They are charged nothing, and each gets a call of its own.
        """
        for ticket in tickets:
            if not ticket.causes:
                ticket.first_start = None
            self._apart.append(ticket)

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
