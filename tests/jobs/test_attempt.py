from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from earthloom.jobs.records import attempt as attempts
from earthloom.jobs.records.attempt import SceneProgress, begin
from earthloom.jobs.upkeep.status import is_living
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store


def test_an_attempt_says_that_it_lives_while_nothing_happens_and_nothing_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "REFRESH_S", 0.05)
    moments = (f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z" for n in itertools.count())
    monkeypatch.setattr(attempts, "now", lambda: next(moments))
    store = open_store(ObjectRef.parse(str(tmp_path)))
    attempt = begin(store, "run", {"lake": SceneProgress(status="running")})

    def stored() -> dict[str, object]:
        found: dict[str, object] = json.loads(store.get(attempt.key))
        return found

    first = stored()
    until = time.monotonic() + 120
    while stored()["updated"] == first["updated"]:
        assert time.monotonic() < until, "nobody hears of it"
        time.sleep(0.02)
    assert stored() | {"updated": ""} == first | {"updated": ""}
    attempt.state = "done"
    attempt.end()
    last = stored()
    assert last["state"] == "done"
    assert not is_living(last, time.time())
    time.sleep(0.3)
    assert stored() == last


def test_an_attempt_lives_as_long_as_it_is_heard_of_by_a_clock_that_can_be_right() -> None:
    def is_heard_of(seconds_ago: float, written_ago: float) -> bool:
        moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        return is_living({"state": "running", "updated": moment.isoformat()}, time.time() - written_ago)

    assert is_heard_of(5, 600), "the store's clock is behind"
    assert is_heard_of(-600, 600), "another machine's clock is ahead"
    assert not is_heard_of(600, 600)
    assert not is_heard_of(-400 * 86400, 600), "by a clock that stood in the future"
    for ahead in (-400 * 86400, -7200, 7200, 400 * 86400):
        assert is_heard_of(ahead, 5), "the store knows when it was written, whatever its host believes"
