"""The command that computes by itself, and a block that kills it: Ray takes over, sets the block aside, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.golden import Golden, differences, published

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = """
import sys
from pathlib import Path
from earthloom.jobs.command import main

run = sys.modules["earthloom.jobs.command.run"]
outlive = run.outlive

def doomed(executor):
    executor = outlive(executor)  # what follows happens in the fork, and again in the process that outlives it
    from earthloom.cluster.executor import WorkerFactory
    from earthloom.jobs.execution import engine
    from tests.faults.workers import Doomed, DoomedWorker
    real = engine._factory
    engine._factory = lambda *arguments: WorkerFactory(DoomedWorker, Doomed(real(*arguments).arguments, **kills))
    return executor

kind, task, marks = (sys.argv.pop() for _ in range(3))
kills = {kind: frozenset([task]), "marks": Path(marks)}
run.outlive = doomed
main()
"""


@pytest.mark.long
@pytest.mark.parametrize(("kind", "code", "status"), [("once", 0, "published"), ("always", 3, "failed")])
def test_a_block_that_kills_the_command_is_tried_again_by_workers(
    kind: str, code: int, status: str, small_run: Golden, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = [
        "run", str(small_run.scenes), "--out", str(out), "--model", "water-index", "--scale", "1e-4", "--quantity",
        "reflectance", "--shard", "512", "--block", "512", "--precision", "fp32", "--device", "cpu", "--log-json",
        str(tmp_path), "east/0_1", kind,
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == code, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["executor"] for line in lines if line["event"] == "engine"] == ["local"]
    assert "killed by SIGKILL; going on with Ray" in done.stderr
    differing = {name.split("/")[1] for name in differences(published(out), small_run.published) if "scenes/" in name}
    assert differing <= (set() if status == "published" else {"east"})
    if status == "failed":
        assert "killed its worker 3 times" in done.stderr
        assert list(out.glob("scenes/west/*/result.json"))
