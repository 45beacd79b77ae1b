"""How a machine or a cluster is shared among workers."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jobs.config import RunConfig
from tiling.errors import EngineError

_CORES_PER_WORKER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many workers there are, and what each of them gets."""

    workers: int
    threads: int
    """CPU threads of a worker."""
    gpus: float = 0.0


def share(config: RunConfig, *, on_gpu: bool, n_cpus: int, n_gpus: int) -> Share:
    """As many workers as `config` asks for, else one per GPU or one per 8 cores, and an equal part of everything for each.

    Raises:
        EngineError: if the workers are to compute on GPUs and there are none.
    """
    if on_gpu and not n_gpus:
        raise EngineError(
            "the model is to run on CUDA but Ray counts no GPU; start Ray's nodes with --num-gpus, or use --device cpu"
        )
    workers = config.workers or (n_gpus if on_gpu else max(1, n_cpus // _CORES_PER_WORKER))
    if config.executor == "local":
        workers = 1
    return Share(workers=workers, threads=max(1, n_cpus // workers), gpus=min(1.0, n_gpus / workers) if on_gpu else 0.0)


def cores_here() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
