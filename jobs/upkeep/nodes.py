"""Is every machine of a cluster ready, and is each like the others? The checks of `doctor`, made on all of them at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from earthloom.cluster.package import sent_package
from earthloom.cluster.session import connect
from earthloom.jobs.upkeep.doctor import Finding, check_machine
from earthloom.tiling.software import environment

_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What one machine found of itself."""

    findings: tuple[Finding, ...]
    software: Mapping[str, str]


def diagnose_nodes(address: str, out: str | None = None) -> dict[str, list[Finding]]:
    """Run the checks on every node of a cluster; by the node's name.

    Args:
        address: `host:port` of the head, or `auto`.
        out: a folder or s3:// prefix that every node must be able to write to.

    Raises:
        EngineError: if the cluster cannot be reached.
    """
    with ExitStack() as stack:
        package = stack.enter_context(sent_package())
        stack.enter_context(connect(address, packages=[package]))
        from earthloom.cluster.nodes import living, on_each

        nodes = [node for node in living() if node.resources.get("CPU") or node.resources.get("GPU")]
        if not nodes:
            no_node = Finding(
                False, "nodes", "none has cores or GPUs to compute with", "start some, or let the autoscaler by a run"
            )
            return {address: [no_node]}
        answers = on_each(_check_here, out, nodes, gpu=True, timeout_s=_TIMEOUT_S)
    checked = {node.name: answers[node.id] for node in nodes}
    software = [one.software for one in checked.values() if isinstance(one, Checked)]
    usual = (
        {name: Counter(each[name] for each in software).most_common(1)[0][0] for name in environment()}
        if software
        else {}
    )
    return {name: _told(one, usual) for name, one in checked.items()}


def _check_here(out: str | None) -> Checked:
    return Checked(tuple(check_machine(out)), environment())


def _told(answer: object, usual: Mapping[str, str]) -> list[Finding]:
    if not isinstance(answer, Checked):
        message = str(getattr(answer, "message", answer))
        lacks = getattr(answer, "kind", "") == "ModuleNotFoundError"
        remedy = "install it there in the version of the other nodes, or give all nodes one image"
        return [Finding(False, "node", message, remedy if lacks else "see its logs in the dashboard")]
    mine = answer.software
    unlike = [f"{name} {mine[name]} (others {found})" for name, found in usual.items() if mine[name] != found]
    told = ", ".join(unlike or (f"{name} {found}" for name, found in mine.items()))
    alike = Finding(
        not unlike, "versions", told, "give all nodes one image; until then runs leave out those that differ"
    )
    return [alike, *answer.findings]
