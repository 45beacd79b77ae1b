"""How a worker's CPU threads are shared by its forward passes.

Passes side by side, each with threads of its own, are faster than one pass with all of them: threads of one pass wait for
each other at every layer. Knows nothing of networks.
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
    """The CPU threads of a process, for all of its predictors together.

    Args:
        count: of them; None leaves torch's number as it is.
        passes: forward passes at once, at most.
    """

    def __init__(self, count: int | None = None, passes: int = 1) -> None:
        self.count, self.passes = count, passes
        self._pool = Background(passes, "pass") if passes > 1 else None
        _limit(count)

    def map(
        self, function: Callable[[S], T], items: Sequence[S], *, side_by_side: bool = True
    ) -> Generator[T, None, None]:
        """`function` of each item, in order; some that come later are computed while one is looked at.

        A call has as many threads as there are for each of those that run with it. What is left of the calls has ended
        when the iterator is closed.

        Args:
            side_by_side: false keeps to one call at a time, with all threads, in the thread that asks.
        """
        n = min(self.passes, len(items)) if side_by_side else 1
        share = max(1, self.count // n) if self.count else None
        _limit(share)
        if self._pool is None or n < 2:
            yield from map(function, items)
            return

        def work(item: S) -> T:
            _limit(share)
            return function(item)

        ahead: deque[Future[T]] = deque()
        try:
            for item in items:
                ahead.append(self._pool.submit(work, item))
                if len(ahead) > n + 1:  # one more than can run: no thread waits while a result is looked at
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            wait(ahead)


def _limit(n: int | None) -> None:
    """Give the calling thread's operations `n` threads; in PyTorch with OpenMP each thread has a number of its own."""
    if n is not None and n != torch.get_num_threads():
        torch.set_num_threads(n)
