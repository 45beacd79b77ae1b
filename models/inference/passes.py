"""Forward passes on a CPU: side by side, each by a single thread.

A single one, because convolutions, interpolations and norms of PyTorch give other last bits when more threads share them;
so a map does not depend on a machine's cores. On a busy machine it is faster too: threads of one pass wait for each other
at every layer. Knows nothing of networks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TypeVar

import torch

from earthloom.models.device.threads import use_threads
from earthloom.tiling.background import Background

S = TypeVar("S")
T = TypeVar("T")


class Threads:
    """The threads in which all predictors of a process compute.

    Args:
        passes: at once, at most.
    """

    def __init__(self, passes: int) -> None:
        self._passes = self._allowed = passes
        self._running = 0
        self._turn = threading.Condition()
        self._pool = Background(passes, "pass") if passes > 1 else None

    @property
    def allowed(self) -> int:
        """Passes that may be made at once; fewer than at first where memory had run out."""
        return self._allowed

    def halve(self, seen: int) -> bool:
        """Allow half as many from now on, unless somebody did since `allowed` was `seen`; False if there is only one."""
        with self._turn:
            if self._allowed == 1 and seen == 1:
                return False
            self._allowed = max(1, min(self._allowed, seen // 2))
            return True

    def map(self, function: Callable[[S], T], items: Sequence[S]) -> Generator[T, None, None]:
        """`function` of each item, in order; some that come later are computed while one is looked at.

        Closing the iterator waits for the calls that have been submitted.
        """
        use_threads(1)
        if self._pool is None:
            for item in items:
                yield function(item)
            return
        ahead: deque[Future[T]] = deque()
        try:
            for item in items:
                if len(ahead) == self._passes + 2:  # all can run, and one waits: no thread does
                    yield ahead.popleft().result()
                ahead.append(self._pool.submit(self._call, function, item))
            while ahead:
                yield ahead.popleft().result()
        finally:
            wait(ahead)

    def _call(self, function: Callable[[S], T], item: S) -> T:
        use_threads(1)
        with self._turn:
            self._turn.wait_for(lambda: self._running < self._allowed)
            self._running += 1
        try:
            return function(item)
        finally:
            with self._turn:
                self._running -= 1
                self._turn.notify()


@contextmanager
def one_thread() -> Iterator[None]:
    """Give the calling thread's operations no other thread, and afterwards as many as before.

    Also for what is made before the passes: operations there are small, and threads that wait for each other between
    them take more time of the processor than all of the work (0.6 against 1.5 s to load `landwater` on a busy machine).
    """
    before = torch.get_num_threads()
    use_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
