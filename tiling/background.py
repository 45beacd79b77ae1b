"""Threads that keep no process alive. Knows nothing of what they run."""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class Background:
    """Runs functions in threads of its own.

    Unlike those of `concurrent.futures` they are daemons: a process that is asked to end does not wait for them. They end
    with this object, after what was submitted.
    """

    def __init__(self, n: int, name: str) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        for number in range(n):
            threading.Thread(target=_work, args=(self._todo,), name=f"{name}-{number}", daemon=True).start()
        weakref.finalize(self, _end, self._todo, n)

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it when a thread is free; its value or its exception comes with the future."""
        future: Future[T] = Future()
        self._todo.put(partial(_run, future, partial(function, *args, **kwargs)))
        return future


def ordered(function: Callable[[S], T], items: Iterable[S], *, threads: int, ahead: int) -> Iterator[T]:
    """`function` of each item, in order, made in `threads` threads at most `ahead` items before they are asked for."""
    pool, coming = Background(threads, "ahead"), deque[Future[T]]()
    for item in items:
        coming.append(pool.submit(function, item))
        if len(coming) > ahead:
            yield coming.popleft().result()
    while coming:
        yield coming.popleft().result()


def _work(todo: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while run := todo.get():
        run()
        del run  # what it holds on to may be large, or may be what ends this thread


def _run(future: Future[Any], function: Callable[[], Any]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del future  # its exception's traceback holds this frame


def _end(todo: queue.SimpleQueue[Callable[[], None] | None], n: int) -> None:
    for _ in range(n):
        todo.put(None)
