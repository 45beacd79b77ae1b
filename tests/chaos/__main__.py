"""Kill anything, lose nothing: every fault of the kit at full length, and one table of what became of them.

    python -m tests.chaos [nth] [race] [kills] [wire] [machine] [--large] [--every N] [--seed N]

Lines are printed as cases end, and what went wrong on stderr. Exits with 1 if a byte was lost or a guarantee did not hold.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.faults.golden import SIDE_PX, SMALL_PX, Golden, golden, hurried
from tests.faults.loop import drawn, faults_of, strike

_MEMORY = Path("/dev/shm")
_MIB = 2**20


@dataclass(slots=True, kw_only=True)
class Row:
    """One line of the table."""

    fault: str
    injected: int = 0
    runs: int = 0
    recovered: int = 0
    lost_bytes: int = 0
    excess_blocks: int | None = None
    """None where nobody counts them."""
    attempts: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(
        self, *, injected: int, attempts: int, seconds: float, wrong: Sequence[str], lost_bytes: int = 0,
        excess: int | None = None, runs: int = 1,
    ) -> None:  # fmt: skip
        """Count one run, and the attempts that it took to finish it."""
        self.runs += runs
        self.injected += injected
        self.recovered += 0 if wrong else runs
        self.lost_bytes += lost_bytes
        if excess is not None:
            self.excess_blocks = (self.excess_blocks or 0) + excess
        self.attempts += attempts
        self.seconds += seconds
        self.wrong += wrong

    def __str__(self) -> str:
        excess = "-" if self.excess_blocks is None else self.excess_blocks
        return line(self.fault, self.injected, self.runs, self.recovered, self.lost_bytes, excess, self.attempts,
                    f"{self.seconds:.0f}")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command was asked for."""

    seed: int
    every: int
    large: bool
    """Break a run of two scenes of 4 x 4 blocks at each request, not of 2 x 2."""
    folder: Path
    """Scratch space."""

    def golden(self, side_px: int) -> Golden:
        """The run without faults, on scenes of that size."""
        with hurried():
            return golden(Path(tempfile.mkdtemp(dir=self.folder)), side_px)


def nth(options: Options) -> list[Row]:
    """Each request of a run meets each fault, one at a time."""
    made = options.golden(SIDE_PX if options.large else SMALL_PX)
    faults = drawn(faults_of(made), options.seed)[:: options.every]
    rows: dict[str, Row] = {}
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for done, verdict in enumerate(pool.imap_unordered(partial(strike, golden=made), faults, chunksize=4), 1):
            row = rows.setdefault(verdict.fault.action, Row(fault=f"n-th request: {verdict.fault.action}"))
            row.add(
                injected=1, attempts=verdict.runs, seconds=verdict.seconds, lost_bytes=verdict.lost_bytes,
                excess=verdict.excess_blocks, wrong=[f"{verdict.fault}: {one}" for one in verdict.wrong],
            )  # fmt: skip
            if done % 100 == 0:
                print(f"  {done} of {len(faults)} faults", file=sys.stderr, flush=True)
    return list(rows.values())


def race(options: Options) -> list[Row]:
    """Four drivers at once over storage that fails at random."""
    from tests.faults.race import race as one_race

    row = Row(fault="4 drivers at once, 3 % of requests: 503, lost, stall")
    small = options.golden(SMALL_PX)
    with hurried():
        for seed in range(options.seed, options.seed + 20):
            begun = time.monotonic()
            done = one_race(small, options.folder / f"race-{seed}", seed=seed)
            row.add(
                injected=done.faults, attempts=done.runs, seconds=time.monotonic() - begun, lost_bytes=done.lost_bytes,
                excess=done.excess_blocks, wrong=[f"seed {seed}: {one}" for one in done.wrong],
            )  # fmt: skip
    return [row]


