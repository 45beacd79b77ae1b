"""Several processes that train one network: each sees other crops, and all move the weights by the mean of the gradients.

The processes are those of torch.distributed's group, which `cluster.training` sets up; without one, a process is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Team:
    """The processes that train together; this one has a number among them."""

    def __init__(self) -> None:
        untyped: Any = torch.distributed
        self._group: Any = untyped if untyped.is_available() and untyped.is_initialized() else None
        self.number: int = self._group.get_rank() if self._group else 0
        self.size: int = self._group.get_world_size() if self._group else 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what all of them know."""
        return self.number == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes into each tensor; their shapes are the same everywhere."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1).float() for tensor in tensors])
        self._group.all_reduce(flat)
        flat /= self.size
        start = 0
        for tensor in tensors:
            tensor.detach().copy_(flat[start : start + tensor.numel()].reshape(tensor.shape))
            start += tensor.numel()

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes; int64 or float64."""
        if self.size == 1:
            return numbers
        summed = numbers.clone()
        self._group.all_reduce(summed)
        return summed

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            self._group.barrier()
