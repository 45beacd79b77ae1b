"""One Ray actor with lanes: the class that runs in its process, and the driver's handle with what is in flight.

Imports Ray; only `cluster.ray_pool` uses it.
"""

from __future__ import annotations

import queue
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from earthloom.cluster.backlog import Ticket
from earthloom.cluster.executor import Worker, WorkerFactory
from earthloom.cluster.outcome import Fault
from earthloom.cluster.worker import Reply, Report, Vitals, WorkerStats, attempt, build, vitals

_ray: Any = ray  # its annotations are partial
_DETAIL = re.compile(r"(?:exit detail: |actor died because )(.+?)(?:\. Some common causes|\n|$)", re.DOTALL)


class Lanes:
    """Runs in the actor's process. The worker is made by `start`, not on construction, so that a fault of the factory
    comes back as a value and a death of the actor can mean only one thing."""

    def __init__(self) -> None:
        self._node: str = _ray.util.get_node_ip_address()
        self._worker: Worker | None = None

    def start(self, factory: WorkerFactory) -> Report:
        self._worker, reply = build(factory)
        return Report(reply=reply, vitals=vitals(self._node))

    def run(self, payload: Any) -> Report:
        assert self._worker is not None, "run before start"
        return Report(reply=attempt(self._worker, payload), vitals=vitals(self._node))


@dataclass(slots=True, eq=False)
class Flight:
    """A task in an actor."""

    ticket: Ticket
    since: float
    shared: bool
    """True once the actor had more than one task during this call."""


Call: TypeAlias = "Future[Report]"


@dataclass(slots=True, eq=False)
class ActorHandle:
    """The driver's side of an actor. Every call that is not answered yet is a key of `flights`, or `starting`.

    Answers are announced in an inbox instead of being waited for inside Ray, which holds signals back while it waits and
    turns the exit code of a handler into 1.
    """

    number: int
    lanes: int
    _remote: Any
    _inbox: queue.SimpleQueue[tuple[ActorHandle, Call]]
    asked_at: float
    starting: Call | None = None
    """The factory's call; None once the actor is ready."""
    flights: dict[Call, Flight] = field(default_factory=dict)
    in_isolation: bool = False
    """True while a suspect runs here alone."""
    start_s: float = 0.0
    answered: int = 0
    vitals: Vitals | None = None

    @classmethod
    def launch(
        cls,
        number: int,
        factory: WorkerFactory,
        options: Mapping[str, Any],
        lanes: int,
        inbox: queue.SimpleQueue[tuple[ActorHandle, Call]],
    ) -> ActorHandle:
        """Ask Ray for an actor, which never restarts or retries by itself. Does not wait for it."""
        limits = {"max_concurrency": lanes, "max_restarts": 0, "max_task_retries": 0}
        actor = _ray.remote(Lanes).options(**limits, **options).remote()
        handle = cls(number, lanes, actor, inbox, time.monotonic())
        handle.starting = handle._announced(actor.start.remote(factory))
        return handle

    @property
    def room(self) -> int:
        """Lanes that are free for tasks that may run beside others."""
        return 0 if self.starting is not None or self.in_isolation else self.lanes - len(self.flights)

    @property
    def idle(self) -> bool:
        return self.starting is None and not self.flights

    def send(self, ticket: Ticket, *, alone: bool = False) -> None:
        """Start a task in a lane; raises what pickling its payload raises."""
        reference = self._remote.run.remote(ticket.task.payload)
        self.in_isolation = alone
        flight = Flight(ticket, time.monotonic(), shared=bool(self.flights))
        for companion in self.flights.values():
            companion.shared = True
        self.flights[self._announced(reference)] = flight

    def receive(self, call: Call) -> Report:
        """The answer to a call that was announced, or that a dead actor cannot answer any more.

        Raises:
            RayError: if the actor died, or its node, or the answer was lost.
        """
        try:
            report = call.result(timeout=10)
        except RayTaskError as error:  # a value did not pickle, or a class differs on the two sides
            cause = error.cause if isinstance(error.cause, Exception) else error
            return Report(
                reply=Reply(fault=Fault.of(cause), seconds=0.0),
                vitals=self.vitals or Vitals(pid=0, node="", peak_bytes=0),
            )
        except TimeoutError as error:
            raise GetTimeoutError("no reply from a dead worker") from error
        self.vitals = report.vitals
        return report

    def _announced(self, reference: Any) -> Call:
        call: Call = reference.future()
        call.add_done_callback(lambda done: self._inbox.put((self, done)))
        return call

    def stats(self) -> WorkerStats | None:
        """None before the first reply."""
        if self.vitals is None:
            return None
        return WorkerStats(worker=self.number, vitals=self.vitals, start_s=self.start_s, tasks=self.answered)

    def kill(self) -> None:
        """End the process now; what is in flight is lost. Does not wait."""
        if _ray.is_initialized():  # else the actor is gone, and Ray would start a new instance to kill it in
            _ray.kill(self._remote, no_restart=True)

    def cause_of_death(self, error: RayError) -> str:
        """How the actor ended, in one line."""
        if isinstance(error, GetTimeoutError):
            return "it did not hand over a reply that was ready"
        found = _DETAIL.search(str(error))
        detail = (found[1] if found else str(error)).replace("\n", " ").strip()
        who = (
            f"process {self.vitals.pid} on {self.vitals.node}" if self.vitals else "a process that had not answered yet"
        )
        return f"{who}: {detail[:240]}"
