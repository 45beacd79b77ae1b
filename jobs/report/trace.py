"""Where the time of a run went: a trace for a timeline viewer, from the times of its blocks.

Knows nothing of how blocks are computed or where a profile is kept. Lanes of one worker run side by side, blocks of one
lane follow one another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

PHASES = ("read", "wait", "compute", "write")
"""In the order in which a block goes through them; `wait` is for a place among the blocks that are computed."""

Mark = tuple[str, float, float]
"""Something that was done for a whole scene: (name, start, end), POSIX seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTimes:
    """When one block was read, waited, was computed and was written; one phase begins where the one before it ends."""

    scene: str
    block: str
    worker: str
    """Name of the process, unique in the run."""
    lane: int
    """Thread of the worker."""
    started_s: float
    """POSIX time at which reading began, by the worker's clock."""
    read_s: float
    wait_s: float
    compute_s: float
    write_s: float
    computed_px: int
    """Pixels of the block's core."""

    @property
    def ended_s(self) -> float:
        return self.started_s + self.read_s + self.wait_s + self.compute_s + self.write_s

    def phases(self) -> Iterator[Mark]:
        """(name, start, end) of each phase, POSIX seconds, without gaps."""
        start = self.started_s
        for name, seconds in zip(PHASES, (self.read_s, self.wait_s, self.compute_s, self.write_s), strict=True):
            yield name, start, start + seconds
            start += seconds


def chrome_trace(times: Sequence[BlockTimes], *, marks: Sequence[Mark]) -> bytes:
    """A trace that Perfetto (ui.perfetto.dev) and chrome://tracing open: a process per worker, a thread per lane.

    Args:
        times: of the blocks.
        marks: what was done for whole scenes; a process of their own, as many threads as overlap.

    Returns:
        JSON in the Trace Event Format: complete events (`X`) in microseconds from the earliest start, sorted by it.
    """
    zero = _earliest(times, marks)

    def event(name: str, start: float, end: float, pid: int, tid: int, **details: Any) -> dict[str, Any]:
        begun, over = round((start - zero) * 1e6), round((end - zero) * 1e6)
        return {"name": name, "ph": "X", "ts": begun, "dur": over - begun, "pid": pid, "tid": tid, "args": details}

    def named(kind: str, name: str, pid: int, tid: int = 0) -> dict[str, Any]:
        return {"name": f"{kind}_name", "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {"name": name}}

    rows = _rows(marks)
    names, events = [named("process", "scenes", 1)], []
    for tid, row in enumerate(rows):
        names.append(named("thread", "scenes" if len(rows) == 1 else f"scenes {tid}", 1, tid))
        events += [event(name, start, end, 1, tid) for name, start, end in row]
    for pid, (worker, lanes) in enumerate(_by_lane(times).items(), start=2):
        names.append(named("process", worker, pid))
        for lane, blocks in lanes.items():
            names.append(named("thread", f"lane {lane}", pid, lane))
            for one in blocks:
                details = {"scene": one.scene, "block": one.block, "computed_px": one.computed_px}
                events += [event(name, start, end, pid, lane, **details) for name, start, end in one.phases()]
    events.sort(key=lambda each: each["ts"])
    document = {"displayTimeUnit": "ms", "traceEvents": [*names, *events]}
    return json.dumps(document, separators=(",", ":")).encode()


def _earliest(times: Sequence[BlockTimes], marks: Sequence[Mark]) -> float:
    return min([*(one.started_s for one in times), *(start for _, start, _ in marks)], default=0.0)


def _by_lane(times: Sequence[BlockTimes]) -> dict[str, dict[int, list[BlockTimes]]]:
    """Blocks in order of their start, by worker and lane, both sorted."""
    found: dict[str, dict[int, list[BlockTimes]]] = {}
    for one in sorted(times, key=lambda each: (each.worker, each.lane, each.started_s)):
        found.setdefault(one.worker, {}).setdefault(one.lane, []).append(one)
    return found


def _rows(marks: Sequence[Mark]) -> list[list[Mark]]:
    """Marks in as few rows as leave no two of a row overlapping."""
    rows: list[list[Mark]] = []
    for mark in sorted(marks, key=lambda each: each[1]):
        free = next((row for row in rows if row[-1][2] <= mark[1]), None)
        if free is None:
            rows.append([mark])
        else:
            free.append(mark)
    return rows
