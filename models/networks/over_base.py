"""The part that networks share which are built over another network, the base, and have no weights but its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from earthloom.models.device.deterministic import softmax
from earthloom.tiling.errors import CardError


class OverBase(nn.Module):
    """A network over a base whose weights it has, under the base's own names, so that one file serves both.

    Args:
        base: takes (N, C, H, W) and gives logits (N, K, H, W), one logit for two classes being the second one's, or
            probabilities.
        n_base: K.
        gives_probabilities: what the base gives.
    """

    def __init__(self, base: nn.Module, n_base: int, *, gives_probabilities: bool) -> None:
        super().__init__()
        self.base, self._n_base, self._gives_probabilities = base, n_base, gives_probabilities

    def probabilities(self, x: Tensor) -> Tensor:
        """(N, K, H, W) fp32 of (N, C, H, W).

        Raises:
            CardError: if the base gives another number of classes.
        """
        # part of a chip's channels is a view with gaps; the base gets what it would get by itself
        answer: Tensor = self.base(x.contiguous(memory_format=torch.channels_last)).float()
        if not self._gives_probabilities:
            answer = torch.stack([softmax(one) for one in two_logits(answer)])
        if answer.shape[1] != self._n_base:
            raise CardError(f"the network gives {answer.shape[1]} classes, and {self._n_base} are asked for")
        return answer

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The base's own."""
        return self.base.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Into the base."""
        return self.base.load_state_dict(state_dict, strict, assign)


def two_logits(logits: Tensor) -> Tensor:
    """(N, K, …) logits; a single one as that of the second of two classes."""
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
