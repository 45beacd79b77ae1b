"""Threads that keep no process alive. Knows nothing of what they run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """Runs functions in threads of its own.

    Unlike those of `concurrent.futures` they are daemons: a process that is told to end does not wait for them.
    """

    def __init__(self, n: int, name: str) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for number in range(n):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it when a thread is free; its value or its exception comes with the future."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._todo.put(run)
        return future

    def _work(self) -> None:
        while True:
            self._todo.get()()
