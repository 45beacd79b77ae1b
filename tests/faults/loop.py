"""The n-th request loop: each request of a run meets each fault once; then the same command runs again.

Whatever the fault was, what is published in the end is byte for byte what a run without faults publishes, a reader has
never seen a part of it, and only what was missing has been computed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from earthloom.jobs.execution.driver import RunResult
from earthloom.tiling.errors import EarthloomError
from tests.faults.golden import Golden, attempt, config, differences, hurried, markers, published
from tests.faults.reader import Reader
from tests.faults.store import Fault, Injector, Killed, Request

_RUNS = 3
_DIGESTS = re.compile(r"[0-9a-f]{8,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one fault."""

    fault: Fault
    runs: int
    """Until everything was published; 1 when the run itself got over the fault."""
    excess_blocks: int
    """Computed again although storage vouched for them, or because the fault struck while they were computed."""
    lost_bytes: int
    """Of published files that are missing or other than they should be."""
    seconds: float
    wrong: tuple[str, ...]
    """Guarantees that did not hold, in words; empty when all did."""


def faults_of(golden: Golden) -> list[Fault]:
    """Every fault of every request, in the order of the requests."""
    return [Fault(request, action) for request in golden.requests for action in request.actions]


def drawn(faults: Iterable[Fault], seed: int) -> list[Fault]:
    """Faults in an order of chance that the seed alone decides.

    Each fault's lot is cast from its own name, without the digests in it: the order in which threads made the requests,
    a request more or less, and the machine, whose device class is part of every key, leave it as it is.
    """

    def lot(fault: Fault) -> bytes:
        return hashlib.sha256(f"{seed} {_DIGESTS.sub('*', str(fault))}".encode()).digest()

    return sorted(faults, key=lot)


def strike(fault: Fault, golden: Golden) -> Verdict:
    """Run with one fault, then again until all is done, and judge."""
    begun = time.perf_counter()
    out = Path(tempfile.mkdtemp(prefix="earthloom-fault-")) / "out"
    wrong: list[str] = []
    computed = excess = runs = 0
    settings = config(golden.scenes, out)
    try:
        with hurried(), Reader(out) as reader:
            while runs < _RUNS:
                injector = Injector(fault if runs == 0 else None, hook=partial(_check_marker, out, wrong))
                before = markers(out)
                ended = attempt(settings, out, injector)
                runs += 1
                if runs == 1 and fault and not injector.fired:
                    wrong.append("the request was never made")
                if runs > 1:
                    excess += max(0, injector.markers - (golden.blocks - before))
                computed += injector.markers
                if isinstance(ended, RunResult):
                    if ended.exit_code == 0:
                        break
                    wrong += [f"{name} failed with the bug {scene.kind}: {scene.error}" for name, scene in ended.scenes.items()
                              if scene.status == "failed" and not injector.dead
                              and scene.kind not in ("StorageError", "PublishError")]  # fmt: skip
                elif not isinstance(ended, Killed | EarthloomError):
                    wrong.append(f"the run crashed: {type(ended).__name__}: {ended}")
            else:
                wrong.append(f"not done after {_RUNS} runs: {ended}")
        excess = max(excess, computed - golden.blocks)
        if excess > golden.lanes:
            wrong.append(f"{excess} blocks were computed in excess, and {golden.lanes} at most were in flight")
        wrong += reader.violations
        lost = differences(published(out), golden.published)
        wrong += [f"{name} differs from the run without faults" for name in lost]
    finally:
        shutil.rmtree(out.parent, ignore_errors=True)
    return Verdict(
        fault=fault, runs=runs, excess_blocks=excess, lost_bytes=lost_bytes(lost, golden), seconds=time.perf_counter() - begun,
        wrong=tuple(wrong),
    )  # fmt: skip


def _check_marker(out: Path, wrong: list[str], request: Request, arguments: tuple[Any, ...]) -> None:
    """A marker must be proof at the moment it is written: if the process dies an instant later, nothing else is."""
    if not request.is_marker:
        return
    folder = (out / request.key).parents[1]
    for place, shard in json.loads(arguments[0])["shards"].items():
        objects = {f"data.zarr/{key}": stored for key, stored in shard["objects"].items()}
        for name, stored in (objects | {f"blocks/{place}.tiles": shard["tiles"]}).items():
            path = folder / name
            if stored and not (path.exists() and _sha256(path) == stored["sha256"]):
                wrong.append(f"{request.key} is written before its {name}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lost_bytes(names: Iterable[str], golden: Golden) -> int:
    """Size of published files, by name, in the run without faults."""
    return sum(len(golden.published.get(name, b"")) for name in names)


def bad(verdicts: Iterable[Verdict]) -> list[str]:
    """Faults that broke a guarantee, with what broke."""
    return [f"{verdict.fault}: {'; '.join(verdict.wrong[:3])}" for verdict in verdicts if verdict.wrong]
