"""The worker's side of the wire, the same in a thread and in an actor: build the worker, run payloads, report.

Knows nothing of retries or of the process it runs in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from earthloom.cluster.executor import Worker, WorkerFactory
from earthloom.cluster.outcome import Fault
from earthloom.tiling.heap import peak_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A worker process at one moment."""

    pid: int
    node: str
    """Host name or address of the machine; empty for this process."""
    peak_bytes: int
    """Largest resident set since the process began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """A worker as last heard of; dead ones are kept."""

    worker: int
    """Counted from 0 in order of start; a replacement gets a new number."""
    vitals: Vitals
    start_s: float
    """Seconds from asking for the worker until its factory returned."""
    tasks: int
    """Attempts that it answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one payload came to."""

    value: Any = None
    fault: Fault | None = None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one call to a worker's process came to."""

    reply: Reply
    vitals: Vitals


def build(factory: WorkerFactory) -> tuple[Worker | None, Reply]:
    """Make the worker; the reply holds no value, and the fault if the factory raised."""
    reply = _called(factory)
    return reply.value, replace(reply, value=None)


def attempt(worker: Worker, payload: Any) -> Reply:
    """Run one payload. Never raises, so that the caller can tell a faulting task from a dying worker."""
    return _called(worker, payload)


def _called(function: Callable[..., Any], *arguments: Any) -> Reply:
    begun = time.monotonic()
    value: Any = None
    fault: Fault | None = None
    try:
        value = function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a Rust library is no Exception
        fault = Fault.of(error)
    return Reply(value=value, fault=fault, seconds=time.monotonic() - begun)


def vitals(node: str = "") -> Vitals:
    """This process now."""
    return Vitals(pid=os.getpid(), node=node, peak_bytes=peak_bytes())
