"""Shares a machine or a cluster among workers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from earthloom.cluster.resources import cores_each
from earthloom.jobs.config import EngineOptions
from earthloom.tiling.errors import EngineError

_CGROUP = Path("/sys/fs/cgroup")
_OURS_BYTES = 1200 * 2**20
"""Memory of the driver and of an embedded Ray, beside the workers; measured, rounded up."""
_CORES_PER_WORKER = 4
"""More would want more memory than one worker should have: every core computes a chip of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How many workers there are, and what each of them gets."""

    workers: int | None
    """None: as many as there is work for."""
    threads: int
    """CPU threads of a worker."""
    gpus: float = 0.0
    memory_bytes: int | None = None
    """Memory that a worker of the node with the least can have; None if nobody knows."""


def share(
    options: EngineOptions, *, on_gpu: bool, nodes: Sequence[Mapping[str, float]], elastic: bool = False
) -> Share:
    """As many workers as `options` ask for, else one per GPU or one per 4 cores; each lies whole on one node.

    Args:
        nodes: resources of each, under Ray's names.
        elastic: whether nodes may come: workers for which there is no room then wait for some, instead of that all of
            them are made smaller.

    Raises:
        EngineError: if the workers are to compute on GPUs and there are none.
    """
    n_gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if on_gpu and not n_gpus:
        raise EngineError(
            "the model is to run on CUDA but Ray counts no GPU; start Ray's nodes with --num-gpus, or use `device=cpu`"
        )
    cores = [int(node.get("CPU", 0)) for node in nodes]
    whole = n_gpus if on_gpu else sum(n // _CORES_PER_WORKER for n in cores)
    whole = whole or max(1, sum(n > 0 for n in cores))  # where no node has so many cores, one on each
    workers = options.workers or whole
    if elastic:
        workers = min(workers, whole)
    if options.executor == "local":
        workers = 1
    gpus = min(1.0, n_gpus / workers) if on_gpu else 0.0
    threads = cores_each(workers, gpus, nodes)
    room = [int(node["memory"] / max(1, min(workers, n // threads))) for node, n in zip(nodes, cores, strict=True)
            if n >= threads and "memory" in node]  # fmt: skip
    asked = options.workers if elastic else workers
    return Share(workers=asked, threads=threads, gpus=gpus, memory_bytes=min(room, default=None))


def here() -> tuple[Mapping[str, float]]:
    """This machine as a node: the cores that this process may use, and the memory that is left, within its container."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no such file, or `max`: no quota
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    node = {"CPU": float(cores)}
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        with suppress(OSError, ValueError):
            most, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
            free = min(free, most - used)
        node["memory"] = float(max(0, free - _OURS_BYTES))
    return (node,)
