"""In how many threads a training computes; the last bits of what it learns depend on it."""

from __future__ import annotations

import torch


def use_threads(threads: int | None) -> int:
    """Let operations of the calling thread use so many, or all cores where None, and say how many."""
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
