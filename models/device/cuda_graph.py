"""Forward passes on a GPU, recorded as CUDA graphs: one launch for a pass instead of hundreds of small ones.

Knows nothing of models: only a function from a tensor of one shape to another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

_WARM_UPS = 2  # kernels are chosen and workspaces made there, which a recording may not do
_MOST = 4
"""Shapes that are recorded: the full batch and a few rests; each keeps the memory of its answer."""


class Recorder:
    """Runs a forward pass; from its second use on, a shape is recorded and replayed.

    A pass that cannot be recorded, because it looks at its own values, runs as it is, always.

    Args:
        forward: from (N, C, H, W) on the GPU to a tensor there, the same operations every time.
    """

    def __init__(self, forward: Callable[[Tensor], Any]) -> None:
        self._forward = forward
        self._seen: set[tuple[int, ...]] = set()
        self._graphs: dict[tuple[int, ...], _Graph] = {}
        self._pool: Any = None
        self._can_record = True

    def __call__(self, chips: Tensor) -> Any:
        """The answer; its memory is used again by the next pass of the same shape.

        Raises:
            torch.OutOfMemoryError: if memory does not suffice for the pass as it is.
        """
        shape = tuple(chips.shape)
        if graph := self._graphs.get(shape):
            return graph.replay(chips)
        if shape not in self._seen or not self._can_record or len(self._graphs) == _MOST:
            self._seen.add(shape)
            return self._forward(chips)
        with suppress(RuntimeError):  # lack of memory too: a recording needs more than the pass itself
            self._graphs[shape] = self._record(chips)
        if graph := self._graphs.get(shape):
            return graph.replay(chips)
        # not where the error is handled: as long as it lives, so do all tensors of the functions that it passed through
        self._can_record = False
        self.forget()
        torch.cuda.empty_cache()
        return self._forward(chips)

    def forget(self) -> None:
        """Give back the memory of all recordings."""
        self._graphs.clear()
        self._pool = None

    def _record(self, chips: Tensor) -> _Graph:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return _Graph(self._forward, chips, self._pool)


class _Graph:
    def __init__(self, forward: Callable[[Tensor], Any], chips: Tensor, pool: Any) -> None:
        self._chips = chips.clone(memory_format=torch.preserve_format)
        aside = new_stream()
        aside.wait_stream(torch.cuda.current_stream())
        before = torch.cuda.get_sync_debug_mode()
        try:
            with torch.cuda.stream(aside):
                forward(self._chips)
                # a pass that waits for the device must fail here: one that fails while it is recorded leaves its
                # stream current and torch's allocator without a way to give memory back
                _fail_on_waiting()
                for _ in range(_WARM_UPS - 1):
                    forward(self._chips)
        finally:
            torch.cuda.set_sync_debug_mode(before)
            torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
                self._answer = forward(self._chips)
        finally:
            torch.cuda.set_stream(here)  # torch.cuda.graph does not where the end of a recording fails

    def replay(self, chips: Tensor) -> Any:
        self._chips.copy_(chips)
        self._graph.replay()
        return self._answer


def new_stream() -> torch.cuda.Stream:
    """A stream of the device that is current."""
    make: Any = torch.cuda.Stream  # torch leaves it untyped
    stream: torch.cuda.Stream = make()
    return stream


def _fail_on_waiting() -> None:
    """Let every operation that waits for the device raise a RuntimeError, without torch's warning that this is new."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode")
        torch.cuda.set_sync_debug_mode("error")