def kills(options: Options) -> list[Row]:
    """SIGKILL of drivers and workers on real Ray; a driver that is stopped and wakes up."""
    from tests.faults.kills import kill_loop, paused_driver

    killed, paused = (
        Row(fault="SIGKILL of driver or worker, Ray"),
        Row(fault="SIGSTOP of a driver, a second one finishes"),
    )
    made = options.golden(SIDE_PX)
    for seed in range(options.seed, options.seed + 3):
        done = kill_loop(made, options.folder / f"killed-{seed}", seed=seed, kills=4, patience_s=600)
        killed.add(
            injected=len(done.kills), attempts=done.runs, seconds=done.seconds, lost_bytes=done.lost_bytes,
            excess=done.excess_blocks, wrong=[f"seed {seed}: {one}" for one in done.wrong],
        )  # fmt: skip
    for number in range(2):
        begun = time.monotonic()
        wrong = paused_driver(made, options.folder / f"paused-{number}")
        paused.add(injected=1, attempts=2, seconds=time.monotonic() - begun, wrong=wrong)
    return [killed, paused]


def wire(options: Options) -> list[Row]:
    """Real drivers and a real S3 server, with faults between them."""
    from tests.chaos.wire import strike_the_wire

    rows: dict[str, Row] = {}
    for done in strike_the_wire(options.golden(SMALL_PX)):
        row = rows.setdefault(done.action, Row(fault=f"S3 on the wire: {done.action}"))
        row.add(
            injected=done.fired, attempts=done.runs, seconds=done.seconds, lost_bytes=done.lost_bytes,
            wrong=[f"{done.action} at {done.key}: {one}" for one in done.wrong],
        )  # fmt: skip
    return list(rows.values())


def machine(options: Options) -> list[Row]:
    """Random sequences of crashes, lost answers, rivals, changed sources and sweeps."""
    from hypothesis import HealthCheck, seed, settings
    from hypothesis.stateful import run_state_machine_as_test

    from tests.faults.machine import RunsOverFaultyStorage

    row, begun, n_sequences = Row(fault="state machine: sequences of up to 10 events"), time.monotonic(), 25
    wrong = []
    RunsOverFaultyStorage.faults = RunsOverFaultyStorage.runs = 0
    try:
        run_state_machine_as_test(
            seed(options.seed)(RunsOverFaultyStorage),
            settings=settings(max_examples=n_sequences, stateful_step_count=10, deadline=None, database=None,
                              suppress_health_check=list(HealthCheck)),
        )  # fmt: skip
    except AssertionError as error:
        wrong.append(str(error))
    row.add(
        injected=RunsOverFaultyStorage.faults, attempts=RunsOverFaultyStorage.runs, runs=n_sequences,
        seconds=time.monotonic() - begun, wrong=wrong,
    )  # fmt: skip
    return [row]


CASES: dict[str, Callable[[Options], list[Row]]] = {
    "nth": nth, "race": race, "kills": kills, "wire": wire, "machine": machine,
}  # fmt: skip
_COLUMNS = ("fault", "injected", "runs", "recovered", "bytes lost", "blocks computed in excess", "attempts", "seconds")


def line(*values: object) -> str:
    """Of a Markdown table."""
    return f"| {' | '.join(map(str, values))} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print their table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 10_000, help="of all dice (printed)")
    parser.add_argument("--large", action="store_true", help="the loop over requests on scenes of 4 x 4 blocks (hours)")
    parser.add_argument("--every", type=int, default=1, help="take only every N-th fault of the loop over requests")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.cases if name not in CASES]:
        parser.error(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and os.statvfs(_MEMORY).f_bavail * 4096 > 1024 * _MIB:
        os.environ["TMPDIR"] = tempfile.tempdir = str(
            _MEMORY
        )  # thousands of runs: fsync of a disk would take most of the time
    logging.disable(logging.ERROR)
    print(f"seed {asked.seed}\n\n{line(*_COLUMNS)}\n| --- |{' ---: |' * (len(_COLUMNS) - 1)}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="earthloom-chaos-") as folder:
        options = Options(seed=asked.seed, every=asked.every, large=asked.large, folder=Path(folder))
        for name in asked.cases or CASES:
            print(f"{name}: {CASES[name].__doc__}", file=sys.stderr, flush=True)
            logging.disable(logging.ERROR)
            made = CASES[name](options)
            rows += made
            print("\n".join(map(str, made)), flush=True)
            for one in [one for row in made for one in row.wrong][:20]:
                print(f"WRONG {one}", file=sys.stderr, flush=True)
    return 1 if any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
