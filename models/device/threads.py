"""In how many threads the calling thread's operations of torch compute; the last bits of some results depend on it."""

from __future__ import annotations

import torch


def use_threads(threads: int | None) -> int:
    """Let operations of the calling thread use so many, or as many as now where None, and say how many.

    In PyTorch with OpenMP each thread has a number of its own, so a thread that was just started has to be told.
    """
    if threads is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()
