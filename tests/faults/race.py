"""Several drivers on one run at once, over a store that stalls, refuses and loses answers: one winner, all succeed."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earthloom.jobs.execution.driver import RunResult
from tests.faults.golden import Golden, attempt, config, differences, published
from tests.faults.loop import lost_bytes
from tests.faults.reader import Reader
from tests.faults.store import Injector, Request
from tests.threads import side_by_side

_TRIES = 20  # each meets a handful of faults, with no retry below; what is asserted is how it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceVerdict:
    """How one race ended."""

    seed: int
    faults: int
    runs: int
    """Of all drivers; one that met too many faults has run again."""
    excess_blocks: int
    """Computed by more drivers than one."""
    lost_bytes: int
    wrong: tuple[str, ...]


def race(golden: Golden, out: Path, *, seed: int, drivers: int = 4, chance: float = 0.03) -> RaceVerdict:
    """Let `drivers` run the same command at once, each request meeting a fault with probability `chance`."""
    ends: list[list[Any]] = [[] for _ in range(drivers)]
    injectors: list[Injector] = []
    start = threading.Barrier(drivers)

    def drive(number: int) -> None:
        dice = random.Random(f"{seed}:{number}")

        def fate(request: Request) -> str | None:
            if dice.random() >= chance:
                return None
            return dice.choice([action for action in request.actions if action in ("503", "lost", "stall")])

        start.wait()
        for _ in range(_TRIES):
            injectors.append(Injector(chance=fate))
            ends[number].append(attempt(config(golden.scenes, out), out, injectors[-1]))
            if isinstance(ends[number][-1], RunResult) and ends[number][-1].exit_code == 0:
                return

    with Reader(out) as reader:
        side_by_side(drive, range(drivers))
    wrong = list(reader.violations)
    for number, runs in enumerate(ends):
        if not isinstance(runs[-1], RunResult) or runs[-1].exit_code:
            wrong.append(f"driver {number} never came to an end: {runs[-1]}")
    for scene in ("east", "west"):
        wins = sum(
            isinstance(one, RunResult) and one.scenes[scene].status == "published" for runs in ends for one in runs
        )
        # a driver whose commit landed but whose further steps failed has won without being able to say so
        silent = any(not isinstance(one, RunResult) or one.exit_code for runs in ends for one in runs)
        if wins > 1 or (wins == 0 and not silent):
            wrong.append(f"{scene} has {wins} winners")
    lost = differences(published(out), golden.published)
    wrong += [f"{name} differs" for name in lost]
    return RaceVerdict(
        seed=seed, faults=sum(one.fired for one in injectors), runs=sum(map(len, ends)), wrong=tuple(wrong),
        excess_blocks=sum(one.markers for one in injectors) - golden.blocks, lost_bytes=lost_bytes(lost, golden),
    )  # fmt: skip
