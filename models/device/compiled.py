"""Networks compiled by torch.compile for chips of one shape. Knows nothing of cards, scenes or precisions."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from earthloom.tiling.errors import EngineError

_REMEDY = (
    "torch.compile needs a C++ compiler (g++, or what CXX names) and Python's headers on every machine that computes; "
    "install them, or run without `compile`"
)
_MOST_SHAPES = 2**16
"""Beyond its limit, 8 by default, torch runs new shapes uncompiled: other bits, and only in workers that saw many."""


def compile_network(module: nn.Module, label: str) -> Callable[..., Any]:
    """The network as one program: compiled on its first call for each shape, in inference mode.

    Its weights become constants, and convolutions take what follows them into themselves.

    Args:
        module: in evaluation mode, on its device, in its precision; not to be changed afterwards.
        label: label of the model, for errors.

    Raises:
        EngineError: from the call, where the network or this machine cannot compile it.
    """
    from torch._dynamo.exc import TorchDynamoException

    compile_: Any = torch.compile  # its types lack two arguments
    program: Callable[..., Any] = compile_(module, dynamic=False, options={"freezing": True}, **_no_limit_of_shapes())
    compiled: set[tuple[Any, ...]] = set()
    compiling = threading.Lock()

    def run(*arguments: Any) -> Any:
        shapes = tuple(argument.shape for argument in arguments)
        try:
            if shapes in compiled:
                return program(*arguments)
            with compiling:
                answer = program(*arguments)
            compiled.add(shapes)
            return answer
        except TorchDynamoException as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise EngineError(f"{label} could not be compiled: {lines[0]}; {_REMEDY}") from error

    return run


def _no_limit_of_shapes() -> dict[str, Any]:
    """Arguments of torch.compile; torch 2.11 and before have one limit for the whole process, which is set here."""
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        return {"recompile_limit": _MOST_SHAPES, "isolate_recompiles": True}
    limits: Any = torch._dynamo.config
    limits.recompile_limit = limits.accumulated_recompile_limit = _MOST_SHAPES
    return {}
