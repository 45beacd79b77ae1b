"""Forward passes on a CPU: side by side, each by a single thread.

A single one, because convolutions, interpolations and norms of PyTorch give other last bits when more threads share them;
so a map does not depend on a machine's cores. It is faster too: threads of one pass wait for each other at every layer.
Knows nothing of networks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

import torch

from tiling.background import Background

S = TypeVar("S")
T = TypeVar("T")


class Threads:
    """The threads in which all predictors of a process compute.

    Args:
        passes: at once, at most.
    """

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self._pool = Background(passes, "pass") if passes > 1 else None

    def map(self, function: Callable[[S], T], items: Sequence[S], *, most: int) -> Generator[T, None, None]:
        """`function` of each item, in order; some that come later are computed while one is looked at.

        What is left of the calls has ended when the iterator is closed.

        Args:
            most: calls at once that are allowed here; with 1 they are made in the thread that asks.
        """
        n = min(self.passes, len(items), most)
        _one_thread()
        if self._pool is None or n < 2:
            for item in items:
                yield function(item)
            return

        def work(item: S) -> T:
            _one_thread()
            return function(item)

        ahead: deque[Future[T]] = deque()
        longest = n if n < self.passes else n + 2  # with all threads at hand, none waits while a result is looked at
        try:
            for item in items:
                if len(ahead) == longest:
                    yield ahead.popleft().result()
                ahead.append(self._pool.submit(work, item))
            while ahead:
                yield ahead.popleft().result()
        finally:
            wait(ahead)


def _one_thread() -> None:
    """Give the calling thread's operations no other thread; in PyTorch with OpenMP each thread has a number of its own."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
