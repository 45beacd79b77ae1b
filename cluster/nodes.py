"""Lists the machines of the connected Ray cluster, says whether more will come, and calls a function on each.

Imports Ray.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from earthloom.cluster.outcome import Fault

_ray: Any = ray  # its annotations are partial
_STATUS_S = 30.0
_TYPED = re.compile(r"^ *\d+ (\S+)$", re.MULTILINE)
_OF_NO_TYPE = re.compile(r"node_[0-9a-f]{56}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living machine of the cluster, or what Ray takes for one."""

    id: str
    """Ray's, in hex."""
    name: str
    """For people: host name, address, and the beginning of the id."""
    resources: Mapping[str, float]
    """Totals under Ray's names."""


def living() -> tuple[Node, ...]:
    """The nodes that are alive now, in order of their names."""
    nodes = [
        Node(id=node["NodeID"], name=node_name(node["NodeID"], node["NodeManagerHostname"], node["NodeManagerAddress"]),
             resources=dict(node["Resources"]))
        for node in _ray.nodes() if node["Alive"]
    ]  # fmt: skip
    return tuple(sorted(nodes, key=lambda node: node.name))


def node_name(node_id: str, host: str, address: str) -> str:
    """`gpu-3 (10.0.0.7, 5a0c61e2)`: what a node is called in messages; several may share a host."""
    return f"{host} ({address}, {node_id[:8]})"


def autoscales() -> bool:
    """Whether the cluster adds nodes by itself when work waits for them.

    Ray has no call that tells. `ray status` counts nodes by the types of the autoscaler's configuration; where there is
    none, each node is listed as a type of its own, `node_<id>`.
    """
    address = str(_ray.get_runtime_context().gcs_address)
    try:
        status = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address],
            capture_output=True, text=True, timeout=_STATUS_S, check=False,
        ).stdout  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return typed_nodes(status)


def typed_nodes(status: str) -> bool:
    """Whether what `ray status` prints names types of nodes that an autoscaler was configured with."""
    section = status.partition("Active:")[2].partition("Recent failures:")[0]
    return any(not _OF_NO_TYPE.fullmatch(found[1]) for found in _TYPED.finditer(section))


def on_each(
    function: Callable[[Any], Any], argument: Any, nodes: Iterable[Node], *, gpu: bool = False, timeout_s: float = 60.0
) -> dict[str, Any]:
    """Call a function once on each node, beside whatever runs there.

    Args:
        function: top-level.
        argument: small, picklable.
        nodes: living ones.
        gpu: whether the function may see the GPUs of a node that has some; it then takes a thousandth of one.
        timeout_s: for all together.

    Returns:
        By node id, what the function returned, or the `Fault` with which it or its node failed.
    """
    call = _ray.remote(_call)
    pending: dict[str, Future[Any]] = {}
    for node in nodes:
        placed = NodeAffinitySchedulingStrategy(node_id=node.id, soft=False)
        share = 0.001 if gpu and node.resources.get("GPU") else 0
        options = {"num_cpus": 0, "num_gpus": share, "max_retries": 0, "scheduling_strategy": placed}
        pending[node.id] = call.options(name=f"ask {node.name}", **options).remote(function, argument).future()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not all(future.done() for future in pending.values()):
        wait(pending.values(), timeout=0.5)  # short: inside of Ray signals would be held back
    return {node_id: _answer(future, timeout_s) for node_id, future in pending.items()}


def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return function(argument)
    except Exception as error:
        return Fault.of(error)


def _answer(future: Future[Any], timeout_s: float) -> Any:
    if not future.done():
        message = f"it did not answer within {timeout_s:.0f} s: its GPUs may be taken, or its packages do not load"
        return Fault(kind="NodeError", message=message)
    try:
        return future.result()
    except (RayError, RayTaskError) as error:
        return Fault(kind="NodeError", message=" ".join(str(error).split())[:300])
