"""Workers for the tests of executors. Top-level, so that they pickle."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthloom.tiling.errors import CardError, NodeError, StorageError


def square(_: None) -> Callable[[int], int]:
    return lambda number: number * number


class FaultsEveryThirdCall:
    def __init__(self, _: None) -> None:
        self._lock = threading.Lock()
        self._calls = 0

    def __call__(self, number: int) -> int:
        with self._lock:
            self._calls += 1
            third = self._calls % 3 == 0
        if third:
            raise StorageError("the store was busy; try again", transient=True)
        return number


def refuses_odd(_: None) -> Callable[[int], int]:
    def work(number: int) -> int:
        if number % 2:
            raise CardError(f"block {number} is odd; give even ones")
        return number

    return work


class FaultsUntilOthersAreDone:
    """Task 0 faults transiently until all others have been done in this worker."""

    def __init__(self, n_tasks: int) -> None:
        self._others = set(range(1, n_tasks))

    def __call__(self, number: int) -> int:
        self._others.discard(number)
        if number == 0 and self._others:
            raise StorageError("not now", transient=True)
        return number


class MeetsOthers:
    """Each call waits until three are in the worker at once."""

    def __init__(self, _: None) -> None:
        self._barrier = threading.Barrier(3)

    def __call__(self, number: int) -> int:
        self._barrier.wait(timeout=120)
        return number


def sleeper(_: None) -> Callable[[float], float]:
    def work(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    return work


def allocates(_: None) -> Callable[[int], int]:
    def work(size: int) -> int:
        return sum(bytearray(b"\1") * size) // size * os.getpid()

    return work


class Panic(BaseException):
    """What a library in Rust makes of a panic: no Exception."""


def panics(_: None) -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == 1:
            raise Panic("index out of bounds")
        return number

    return work


def no_weights(name: str) -> Callable[[int], int]:
    raise CardError(f"the weights of {name} are missing; run `earthloom models add {name}`")


def has_a_bug(_: None) -> Callable[[int], int]:
    raise ZeroDivisionError("no such luck")


def starts_at_second_try(marks: Path) -> Callable[[int], int]:
    if first_time(marks / "start"):
        raise StorageError("the weights' store was busy", transient=True)
    return square(None)


def dies_at_start(_: None) -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return square(None)


@dataclass(frozen=True)
class Deaths:
    """Which tasks kill their worker."""

    marks: Path
    once: frozenset[int] = frozenset()
    always: frozenset[int] = frozenset()
    how: str = "kill"
    seconds: float = 0.02
    """What a task takes, so that tasks overlap in the lanes."""


def deadly(deaths: Deaths) -> Callable[[int], int]:
    def work(number: int) -> int:
        time.sleep(deaths.seconds)
        if number in deaths.always or (number in deaths.once and first_time(deaths.marks / str(number))):
            die(deaths.how)
        return number

    return work


@dataclass(frozen=True)
class Witness:
    """Task 0 dies after a while and leaves a note on who else was in the worker then."""

    notes: Path
    after_s: float


def witnessed(witness: Witness) -> Callable[[int], int]:
    running: set[int] = set()

    def work(number: int) -> int:
        running.add(number)
        time.sleep(0.02 if number else witness.after_s)
        if number == 0:
            note = witness.notes / f"{time.time_ns()}"
            note.write_text(",".join(str(other) for other in running - {0}))
            die("kill")
        running.remove(number)
        return number

    return work


def die(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


def returns_a_lock(_: None) -> Callable[[Any], Any]:
    return lambda number: threading.Lock() if number == 1 else number


def first_time(mark: Path) -> bool:
    """True for one caller only, of all processes."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def always_busy(_: None) -> Callable[[Any], Any]:
    def work(_: Any) -> Any:
        raise StorageError("the store is down", transient=True)

    return work


def home_of(_: None) -> Callable[[str], str | None]:
    """Tells the file that a module comes from."""
    return lambda name: importlib.import_module(name).__file__


def variable(_: None) -> Callable[[str], str | None]:
    """Tells variables of the environment that it runs in."""
    return os.environ.get


def pid(_: None) -> Callable[[int], int]:
    return lambda _: os.getpid()


def noted(marks: Path) -> Callable[[int], int]:
    """Leaves a file per run of a task, `<task>.<node>.<a number of its own>`; ends when the file `limit` says more."""
    import ray

    node = str(ray.get_runtime_context().get_node_id())

    def work(number: int) -> int:
        (marks / f"{number}.{node}.{time.time_ns()}").touch()
        while int((marks / "limit").read_text() or 0) <= number:
            time.sleep(0.05)
        return number

    return work


def only_where(allowed: str) -> Callable[[int], str]:
    """Tells its node; refuses nodes on which the variable KIND is another one."""
    import ray

    if (found := os.environ.get("KIND")) != allowed:
        raise NodeError(f"the node is of kind {found}, not {allowed}")
    node = str(ray.get_runtime_context().get_node_id())

    def work(_: int) -> str:
        time.sleep(0.2)
        return node

    return work


class SeesGpus:
    """Says which GPUs the worker may use, once as many workers as `n_workers` are at work."""

    def __init__(self, where: tuple[str, int]) -> None:
        self._folder, self._n_workers = Path(where[0]), where[1]

    def __call__(self, _: int) -> tuple[int, str]:
        (self._folder / str(os.getpid())).touch()
        until = time.monotonic() + 120
        while len(list(self._folder.iterdir())) < self._n_workers and time.monotonic() < until:
            time.sleep(0.05)
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
