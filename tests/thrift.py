"""What costs a session of tests time and is no concern of theirs, done once instead of once a run.

Each run starts a process to check headers in, and measures the machine to say how long it will take: half of what a run
of a small scene costs. Tests of those things themselves call them directly, or run the command.
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


@contextmanager
def thrifty() -> Iterator[None]:
    """Runs of this process share the process that checks headers, and what was measured of the machine."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("earthloom.jobs.planning.plan.flop_per_s", _measured))
        stack.enter_context(mock.patch("earthloom.jobs.intake.scenes.Disposables", _inspectors))
        yield


def _inspectors(size: int = 1, cap: Cap | None = None, preload: tuple[str, ...] = ()) -> Disposables | _Lent:
    return _Lent(_pool(preload)) if cap is None else Disposables(size, cap, preload)


def _pool(preload: tuple[str, ...]) -> Disposables:
    """One process, as long as this one's folder and environment, which it was started with, stay as they are."""
    env = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    around = (Path.cwd(), env, preload)
    with _lock:
        if not _kept or _kept[0][0] != around:
            _end()
            _kept.append((around, Disposables(1, preload=preload)))
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
