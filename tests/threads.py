"""The same work in several threads at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


def side_by_side(work: Callable[[A], R], each: Sequence[A]) -> list[R]:
    """What it gives, or raises, for each, in a thread of its own."""
    with ThreadPoolExecutor(len(each)) as pool:
        return list(pool.map(work, each))
