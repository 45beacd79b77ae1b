"""Signals that wait: what has to be whole is not cut short by SIGTERM or Ctrl-C, which take effect right after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGTERM, signal.SIGINT)


WITHIN_S = 8.0
"""For which a signal waits at most. With the 20 s that the command then has for a checkpoint it is less than the 30 s that
Kubernetes gives a pod before it kills it."""


@contextmanager
def unbroken(within_s: float = WITHIN_S) -> Iterator[None]:
    """Let SIGTERM and Ctrl-C wait for the end of a `with` block, whose handlers then hear of them; a second one does not wait.

    Does nothing in a thread that is not the main one, for signals interrupt that alone.

    Args:
        within_s: after which the first one does not wait any longer either: the block may be waiting for storage.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {stop: handler for stop in _STOPS if callable(handler := signal.getsignal(stop))}
    waiting: list[int] = []
    limit: list[threading.Timer] = []

    def restore() -> None:
        for stop, handler in before.items():
            signal.signal(stop, handler)

    def wait(stop: int, _: FrameType | None) -> None:
        waiting.append(stop)
        if len(waiting) > 1:
            restore()
            signal.raise_signal(stop)
        else:  # to the main thread itself, which may be waiting for a lock
            limit.append(threading.Timer(within_s, signal.pthread_kill, (threading.main_thread().ident, stop)))
            limit[0].daemon = True
            limit[0].start()

    for stop in before:
        signal.signal(stop, wait)
    try:
        yield
    finally:
        for timer in limit:
            timer.cancel()
        restore()
        if len(waiting) == 1:
            signal.raise_signal(waiting[0])
