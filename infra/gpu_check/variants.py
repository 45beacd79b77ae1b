"""What each optimisation of the device path brings: a block computed from memory with all of them, and without each.

An optimisation pays if the block takes longer without it. Runs of all variants take turns, so that a clock that falls, or a
busy machine, slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.device.compiled import compile_network
from earthloom.models.inference import transfer
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring.measure import framed
from earthloom.tiling.chips import ChipGrid
from infra.gpu_check.networks import predictor_of
from infra.gpu_check.sections import Task, Write
from tests.models.nets import stack_of
from tests.scenes import landscape

_PAYS = 1.03
"""Times as long without it; less is within what the same variant differs from run to run."""


def rows(task: Task, write: Write) -> None:
    """One row for each variant; the first is what a run does."""
    compiled: list[tuple[str, Callable[[], Predictor], Callable[[], AbstractContextManager[object]]]] = []
    if task.device == "cuda":
        compiled = [("torch.compile(mode='reduce-overhead')", partial(_in_mode, task, "reduce-overhead"), nullcontext)]
    compare(task, write, [
        ("as a run does", partial(predictor_of, task, task.subject), nullcontext),
        ("without CUDA graphs", partial(_unrecorded, task), nullcontext),
        ("one chip in a pass", partial(predictor_of, task, task.subject, batch=1), nullcontext),
        ("pixels sent at once, and waited for", partial(predictor_of, task, task.subject), _sent_at_once),
        ("fp32", partial(predictor_of, task, task.subject, precision="fp32"), nullcontext),
        *((("fp16", partial(predictor_of, task, task.subject, precision="fp16"), nullcontext),) * (task.device == "cuda")),
        ("--compile", partial(_compiled, task), nullcontext),
        *compiled,
    ])  # fmt: skip


def compare(
    task: Task, write: Write,
    variants: list[tuple[str, Callable[[], Predictor], Callable[[], AbstractContextManager[object]]]],
) -> None:  # fmt: skip
    """Time a block for each variant, in turns, and write a row as soon as a variant has been prepared, and one at the end."""
    first = variants[0][1]()
    card = first.card
    side_px = 4 * card.core_px
    pixels = stack_of(landscape(side_px, side_px, len(card.bands)))
    chips = ChipGrid(
        scene=pixels.window, core_px=card.core_px, halo_px=card.halo_px or 0, stride_px=card.stride_px,
        blend=card.overlap == "blend",
    )  # fmt: skip
    stack = framed(pixels, chips.extent, chips.halo_px)

    def seconds(predictor: Predictor, around: Callable[[], AbstractContextManager[object]]) -> tuple[float, Any]:
        begun = time.perf_counter()
        with around():
            made = predict_block(predictor, chips, chips.domain, stack).made
        if task.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun, made

    ready: dict[str, tuple[Predictor, Callable[[], AbstractContextManager[object]]]] = {}
    best: dict[str, float] = {}
    expected: Any = None
    for name, make, around in variants:
        begun = time.perf_counter()
        predictor = make() if ready else first
        try:
            seconds(predictor, around)  # chooses the batch, compiles
            _, made = seconds(predictor, around)  # records
        except Exception as error:  # one variant that does not run here must not hide the others
            write({"network": task.subject, "variant": name, "failed": f"{type(error).__name__}: {error}"[:300]})
            continue
        expected = made if expected is None else expected
        same = first.answer.agreement(made, expected, pixels.valid).identical
        ready[name] = predictor, around
        write({"network": task.subject, "variant": name, "ready_s": round(time.perf_counter() - begun, 1),
               "batch": predictor.batch, "same_bytes": bool(same)})  # fmt: skip
        for _ in range(task.size.repeats):
            for other, (known, manner) in ready.items():
                best[other] = min(best.get(other, float("inf")), seconds(known, manner)[0])
    shipped = best[variants[0][0]]
    for name, each in best.items():
        write({
            "network": task.subject, "variant": name, "mpx_per_s": round(side_px**2 / each / 1e6, 2),
            "times_as_long": round(each / shipped, 3), "is_slower": each > _PAYS * shipped, "is_faster": each * _PAYS < shipped,
        })  # fmt: skip


def _unrecorded(task: Task) -> Predictor:
    predictor = predictor_of(task, task.subject)
    predictor._recorder = None
    return predictor


def _compiled(task: Task) -> Predictor:
    predictor = predictor_of(task, task.subject)
    predictor._program = compile_network(predictor.module, predictor.card.label)
    return predictor


def _in_mode(task: Task, mode: str) -> Predictor:
    """With graphs that torch records, in the place of ours."""
    predictor = _unrecorded(task)
    compile_: Any = torch.compile
    program: Callable[[Tensor], Tensor] = compile_(predictor.module, dynamic=False, mode=mode)

    def run(chips: Tensor) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return program(chips).clone()  # its memory is used again by the next pass

    predictor._program = run
    return predictor


@contextmanager
def _sent_at_once() -> Iterator[None]:
    with mock.patch.object(transfer, "_Sent", _Whole):
        yield


class _Whole:
    """What `transfer._Sent` is held against: all values by one copy, from memory that is not pinned."""

    def __init__(self, values: NDArray[np.generic], kind: str) -> None:
        self._sent = transfer.tensor_of(values).to(kind)

    def cut(self, rows: slice, cols: slice) -> Tensor:
        return self._sent[..., rows, cols]
