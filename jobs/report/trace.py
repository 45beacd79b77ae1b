"""Where the time of a run went: a trace for a timeline viewer, from the times of its blocks.

Knows nothing of how blocks are computed or where a profile is kept. Lanes of one worker run side by side, blocks of one
lane follow one another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from earthloom.jobs.records.blocks import BlockCost

Mark = tuple[str, float, float]
"""Something that was done for a whole scene: (name, start, end), POSIX seconds."""


def chrome_trace(blocks: Sequence[tuple[str, BlockCost]], *, marks: Sequence[Mark]) -> bytes:
    """A trace that Perfetto (ui.perfetto.dev) and chrome://tracing open: a process per worker, a thread per lane.

    Args:
        blocks: id of the scene, and what the block took, of each.
        marks: what was done for whole scenes; a process of their own, as many threads as overlap.

    Returns:
        JSON in the Trace Event Format: complete events (`X`) in microseconds from the earliest start, sorted by it.
    """
    starts = [*(cost.started_s for _, cost in blocks), *(start for _, start, _ in marks)]
    zero = min(starts, default=0.0)

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
    by_lane: dict[str, dict[int, list[tuple[str, BlockCost]]]] = {}
    for scene, cost in sorted(blocks, key=lambda each: (each[1].worker, each[1].lane, each[1].started_s)):
        by_lane.setdefault(cost.worker, {}).setdefault(cost.lane, []).append((scene, cost))
    for pid, (worker, lanes) in enumerate(by_lane.items(), start=2):
        names.append(named("process", worker, pid))
        for lane, of_lane in lanes.items():
            names.append(named("thread", f"lane {lane}", pid, lane))
            for scene, cost in of_lane:
                details = {"scene": scene, "block": cost.block, "computed_px": cost.computed_px}
                events += [event(name, start, end, pid, lane, **details) for name, start, end in cost.phases()]
    events.sort(key=lambda each: each["ts"])
    document = {"displayTimeUnit": "ms", "traceEvents": [*names, *events]}
    return json.dumps(document, separators=(",", ":")).encode()


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
