"""Signals that wait: what has to be whole is not cut short by SIGTERM or Ctrl-C, which take effect right after it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STOPS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def unbroken() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C wait for the end of a `with` block, whose handlers then hear of them; a second one does not wait.

    Does nothing in a thread that is not the main one, for signals interrupt that alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {stop: handler for stop in _STOPS if callable(handler := signal.getsignal(stop))}
    waiting: list[int] = []

    def restore() -> None:
        for stop, handler in before.items():
            signal.signal(stop, handler)

    def wait(stop: int, _: FrameType | None) -> None:
        waiting.append(stop)
        if len(waiting) > 1:
            restore()
            signal.raise_signal(stop)

    for stop in before:
        signal.signal(stop, wait)
    try:
        yield
    finally:
        restore()
        if len(waiting) == 1:
            signal.raise_signal(waiting[0])
