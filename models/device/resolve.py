"""Which device and precision a run gets, and the name under which its bytes are comparable. Knows nothing of models.

Two machines of one device class give the same bytes; the class and the resolved precision are in every result's key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from earthloom.tiling import heap
from earthloom.tiling.errors import ConfigError, EngineError

PRECISIONS = ("fp32", "bf16", "fp16")

_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch's variable (c10/core/impl/alloc_cpu.cpp), which it reads once."""

_CACHED_VALUES = 2**17
"""fp32 values per thread that stay in a core's second-level cache from one operation to the next: 512 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A resolved device."""

    kind: str
    """`cpu` or `cuda`: what torch calls it."""
    precision: str
    """`fp32`, `bf16` or `fp16`."""
    device_class: str
    """`cpu-amx`, `cpu-avx512bf16`, `cpu-avx512`, `cpu-avx2`, `cpu-default`, or `cuda-sm90x132-12.8-91002`: architecture
    and multiprocessors of the GPU, versions of CUDA and cuDNN."""


def resolve(device: str = "auto", precision: str = "auto") -> Device:
    """Turn the options into what this machine has: CUDA where there is any, bf16 where it is native, else fp32.

    Raises:
        ConfigError: for an unknown word, or a precision that the device cannot compute in.
        EngineError: if CUDA was asked for and is absent.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"`device` is auto, cpu or cuda, got {device!r}")
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"`precision` is auto, {', '.join(PRECISIONS)}, got {precision!r}")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        raise EngineError(
            f"`device=cuda` was asked for but no GPU is usable here: torch {torch.__version__} is {built}; "
            "check nvidia-smi and the torch build, or use `device=auto`"
        )
    if present and device != "cpu":
        gpu = torch.cuda.get_device_properties()
        if precision == "auto":
            precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        # cuBLAS and cuDNN choose kernels by architecture and size of a GPU, and by their own versions
        device_class = (
            f"cuda-sm{gpu.major}{gpu.minor}x{gpu.multi_processor_count}-{torch.version.cuda}-{cudnn_version()}"
        )
        return Device(kind="cuda", precision=precision, device_class=device_class)
    device_class, native_bf16 = _cpu_class()
    if precision == "fp16":
        raise ConfigError("`precision=fp16` needs a GPU; on a CPU use bf16 or fp32 (auto picks the faster one)")
    if precision == "auto":
        precision = "bf16" if native_bf16 else "fp32"
    return Device(kind="cpu", precision=precision, device_class=device_class)


def cudnn_version() -> int | None:
    """Version as one number, 91002 for 9.10.2; None if there is no cuDNN."""
    import torch

    known: Any = torch.backends.cudnn  # torch gives it no types
    version: int | None = known.version()
    return version


def use_large_pages() -> None:
    """Let torch ask for pages of 2 MiB for its large tensors on a CPU; call before the first tensor of the process.

    A network frees and allocates its activations again for every chip, and the kernel then clears each page on first
    touch: for landwater's chips of 1216 px in bf16 that was a third of all CPU time, and is a tenth with large pages.
    A user's own setting stays.
    """
    os.environ.setdefault(_LARGE_PAGES, "1")


def keep_pages(most_bytes: int) -> bool:
    """`tiling.heap.keep_pages`, for what one chip frees and the next allocates; call before the first tensor of the process.

    `landwater` then maps a fifth more pixels a second than with large pages. Those are left out: aligned to pages, the
    tensors of a chip do not fit where those of the last one were, and memory grows by half.
    """
    kept = heap.keep_pages(most_bytes)
    if kept:
        os.environ.setdefault(_LARGE_PAGES, "0")
    return kept


def strips(n_rows: int, values_per_row: int, kind: str) -> Iterator[slice]:
    """Rows to work on at a time when several pointwise operations follow each other.

    On a CPU a strip stays in the cache from one operation to the next; a GPU takes all rows at once.
    """
    import torch

    size = n_rows if kind != "cpu" else max(1, _CACHED_VALUES * torch.get_num_threads() // values_per_row)
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def _cpu_class() -> tuple[str, bool]:
    """The class, and whether bf16 products are native to it."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    if capability == "AVX512":
        if torch.cpu._is_amx_tile_supported():
            return "cpu-amx", True
        if torch.cpu._is_avx512_bf16_supported():
            return "cpu-avx512bf16", True
        return "cpu-avx512", False
    return ("cpu-avx2" if capability == "AVX2" else "cpu-default"), False
