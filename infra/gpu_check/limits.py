"""What the device can do at most: products, its memory, the bus; and a network compiled for it, with nothing around.

A run cannot be faster than the slowest of: its operations by the rate of products, the bytes that it must move through the
device's memory, and the bytes that must cross the bus.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from earthloom.models.device.resolve import resolve
from earthloom.models.inference.predictor import Predictor
from infra.gpu_check.sections import Row, Task, Write

_LEAST_S, _MOST = 0.5, 200
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def rows(task: Task, write: Write) -> None:
    """One row for the device."""
    write({"device": torch.cuda.get_device_name() if task.device == "cuda" else "cpu"} | ceilings(task))


def ceilings(task: Task) -> Row:
    """Per second: operations of square products, in fp32 without TF32; bytes read and written on the device, and copied
    to and from it, from pinned memory and from any other. Measured by the first section that asks."""
    kept = task.work / "ceilings.json"
    if kept.is_file():
        known: Row = json.loads(kept.read_bytes())
        return known
    kind, size = task.device, task.size
    found: Row = {"device_class": resolve(kind).device_class}
    for precision in ("fp32", "bf16", "fp16") if kind == "cuda" else ("fp32", "bf16"):
        matrix = torch.randn(size.matrix_px, size.matrix_px, device=kind).to(_DTYPES[precision])
        seconds = seconds_of(partial(torch.matmul, matrix, matrix), kind)
        found[f"flop_per_s_{precision}"] = 2 * size.matrix_px**3 / seconds
    there, other = (torch.empty(size.copied_bytes, dtype=torch.uint8, device=kind) for _ in range(2))
    found["device_bytes_per_s"] = 2 * size.copied_bytes / seconds_of(partial(other.copy_, there), kind)
    for name, is_pinned in (("pinned", kind == "cuda"), ("pageable", False)):
        here = torch.zeros(size.copied_bytes, dtype=torch.uint8, pin_memory=is_pinned)
        for way, target, source in (("to", there, here), ("from", here, there)):
            seconds = seconds_of(partial(target.copy_, source, non_blocking=True), kind)
            found[f"{way}_device_{name}_bytes_per_s"] = size.copied_bytes / seconds
    kept.write_text(json.dumps(found))
    return found


def compiled_pass(task: Task, predictor: Predictor) -> Callable[[Tensor], Tensor]:
    """The network compiled by PyTorch's defaults, TF32 and any kernel allowed: the pass that a run is compared with."""
    compile_: Any = torch.compile
    program: Callable[[Tensor], Tensor] = compile_(predictor.module, dynamic=False, backend=task.size.compiler)
    return program


def chips_for(task: Task, predictor: Predictor) -> Tensor:
    """A batch of noise as the network meets it."""
    card, kind = predictor.card, predictor.device.kind
    chip_px = card.core_px + 2 * (card.halo_px or 0)
    dtype = next(predictor.module.parameters()).dtype
    chips = torch.randn(task.size.compiled_chips, len(card.bands), chip_px, chip_px, device=kind).to(dtype)
    return chips.contiguous(memory_format=torch.channels_last)


def seconds_of(do: Callable[[], object], kind: str) -> float:
    """Mean time of a call that has been made twice before; as many as half a second holds."""

    def wait() -> None:
        if kind == "cuda":
            torch.cuda.synchronize()

    do()
    do()
    wait()
    begun, n_calls = time.perf_counter(), 0
    while n_calls < 3 or (n_calls < _MOST and time.perf_counter() - begun < _LEAST_S):
        for _ in range(3):
            do()
        n_calls += 3
        wait()
    return (time.perf_counter() - begun) / n_calls
