"""What each optimisation of the device path brings: a block computed from memory with all of them, and without each.

An optimisation pays if the block takes longer without it. Runs of all variants take turns, so that a clock that falls, or a
busy machine, slows all of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

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
_CORES = 2
"""Of chips along the side of a block, as a run has them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to compute a block."""

    name: str
    make: Callable[[], Predictor]
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    """What is entered while a block is computed."""


def rows(task: Task, write: Write) -> None:
    """Rows of `compare`; the first variant is what a run does."""
    usual = partial(predictor_of, task, task.subject)
    variants = [
        Variant("as a run does", usual),
        Variant("without CUDA graphs", partial(_unrecorded, task)),
        Variant("one chip in a pass", partial(usual, batch=1)),
        Variant("pixels sent at once, and waited for", usual, _sent_at_once),
        Variant("upsampling by its own kernel", usual, _OwnKernel),
        Variant("fp32", partial(usual, precision="fp32")),
        Variant("torch.compile(mode='reduce-overhead')", partial(in_mode, task, "reduce-overhead")),
    ]
    if any(isinstance(layer, nn.Linear) for layer in usual().module.modules()):
        variants.append(Variant("fp8 in linear layers", partial(_in_fp8, task)))
    if task.device == "cuda":
        variants.append(Variant("fp16", partial(usual, precision="fp16")))
        variants.append(Variant("--compile", partial(_compiled, task)))  # on a CPU it takes longer than all else
    compare(task, write, variants)


def compare(task: Task, write: Write, variants: Sequence[Variant]) -> None:
    """Time a block for each variant, in turns; a row when a variant is ready, with how far its bytes are the first one's, and
    one at the end, with its speed."""
    first = variants[0].make()
    card = first.card
    side_px = _CORES * card.core_px
    pixels = stack_of(landscape(side_px, side_px, len(card.bands)))
    chips = ChipGrid(
        scene=pixels.window, core_px=card.core_px, halo_px=card.halo_px or 0, stride_px=card.stride_px,
        blend=card.overlap == "blend",
    )  # fmt: skip
    stack = framed(pixels, chips.extent, chips.halo_px)

    def seconds(variant: Variant, predictor: Predictor) -> tuple[float, Any]:
        begun = time.perf_counter()
        with variant.around():
            made = predict_block(predictor, chips, chips.domain, stack).made
        if task.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun, made

    ready: list[tuple[Variant, Predictor]] = []
    best: dict[str, float] = {}
    expected: Any = None
    for variant in variants:
        begun = time.perf_counter()
        named = {"network": task.subject, "variant": variant.name}
        try:
            predictor = variant.make() if ready else first
            seconds(variant, predictor)  # chooses the batch, compiles
            _, made = seconds(variant, predictor)  # records
        except Exception as error:  # one variant that does not run here must not hide the others
            write(named | {"failed": f"{type(error).__name__}: {error}"[:300]})
            continue
        expected = made if expected is None else expected
        agreement = first.answer.agreement(made, expected, pixels.valid)
        write(named | {"ready_s": round(time.perf_counter() - begun, 1), "batch": predictor.batch,
                       "same_bytes": bool(agreement.identical), "flips": agreement.flips})  # fmt: skip
        ready.append((variant, predictor))
        for _ in range(task.size.repeats):
            for other, known in ready:
                best[other.name] = min(best.get(other.name, math.inf), seconds(other, known)[0])
    shipped = best[variants[0].name]
    for name, each in best.items():
        write({
            "network": task.subject, "variant": name, "mpx_per_s": round(side_px**2 / each / 1e6, 3),
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


def in_mode(task: Task, mode: str) -> Predictor:
    """With graphs that torch records, in the place of ours."""
    predictor = _unrecorded(task)
    how = {"mode": mode} if task.device == "cuda" else {"backend": task.size.compiler}
    compile_: Any = torch.compile
    program: Callable[[Tensor], Tensor] = compile_(predictor.module, dynamic=False, **how)
    begin_step: Any = torch.compiler.cudagraph_mark_step_begin  # torch leaves it untyped

    def run(chips: Tensor) -> Tensor:
        begin_step()
        return program(chips).clone()  # its memory is used again by the next pass

    predictor._program = run
    return predictor


class _Fp8Linear(nn.Module):
    """A linear layer with products of e4m3 values (Micikevicius et al. 2022, arXiv:2209.05433), a scale for each tensor."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._values, self._scale = _as_fp8(layer.weight.detach())
        self.weight, self.bias = layer.weight, layer.bias  # for what takes these in the place of the layer

    def forward(self, x: Tensor) -> Tensor:
        values, scale = _as_fp8(x.reshape(-1, x.shape[-1]))
        products: Any = torch._scaled_mm
        made: Tensor = products(values, self._values.t(), scale, self._scale, bias=self.bias, out_dtype=x.dtype)
        return made.reshape(*x.shape[:-1], -1)


def _as_fp8(values: Tensor) -> tuple[Tensor, Tensor]:
    """The values and what they are to be multiplied by, so that the largest is the largest of e4m3."""
    scale = values.abs().amax().float() / torch.finfo(torch.float8_e4m3fn).max
    return (values / scale).to(torch.float8_e4m3fn), scale


def _in_fp8(task: Task) -> Predictor:
    predictor = predictor_of(task, task.subject)
    for layer in list(predictor.module.modules()):
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Linear):
                setattr(layer, name, _Fp8Linear(child))
    return predictor


@contextmanager
def _sent_at_once() -> Iterator[None]:
    with mock.patch.object(transfer, "_Sent", _Whole):
        yield


class _OwnKernel(TorchFunctionMode):
    """Upsampling by its kernel, whose forward pass adds nothing up in an order of its own.

    Where algorithms are to be deterministic PyTorch takes another way on CUDA, of several gathered copies, because the
    backward pass is not (`interpolate` in torch/nn/functional.py). Bits may differ, so this cannot be had without a new
    `PIXEL_VERSION`; what it would bring is measured here.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not interpolate:
            return func(*args, **kwargs or {})
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(False)
        try:
            return func(*args, **kwargs or {})
        finally:
            torch.use_deterministic_algorithms(before)


class _Whole:
    """What `transfer._Sent` is held against: all values by one copy, from memory that is not pinned."""

    def __init__(self, values: NDArray[np.generic], kind: str) -> None:
        self._sent = transfer.tensor_of(values).to(kind)

    def cut(self, rows: slice, cols: slice) -> Tensor:
        return self._sent[..., rows, cols]
