"""The command on a cluster whose nodes are taken away while they compute, and whose nodes compute unlike."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from infra.processes import end
from tests.cluster.nodes import Driver, Nodes, nodes
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.slow
OPTIONS = ("--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance", "--shard", "512", "--block", "512",
           "--precision", "fp32")  # fmt: skip
OTHER = {"ATEN_CPU_CAPABILITY": "avx2"}
"""By which torch computes as on an older processor: what it then calls itself is another device class."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as started:
        yield started


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("in") / "lake.tif", landscape(2048, 1536, 2), ("green", "swir16"))


def _result(out: Path) -> dict[str, Any]:
    (result,) = out.glob("scenes/*/*/result.json")
    found: dict[str, Any] = json.loads(result.read_bytes())
    return found


def _settings(out: Path) -> str:
    (item,) = out.glob("scenes/*/*/item.json")
    return item.read_text()


def _earthloom(cluster: Nodes, scene: Path, out: Path, *options: str) -> Driver:
    words = ("-m", "earthloom", "run", str(scene), "--out", str(out), *OPTIONS, "--address", cluster.address, *options)
    return Driver(cluster, *words)


@pytest.mark.long
def test_nodes_that_are_taken_away_cost_their_blocks_and_change_no_byte(
    cluster: Nodes, scene: Path, tmp_path: Path
) -> None:
    given = {"model": "water-index", "scale": 1e-4, "quantity": "reflectance", "shard": 512, "precision": "fp32"}
    run(load({"scenes": (str(scene),), "out": str(tmp_path / "golden"), "executor": "local", **given}))
    out = tmp_path / "out"
    driver = _earthloom(cluster, scene, out, "--workers", "2")
    try:
        driver.until("0 of 1 workers placed")
        first = cluster.add(1)
        deadline = time.monotonic() + 300
        while not list(out.glob("scenes/*/*/blocks/*.json")):
            assert time.monotonic() < deadline, driver.lines
            time.sleep(0.02)
        cluster.remove(first)
        second = cluster.add(1)
        driver.until("lake published 12/12 blocks", timeout_s=400)
        assert driver.process.wait(100) == 0
    finally:
        end(driver.process, grace_s=5)
        assert driver.process.stdout is not None
        driver.process.stdout.close()
    cluster.remove(second)
    assert _result(out)["files"] == _result(tmp_path / "golden")["files"]
    (attempt,) = out.glob("runs/*/attempts/1.json")
    record = json.loads(attempt.read_bytes())
    lost = record["scenes"]["lake"].get("faults", {})
    assert 1 <= len(lost) <= 3, "no more than was in the lanes of the one worker that was lost"
    assert all("NodeLost" in cause for causes in lost.values() for cause in causes)
    assert record["telemetry"]["computed_px"] == 2048 * 1536


@pytest.mark.long
def test_a_run_takes_nodes_that_compute_alike_and_names_the_others(cluster: Nodes, scene: Path, tmp_path: Path) -> None:
    added = [cluster.add(2), cluster.add(1, OTHER)]
    cluster.settle()  # else a node that an earlier test has killed is left out too
    for options, taken, left in [((), None, "cpu-avx2"), (("--device-class", "cpu-avx2"), "cpu-avx2", None)]:
        out = tmp_path / str(len(options))
        driver = _earthloom(cluster, scene, out, *options)
        try:
            told = driver.until("1 node is left out", timeout_s=300)
            driver.until("lake published", timeout_s=300)
            assert driver.process.wait(100) == 0
        finally:
            end(driver.process, grace_s=5)
            assert driver.process.stdout is not None
            driver.process.stdout.close()
        if left:
            assert f"it computes as {left} in fp32" in told
            assert f"--device-class {left} takes those instead" in told
            assert '"device":"cpu-avx2"' not in _settings(out).replace(" ", "")
        if taken:
            assert f'"device":"{taken}"' in _settings(out).replace(" ", "")
    for node in added:
        cluster.remove(node)
