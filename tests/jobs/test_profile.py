"""What a run says of its own time: the trace agrees with the times it is made from."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from earthloom.jobs.records.blocks import BlockCost
from earthloom.jobs.report.trace import chrome_trace

BEGUN = 1_764_000_000.0
MARKS = [
    ("planning", BEGUN - 3, BEGUN - 2), ("publishing a", BEGUN + 50, BEGUN + 60),
    ("publishing b", BEGUN + 55, BEGUN + 58),
]  # fmt: skip


def block(start: float, *phases: float, worker: str = "w", lane: int = 0) -> BlockCost:
    read_s, wait_s, compute_s, write_s = phases
    return BlockCost(
        block="0_0", worker=worker, lane=lane, started_s=BEGUN + start, read_s=read_s, wait_s=wait_s, compute_s=compute_s,
        write_s=write_s, computed_px=1_000_000, chips=1, skipped=0, chip_px=0, read_bytes=0, written_bytes=0, decoded_px=0,
        source_px=0,
    )  # fmt: skip


def busy_run(n_blocks: int, n_workers: int, lanes: int = 3) -> list[tuple[str, BlockCost]]:
    """Lanes that read, wait for their turn on the device, compute and write, as workers do."""
    rng = np.random.default_rng(0)
    times = []
    for worker in range(n_workers):
        device, free = 0.0, [0.0] * lanes
        for _ in range(max(1, n_blocks // n_workers)):
            lane = int(np.argmin(free))
            read_s, compute_s, write_s = rng.uniform((0.1, 0.5, 0.1), (0.4, 1.5, 0.3)).tolist()
            ready = free[lane] + read_s
            wait_s = max(0.0, device - ready)
            cost = block(free[lane], read_s, wait_s, compute_s, write_s, worker=f"worker {worker}", lane=lane)
            times.append(("a", cost))
            device = ready + wait_s + compute_s
            free[lane] = device + write_s
    return times


def events(trace: bytes) -> list[dict[str, Any]]:
    return [event for event in json.loads(trace)["traceEvents"] if event["ph"] == "X"]


def test_phases_follow_one_another_and_add_up_to_the_block() -> None:
    one = block(2, 1, 0.5, 3, 0.25)
    phases = list(one.phases())
    assert [name for name, _, _ in phases] == ["read", "wait", "compute", "write"]
    assert all(end == start for (_, _, end), (_, start, _) in pairwise(phases))
    assert (phases[0][1], phases[-1][2]) == (BEGUN + 2, one.ended_s)
    assert one.ended_s - one.started_s == 4.75


def test_a_trace_holds_every_phase_once_from_the_earliest_start_on() -> None:
    times = busy_run(40, 2)
    found = events(chrome_trace(times, marks=MARKS))
    assert len(found) == 4 * len(times) + len(MARKS)
    starts = [event["ts"] for event in found]
    assert starts == sorted(starts)
    assert starts[0] == 0  # the planning, before any block
    assert {event["ph"] for event in found} == {"X"}
    assert all(isinstance(event["dur"], int) and event["dur"] >= 0 for event in found)
    computed_s = sum(event["dur"] for event in found if event["name"] == "compute") / 1e6
    assert computed_s == pytest.approx(sum(cost.compute_s for _, cost in times), abs=1e-4)


def test_events_of_one_thread_of_a_trace_do_not_overlap() -> None:
    threads: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for event in events(chrome_trace(busy_run(300, 3), marks=MARKS)):
        threads.setdefault((event["pid"], event["tid"]), []).append(event)
    assert len(threads) == 3 * 3 + 2  # two scenes are published at once
    for own in threads.values():
        assert all(a["ts"] + a["dur"] <= b["ts"] + 1 for a, b in pairwise(own))


def test_a_trace_names_the_scenes_the_workers_and_their_lanes() -> None:
    written = json.loads(chrome_trace(busy_run(6, 2), marks=MARKS[:1]))["traceEvents"]
    names = [(event["name"], event["args"]["name"]) for event in written if event["ph"] == "M"]
    lanes = [("thread_name", f"lane {lane}") for lane in range(3)]
    assert names == [
        ("process_name", "scenes"), ("thread_name", "scenes"), ("process_name", "worker 0"), *lanes,
        ("process_name", "worker 1"), *lanes,
    ]  # fmt: skip


def test_a_run_without_blocks_still_has_a_trace() -> None:
    assert events(chrome_trace([], marks=[])) == []
