"""What the machines of a cluster compute on, and which of them a run takes.

Two machines give the same bytes only if they are of one device class and have the same software, so a run takes one kind:
that with most room, or the one that is asked for. The others are named and left out. Ray must be connected.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from earthloom.cluster.executor import Task, Worker, WorkerFactory
from earthloom.cluster.nodes import Node, living, on_each
from earthloom.cluster.outcome import Done
from earthloom.cluster.places import Size
from earthloom.cluster.ray_pool import RayExecutor
from earthloom.cluster.resources import WorkerResources, fitting
from earthloom.jobs.config import RunConfig
from earthloom.models.device.resolve import Device, resolve
from earthloom.models.device.speed import flop_per_s
from earthloom.tiling.errors import EngineError, NodeError
from earthloom.tiling.software import environment
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.probe import probe_access
from earthloom.tiling.storage.store import open_store

_log = logging.getLogger(__name__)
_NAMED = 6


@dataclass(frozen=True, slots=True)
class Wanted:
    """Device and precision as they were asked for, with `auto`."""

    device: str
    precision: str


@dataclass(frozen=True, slots=True)
class Kind:
    """What machines have to share to give the same bytes."""

    device: Device
    software: tuple[tuple[str, str], ...]

    def unlike(self, other: Kind) -> str:
        """How another kind differs from this one, in words; empty if it does not."""
        parts = []
        if other.device != self.device:
            parts.append(
                f"computes as {other.device.device_class} in {other.device.precision}, not as "
                f"{self.device.device_class} in {self.device.precision}"
            )
        mine = dict(self.software)
        parts += [
            f"has {name} {found}, not {mine.get(name)}" for name, found in other.software if mine.get(name) != found
        ]
        return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a machine says of itself."""

    kind: Kind
    flop_per_s: float
    """Speed of one of its cores, or of its GPU (`models.device.speed`). The driver's machine may have no such device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The part of a cluster that a run takes."""

    kind: Kind
    nodes: tuple[Node, ...]
    flop_per_s: float
    """Speed of one core, or of one GPU: the median of the nodes."""
    left_out: Mapping[str, str]
    """Other nodes by id, each with the reason."""


def take_nodes(config: RunConfig, size: Size) -> Taken:
    """Ask every node what it is, having waited for the first one if there is none yet.

    Raises:
        EngineError: no node can compute, none is of the class that is asked for, or this machine cannot plan for them.
    """
    least = _least(config)
    if not _able(least):
        _await_one(least, size)
        least = _least(config)  # the node that came may have brought a GPU
    on_gpu, nodes = least.gpus > 0, _able(least)
    wanted = Wanted(config.device if on_gpu else "cpu", config.precision)
    kinds: dict[Kind, list[Node]] = {}
    speeds: dict[Kind, list[float]] = {}
    left_out: dict[str, str] = {}
    answers = on_each(answer_here, wanted, nodes, gpu=on_gpu)
    for node in nodes:
        if isinstance(answer := answers[node.id], Answer):
            kinds.setdefault(answer.kind, []).append(node)
            speeds.setdefault(answer.kind, []).append(answer.flop_per_s)
        else:
            left_out[node.id] = f"{answer.kind}: {answer.message}"
    if not kinds:
        raise EngineError(
            f"no node of the cluster can compute: {_named(nodes, left_out)}; `earthloom doctor` with this `address` says of "
            "each node what it lacks"
        )
    kind = _chosen(kinds, config.device_class, least)
    for other, its in kinds.items():
        if other != kind:
            left_out |= {node.id: f"it {kind.unlike(other)}" for node in its}
    if left_out:
        _log.warning("%s; %s", _named(nodes, left_out), _remedy(kind, kinds))
    _check_driver(kind)
    return Taken(kind=kind, nodes=tuple(kinds[kind]), flop_per_s=median(speeds[kind]), left_out=left_out)


def answer_here(wanted: Wanted) -> Answer:
    """What this machine answers."""
    kind = kind_here(wanted)
    return Answer(kind, flop_per_s(kind.device, threads=1))


def kind_here(wanted: Wanted) -> Kind:
    """What this machine has to share with others."""
    return Kind(resolve(wanted.device, wanted.precision), tuple(sorted(environment().items())))


