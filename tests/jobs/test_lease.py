"""One command at a time: a lease in OUT with a heartbeat, taken by one of many and taken over from the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.records import lease as leases
from earthloom.jobs.records.canonical import canonical, read_document
from earthloom.jobs.records.lease import lease
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.maps import go, lake, published
from tests.memory_store import MemoryStore

KEY = "leases/nightly.json"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def edit(store: MemoryStore, written_ago: float = 0, **changes: Any) -> None:
    store.put(KEY, canonical(read_document(store.get(KEY), KEY) | changes))
    store.times[KEY] -= written_ago


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_of_many_that_ask_at_once_one_holds_it(store: MemoryStore) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> bool:
        barrier.wait()
        return lease(store, KEY).held

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_who_does_not_get_it_learns_who_has_it_and_gets_it_when_it_is_given_back(store: MemoryStore) -> None:
    first = lease(store, KEY)
    other = lease(store, KEY)
    assert (first.held, other.held) == (True, False)
    assert f"process {os.getpid()} on " in other.holder
    other.release()
    assert not lease(store, KEY).held, "only its holder gives it back"
    first.release()
    assert lease(store, KEY).held


def test_a_silent_holder_is_taken_over_and_does_not_take_it_back(store: MemoryStore) -> None:
    first = lease(store, KEY)
    edit(store, leases.EXPIRES_S + 20, machine="elsewhere", updated=ago(leases.EXPIRES_S - 20))
    assert not lease(store, KEY).held
    edit(store, leases.EXPIRES_S + 20, machine="elsewhere", updated=ago(leases.EXPIRES_S + 20))
    second = lease(store, KEY)
    assert second.held
    first.release()
    assert read_document(store.get(KEY), KEY)["holder"] == second.document["holder"]


def test_a_holder_whose_clock_is_wrong_holds_it_while_it_lives_and_no_longer(store: MemoryStore) -> None:
    lease(store, KEY)
    for ahead in (600, 7200, 400 * 86400, -7200):
        edit(store, machine="elsewhere", updated=ago(-ahead))
        assert not lease(store, KEY).held, "it lives"
    edit(store, 600, machine="elsewhere", updated=ago(-600))
    assert not lease(store, KEY).held, "clocks differ by minutes: it may live"
    edit(store, 600, machine="elsewhere", updated=ago(-400 * 86400))
    assert lease(store, KEY).held


def test_a_dead_process_of_this_machine_is_taken_over_at_once(store: MemoryStore) -> None:
    lease(store, KEY)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    edit(store, pid=int(gone.stdout))
    assert lease(store, KEY).held


def test_a_damaged_lease_keeps_nobody_out(store: MemoryStore) -> None:
    store.put(KEY, canonical({"format": 1, "holder": "x"}))
    assert lease(store, KEY).held


def test_a_holder_says_that_it_lives(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.05)
    held = lease(store, KEY)
    edit(store, updated=ago(3600))
    deadline = time.monotonic() + 20
    while read_document(store.get(KEY), KEY)["updated"] < ago(600) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lease(store, KEY).held
    held.release()


def both(folder: Path, how: str) -> list[RunResult]:
    """The same command twice at once, as overlapping crons do it."""
    scenes = [lake(folder / "in", f"lake{n}", width=600, height=300, seed=n) for n in range(2)]
    barrier = threading.Barrier(2)

    def one(_: int) -> RunResult:
        barrier.wait()
        return go(*scenes, out=folder / "out", if_running=how)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2)))


def test_of_two_overlapping_runs_one_is_skipped(tmp_path: Path) -> None:
    first, second = sorted(both(tmp_path, "skip"), key=lambda result: bool(result.skipped))
    assert (first.exit_code, str(first.counts)) == (0, "2 published (2 new), 0 refused, 0 failed")
    assert (second.exit_code, second.scenes) == (0, {})
    assert "at work: process" in str(second.skipped)
    assert not list((tmp_path / "out" / "leases").glob("*.json")), "it is given back"


def test_of_two_overlapping_runs_one_waits_and_no_block_is_computed_twice(tmp_path: Path) -> None:
    results = both(tmp_path, "join")
    assert sorted(result.counts.new for result in results) == [0, 2]
    assert [result.exit_code for result in results] == [0, 0]
    assert sum(result.telemetry["computed_px"] for result in results) == 2 * 600 * 300
    alone = go(*sorted((tmp_path / "in").iterdir()), out=tmp_path / "alone")
    assert alone.exit_code == 0
    assert published(tmp_path / "out").keys() == published(tmp_path / "alone").keys()


def test_another_command_is_not_kept_out(tmp_path: Path) -> None:
    scenes = [lake(tmp_path / "in", name, width=64, height=64) for name in ("a", "b")]
    seen: list[RunResult] = []

    def other(_: object) -> None:
        if not seen:
            seen.append(go(scenes[1], out=tmp_path / "out", if_running="skip"))

    go(scenes[0], out=tmp_path / "out", if_running="skip", on_event=other)
    assert not seen[0].skipped
    assert seen[0].counts.new == 1


@pytest.mark.s3
def test_a_bucket_gives_it_to_one_as_well(s3_env: None) -> None:
    store = open_store(ObjectRef.parse("s3://outputs/leases-of-a-test"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: lease(store, KEY), range(4)))
    assert sum(one.held for one in found) == 1
    for one in found:
        one.release()
    again = lease(store, KEY)
    assert again.held
    again.release()
