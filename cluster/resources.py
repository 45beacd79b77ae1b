"""What one worker needs, as actor options, and how many such workers the nodes hold. Pure; does not import Ray."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earthloom.tiling.errors import ConfigError, EngineError

_log = logging.getLogger(__name__)
_EPSILON = 1e-6
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResources:
    """What one worker is given.

    Raises:
        ConfigError: if an amount is negative, or a GPU amount above 1 is not whole.
    """

    cpus: float = 1.0
    """Cores. Ray also sets OMP_NUM_THREADS to this in the worker unless it is set already."""
    gpus: float = 0.0
    """GPUs; a share such as 0.5 puts two workers on one."""
    memory_bytes: int = 0
    """Planned peak; counted when workers are placed, not enforced. 0 counts nothing."""

    def __post_init__(self) -> None:
        if min(self.cpus, self.gpus, self.memory_bytes) < 0:
            raise ConfigError(f"a worker's resources must not be negative, got {self}")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ConfigError(f"a worker gets a share of one GPU or whole GPUs, got {self.gpus}")

    def actor_options(self) -> dict[str, Any]:
        """Keyword arguments for Ray's `.options()`."""
        options: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        if self.memory_bytes:
            options["memory"] = self.memory_bytes
        return options

    def demand(self) -> dict[str, float]:
        """The demand under Ray's resource names, without those that are zero."""
        named = {"CPU": float(self.cpus), "GPU": float(self.gpus), "memory": float(self.memory_bytes)}
        return {name: amount for name, amount in named.items() if amount}


def fitting(need: WorkerResources, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many workers the nodes hold; a worker does not span nodes.

    Args:
        need: of one worker; at least one amount must be positive.
        nodes: total resources of each living node, under Ray's names.
    """
    demand = need.demand()
    if not demand:
        raise ConfigError("a worker that needs nothing fits any number of times; give it cpus, gpus or memory")
    return sum(
        min(math.floor(node.get(name, 0.0) / amount + _EPSILON) for name, amount in demand.items()) for node in nodes
    )


def cores_each(workers: int, gpus: float, nodes: Sequence[Mapping[str, float]]) -> int:
    """The most cores that each of so many equal workers can have where every one lies on one node; at least 1."""
    most = int(max((node.get("CPU", 0.0) for node in nodes), default=1.0))
    return next((n for n in range(most, 1, -1) if fitting(WorkerResources(cpus=n, gpus=gpus), nodes) >= workers), 1)


def choose_workers(asked: int | None, need: WorkerResources, nodes: Iterable[Mapping[str, float]]) -> int:
    """How many workers to start where no node will come: as many as asked for and as fit, so that none waits for ever.

    Args:
        asked: number wanted; None for as many as fit.
        need: of one worker.
        nodes: total resources of each living node, under Ray's names.

    Raises:
        ConfigError: if fewer than one worker is asked for.
        EngineError: if not even one fits.
    """
    if asked is not None and asked < 1:
        raise ConfigError(f"a run needs at least one worker, got {asked}")
    nodes = list(nodes)
    fit = fitting(need, nodes)
    if fit == 0:
        raise EngineError(nothing_fits(need, nodes))
    if asked is not None and asked > fit:
        _log.warning("%d workers were asked for and %d fit; starting %d", asked, fit, fit)
    return fit if asked is None else min(asked, fit)


def shown(need: WorkerResources) -> str:
    """`{CPU: 8, GPU: 1, memory: 3.9 GiB}`."""
    parts = [f"{name}: {amount / 2**30:.1f} GiB" if name == "memory" else f"{name}: {amount:g}"
             for name, amount in need.demand().items()]  # fmt: skip
    return "{" + ", ".join(parts) + "}"


def nothing_fits(need: WorkerResources, nodes: list[Mapping[str, float]]) -> str:
    """Why no node can hold a worker, with both amounts and the remedy: of what is scarcest where several lack."""
    remedies = {
        "GPU": "start a node with GPUs, or run on processors (`device=cpu`)",
        "CPU": "start a larger node, or give each worker fewer cores",
        "memory": "start a larger node, or lower `memory_per_worker`",
    }
    where = f"the cluster's {len(nodes)} node{'' if len(nodes) == 1 else 's'}"
    demand = need.demand()
    for name, remedy in remedies.items():
        amount, largest = demand.get(name, 0.0), max((node.get(name, 0.0) for node in nodes), default=0.0)
        if largest + _EPSILON < amount:
            return (
                f"a worker needs {_amount(name, amount)} and the largest of {where} has {_amount(name, largest)}; "
                f"{remedy}"
            )
    return f"no single one of {where} has {need} at once; start a larger node or ask for less per worker"


def _amount(name: str, value: float) -> str:
    return f"{value / _MIB:.0f} MiB of memory" if name == "memory" else f"{value:g} {name}s"