@dataclass(frozen=True, slots=True)
class Fit:
    """A worker's factory, and what the machine must be on which it runs; nodes that come later were not asked."""

    factory: WorkerFactory
    kind: Kind
    wanted: Wanted
    out: ObjectRef
    """It must be able to read and write there."""


def fit_worker(fit: Fit) -> Worker:
    """The worker, if this machine is of the right kind and may read and write where its results go.

    Else each block that comes here would fail, and with it its scene: a machine without credentials, which fails fast, would
    be given most of them.

    Raises:
        NodeError: if it is of another kind.
        StorageError: if it cannot read or write there.
    """
    if unlike := fit.kind.unlike(kind_here(fit.wanted)):
        raise NodeError(f"the node {unlike}, which the run began with")
    worker = fit.factory()  # which applies to this process what it needs to reach storage: profiles, endpoints
    probe_access(open_store(fit.out))
    return worker


def fitted(factory: WorkerFactory, taken: Taken, config: RunConfig) -> WorkerFactory:
    """A factory that refuses nodes of another kind than those that were taken, and those that cannot write."""
    wanted = Wanted(taken.kind.device.kind, config.precision)
    return WorkerFactory(fit_worker, Fit(factory, taken.kind, wanted, ObjectRef.parse(config.out)))


def _least(config: RunConfig) -> WorkerResources:
    """What a node must have that can be taken."""
    on_gpu = config.device == "cuda" or (
        config.device == "auto" and any(node.resources.get("GPU") for node in living())
    )
    return WorkerResources(cpus=1.0, gpus=float(on_gpu))


def _able(least: WorkerResources) -> tuple[Node, ...]:
    return tuple(node for node in living() if fitting(least, [node.resources]))


def _await_one(least: WorkerResources, size: Size) -> None:
    """Wait for the first node: an actor that waits for its place is what an autoscaler sees."""
    executor = RayExecutor(
        WorkerFactory(_nothing), workers=1, lanes=1, resources=least, size=size, name="earthloom first node"
    )
    (outcome,) = executor.run([Task(key="first node", payload=None)])
    if not isinstance(outcome, Done):
        raise outcome.error.as_error()


def _nothing(_: None) -> Worker:
    return lambda _: None


def _chosen(kinds: Mapping[Kind, Sequence[Node]], device_class: str | None, least: WorkerResources) -> Kind:
    def room(kind: Kind) -> tuple[int, str]:
        return fitting(least, [node.resources for node in kinds[kind]]), kind.device.device_class

    asked = [kind for kind in kinds if device_class in (None, kind.device.device_class)]
    if not asked:
        found = ", ".join(sorted({kind.device.device_class for kind in kinds}))
        raise EngineError(f"no node computes as `device_class={device_class}`; the cluster's nodes compute as {found}")
    return max(asked, key=room)


def _named(nodes: Sequence[Node], left_out: Mapping[str, str]) -> str:
    out = [node for node in nodes if node.id in left_out]
    told = "; ".join(f"{node.name}: {left_out[node.id]}" for node in out[:_NAMED])
    more = f"; and {len(out) - _NAMED} more" if len(out) > _NAMED else ""
    return f"{len(out)} node{' is' if len(out) == 1 else 's are'} left out: {told}{more}"


def _remedy(kind: Kind, kinds: Mapping[Kind, Sequence[Node]]) -> str:
    classes = sorted({other.device.device_class for other in kinds if other.device != kind.device})
    if classes:
        return f"a result is of one device class; `device_class={classes[0]}` takes those instead"
    return "give all nodes the same image"


def _check_driver(kind: Kind) -> None:
    """What plans must know what computes: torch's minor version is part of every key."""
    for name, found in kind.software:
        here = environment()[name]
        if name == "torch" and here.split(".")[:2] != found.split(".")[:2]:
            raise EngineError(
                f"this machine has torch {here} and the cluster's nodes have {found}, which would give the results "
                f"another key than their bytes: install torch {found} here, or use `earthloom submit`, which plans on the "
                "cluster"
            )
        if here != found:
            _log.info("%s is %s here and %s on the nodes, which compute", name, here, found)
