"""Processor time and memory of a command with all that it starts, daemons included. Knows nothing of what it does.

Ray's processes leave their parents, and one of them does not wait for its children, so what the system adds up for a
parent is too little. Here a subreaper keeps every descendant, and each is looked at twenty times a second. What a process
does after the last look at it is lost: at most 0.05 s each, and nothing for those that are waited for here.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_EVERY_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_LEFT_OVER_S = 15.0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a finished command took."""

    cpu_s: float
    """User and system time of the command and all its descendants."""
    wall_s: float
    peak_bytes: int
    """The most that all of them held at once of memory of their own: not files, not shared."""
    largest_bytes: int
    """The most that one of them held."""


@dataclass(slots=True)
class _Tree:
    """Descendants seen so far: pid to ticks, and the start time that tells a reused pid."""

    ticks: dict[tuple[int, int], int] = field(default_factory=dict)
    alive: dict[int, int] = field(default_factory=dict)
    strangers: set[int] = field(default_factory=set)
    peak_bytes: int = 0
    largest_bytes: int = 0

    def look(self) -> None:
        pids = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
        self.strangers &= pids
        self.alive = {pid: start for pid, start in self.alive.items() if pid in pids}
        ours = {os.getpid(), *self.alive}
        fresh = pids - ours - self.strangers
        parents = {pid: stat[0] for pid in fresh if (stat := _stat(pid))}
        grown = True
        while grown:
            found = {pid for pid, parent in parents.items() if parent in ours} - ours
            ours |= found
            grown = bool(found)
        self.strangers |= fresh - ours
        held = []
        for pid in ours - {os.getpid()}:
            stat = _stat(pid)
            if stat is None:
                self.alive.pop(pid, None)
                continue
            _, ticks, start = stat
            self.alive[pid] = start
            self.ticks[pid, start] = ticks
            held.append(_own_bytes(pid))
        self.peak_bytes = max(self.peak_bytes, sum(held))
        self.largest_bytes = max(self.largest_bytes, *held, 0)


def measure(arguments: Sequence[str | Path], *, cwd: Path, log: Path, out: Path | None = None) -> Usage:
    """Run a command and wait for it and for everything that it left behind.

    Args:
        log: takes its stderr, and its stdout too unless `out` does.

    Raises:
        RuntimeError: with the end of `log`, if it fails.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    tree, started = _Tree(), time.perf_counter()
    with log.open("wb") as errors, (out or Path(os.devnull)).open("wb") as answers:
        process = subprocess.Popen(arguments, cwd=cwd, stdout=answers if out else errors, stderr=errors)
        wall_s, status = 0.0, None
        while True:
            tree.look()
            while (ended := _reap())[0]:
                if ended[0] == process.pid:
                    wall_s, status = time.perf_counter() - started, ended[1]
                    process.returncode = status
                tree.look()
            if status is not None and (not tree.alive or time.perf_counter() - started > wall_s + _LEFT_OVER_S):
                break
            time.sleep(_EVERY_S)
    if status:
        raise RuntimeError(f"{' '.join(map(str, arguments))} ended with {status}:\n{log.read_text()[-3000:]}")
    return Usage(sum(tree.ticks.values()) / _TICKS, wall_s, tree.peak_bytes, tree.largest_bytes)


def _reap() -> tuple[int, int]:
    """(pid, status) of a child that has ended; 0 if there is none. It is looked at while it still lies there."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return 0, 0
    return pid, os.waitstatus_to_exitcode(status) if pid else 0


def _stat(pid: int) -> tuple[int, int, int] | None:
    """(parent, ticks used by itself, start time) of a process; None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    words = text.rpartition(")")[2].split()
    return int(words[1]), int(words[11]) + int(words[12]), int(words[19])


def _own_bytes(pid: int) -> int:
    try:
        words = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(words[1]) - int(words[2])) * _PAGE_BYTES
