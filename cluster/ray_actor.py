"""One Ray actor with lanes: the class that runs in its process, and the driver's handle with what is in flight.

Imports Ray; only `cluster.ray_pool` uses it.
"""

from __future__ import annotations

import platform
import queue
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from earthloom.cluster.backlog import Ticket
from earthloom.cluster.executor import Worker, WorkerFactory
from earthloom.cluster.nodes import node_name
from earthloom.cluster.outcome import Fault
from earthloom.cluster.worker import Reply, Report, Vitals, WorkerStats, attempt, build, vitals

_ray: Any = ray  # its annotations are partial
_DETAIL = re.compile(
    r"(?:exit detail: |actor died because |is unavailable: )(.+?)(?:\. Some common causes|\n|$)", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an actor lies."""

    node_id: str
    node: str
    """For people."""


class Lanes:
    """Runs in the actor's process. The worker is made by `start`, not on construction, so that a fault of the factory
    comes back as a value and a death of the actor can mean only one thing."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._node: str = _ray.util.get_node_ip_address()
        self._worker: Worker | None = None

    def __repr__(self) -> str:  # what Ray's dashboard and its logs call the actor
        return self._name

    def place(self) -> Place:
        node_id = str(_ray.get_runtime_context().get_node_id())
        return Place(node_id=node_id, node=node_name(node_id, platform.node(), self._node))

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


Call: TypeAlias = "Future[Any]"


@dataclass(slots=True, eq=False)
class ActorHandle:
    """The driver's side of an actor. Every call that is not answered yet is a key of `flights`, or `placing` or `starting`.

    Answers are announced in an inbox instead of being waited for inside Ray, which holds signals back while it waits and
    turns the exit code of a handler into 1.
    """

    number: int
    lanes: int
    _remote: Any
    _inbox: queue.SimpleQueue[tuple[ActorHandle, Call]]
    _factory: WorkerFactory
    asked_at: float
    placing: Call | None = None
    """Answered as soon as a node has room for the actor; None from then on."""
    starting: Call | None = None
    """The factory's call, once the actor is placed; None once it is ready."""
    place: Place | None = None
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
        name: str,
        factory: WorkerFactory,
        options: Mapping[str, Any],
        lanes: int,
        inbox: queue.SimpleQueue[tuple[ActorHandle, Call]],
    ) -> ActorHandle:
        """Ask Ray for an actor, which never restarts or retries by itself. Does not wait for it."""
        limits = {"max_concurrency": lanes, "max_restarts": 0, "max_task_retries": 0}
        actor = _ray.remote(Lanes).options(name=name, **limits, **options).remote(name)
        handle = cls(number, lanes, actor, inbox, factory, time.monotonic())
        handle.placing = handle._announced(actor.place.remote())
        return handle

    def placed(self) -> Place:
        """Take note of where the actor lies, and let it make its worker.

        Raises:
            RayError: as `receive` does.
        """
        assert self.placing is not None
        place: Place = self._result(self.placing)
        self.placing, self.place = None, place
        self.starting = self._announced(self._remote.start.remote(self._factory))
        return place

    @property
    def ready(self) -> bool:
        """Whether its worker is made."""
        return self.placing is None and self.starting is None

    @property
    def room(self) -> int:
        """Lanes that are free for tasks that may run beside others."""
        return self.lanes - len(self.flights) if self.ready and not self.in_isolation else 0

    @property
    def idle(self) -> bool:
        return self.ready and not self.flights

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
            report: Report = self._result(call)
        except RayTaskError as error:  # a value did not pickle, or a class differs on the two sides
            cause = error.cause if isinstance(error.cause, Exception) else error
            return Report(
                reply=Reply(fault=Fault.of(cause), seconds=0.0),
                vitals=self.vitals or Vitals(pid=0, node="", peak_bytes=0),
            )
        self.vitals = report.vitals
        return report

    def _result(self, call: Call) -> Any:
        try:
            return call.result(timeout=10)
        except TimeoutError as error:
            raise GetTimeoutError("no reply from a dead worker") from error

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
        where = self.place.node if self.place else "no node yet"
        who = (
            f"process {self.vitals.pid} on {where}"
            if self.vitals
            else f"a process that had not answered yet, on {where}"
        )
        return f"{who}: {detail[:240]}"


def node_lost(error: RayError) -> bool:
    """Whether an actor is out of reach because its node is, and not for anything that ran in it.

    A node that is cut off or dies at once is known as dead only after some seconds; until then its actors are
    "unavailable". The death of a process on a living node is reported at once.
    """
    return isinstance(error, ActorUnavailableError) or "its node has died" in str(error)
