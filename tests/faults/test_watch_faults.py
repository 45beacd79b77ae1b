"""Watchers meet faulty storage, and are killed: by an injector at every request, and by a signal as processes."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.processes import end
from tests.faults.store import Fault
from tests.faults.watch_loop import prepare, strike
from tests.faults.watchers import start_watcher
from tests.scenes import landscape, write_scene

_N = 8


def test_any_request_of_a_look_may_fail_and_every_scene_is_done_or_named_in_the_end(tmp_path: Path) -> None:
    file, requests = prepare(tmp_path)
    faults = [Fault(request, action) for request in requests for action in request.actions if action != "stall"]
    assert len(faults) > 70
    verdicts = [strike(fault, file) for fault in faults]
    assert not [(str(verdict.fault), verdict.wrong) for verdict in verdicts if verdict.wrong]
    assert any(verdict.looks > 1 for verdict in verdicts), "no fault was hard enough to need another look"


@pytest.mark.long
@pytest.mark.slow
def test_two_watchers_of_which_the_working_one_is_killed_publish_each_scene_once(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(_N):
        write_scene(tmp_path / "in" / f"s{number}.tif", landscape(64, 64, 2, number), ("green", "swir16"))
    (tmp_path / "in" / "bad.tif").write_bytes(b"no TIFF")
    file = tmp_path / "w.toml"
    options = 'scale = 1e-4\nquantity = "reflectance"\nexecutor = "local"\nshard = 512\nblock = 512\ndevice = "cpu"\n'
    file.write_text(f'scenes = "{tmp_path / "in"}/"\nmodel = "water-index"\nout = "{out}"\n{options}')
    first, second = (start_watcher(file, tmp_path / f"log{n}", at_once=2) for n in range(2))
    try:
        _until(lambda: len(list(out.glob("watches/*/done/*.json"))) >= 3, first, second)
        held = json.loads(next(out.glob("watches/*/lease.json")).read_bytes())
        working, standing = (first, second) if held["pid"] == first.pid else (second, first)
        assert held["pid"] == working.pid, "the one that holds the lease is one of the two"
        working.kill()
        working.wait()
        _until(lambda: len(list(out.glob("watches/*/done/*.json"))) == _N, standing)
        _until(lambda: len(list(out.glob("watches/*/bad/*.json"))) == 1, standing)
        standing.send_signal(signal.SIGTERM)
        assert standing.wait(20) == 143
        assert not list(out.glob("watches/*/lease.json")), "who ends well gives the lease back"
    finally:
        for process in (first, second):
            end(process, grace_s=3)
    attempts = [json.loads(path.read_bytes()) for path in out.glob("runs/*/attempts/*.json")]
    published = Counter(
        name for one in attempts for name, scene in one["scenes"].items() if scene["status"] == "published"
    )
    assert set(published.values()) == {1}, "no scene was published by two runs"
    assert len(list(out.glob("scenes/*/*/result.json"))) == _N
    assert "bad" in next(out.glob("watches/*/bad/*.json")).read_text()


def _until(reached: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert time.monotonic() < deadline, "it takes too long"
        assert any(process.poll() is None for process in processes), "the watchers ended"
        time.sleep(0.02)
