"""What costs a session of tests time and is no concern of theirs, done once instead of once a run.

Each run starts processes to check headers in and to compare dates in, measures the machine to say how long it will take,
and waits for the disk after each of its files: half of what a run of a small scene costs. Tests of those things
themselves call them directly, or run the command.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Self
from unittest import mock

from earthloom.models.device.speed import flop_per_s
from earthloom.tiling.reading.sandbox import Cap, Disposables

_lock = threading.Lock()
_kept: list[tuple[object, Disposables]] = []
_measured = cache(flop_per_s)
_NOT_READ = ("PYTEST_CURRENT_TEST", "EARTHLOOM_CACHE")
"""By the process that checks headers: its files are hashed and fetched before it sees them."""


@contextmanager
def thrifty() -> Iterator[None]:
    """Runs of this process share the process that checks headers, and what was measured of the machine.

    They do not wait until their files are safe from a power cut: no test cuts the power.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch("os.fsync", _fsync))
        stack.enter_context(mock.patch("earthloom.jobs.planning.plan.flop_per_s", _measured))
        for module in ("intake.scenes", "planning.binding"):
            stack.enter_context(mock.patch(f"earthloom.jobs.{module}.Disposables", _inspectors))
        yield


def _fsync(_: int) -> None:
    """The disk gets it in its own time."""


def _inspectors(size: int = 1, cap: Cap | None = None, preload: tuple[str, ...] = ()) -> Disposables | _Lent:
    return _Lent(_pool(preload)) if cap is None else Disposables(size, cap, preload)


def _pool(preload: tuple[str, ...]) -> Disposables:
    """A process that was started in this folder and environment. The last two are kept: the usual, and what a test sets."""
    env = {name: value for name, value in os.environ.items() if name not in _NOT_READ}
    around = (Path.cwd(), env, preload)
    with _lock:
        places = [place for place, (known, _) in enumerate(_kept) if known == around]
        if not places and len(_kept) > 1:
            _kept.pop()[1].__exit__()
        _kept.insert(0, _kept.pop(places[0]) if places else (around, Disposables(1, preload=preload)))
        return _kept[0][1]


@atexit.register
def _end() -> None:
    while _kept:
        _kept.pop()[1].__exit__()


class _Lent:
    """Stands for the `Disposables` of a run, and leaves their process to the next one."""

    def __init__(self, pool: Disposables) -> None:
        self.call = pool.call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It stays."""
