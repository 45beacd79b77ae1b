"""The command on a cluster whose nodes are taken away while they compute, and whose nodes compute unlike."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.models.zoo import variants
from infra.processes import end
from tests.cluster.nodes import ROOT, Driver, Nodes, nodes
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


_PROGRAM = """
import os, sys
import earthloom, ray

del os.environ["RAY_ADDRESS"]
scene, model, out, address, folder, code = sys.argv[1:]
ray.init(address=address, runtime_env={"working_dir": folder, "env_vars": {"PYTHONPATH": code}}, logging_level="ERROR")
result = earthloom.run(scene, model=model, out=out, scale=1e-4, quantity="boa_reflectance", executor="ray")
print("ended", result.exit_code, [(one.status, one.error) for one in result.scenes.values()])
"""


@pytest.mark.long
def test_a_model_on_the_disk_of_a_program_that_is_connected_already_reaches_the_nodes(
    cluster: Nodes, tmp_path: Path
) -> None:
    """The folder is in a file system that only the program sees, and no worker: a mount namespace of its own."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("no mount namespaces here: they need root")
    ((card, shipped),) = variants("ships")
    place, folder, out = tmp_path / "model", tmp_path / "folder", tmp_path / "out"
    place.mkdir()
    folder.mkdir()
    scene = write_scene(tmp_path / "in.tif", landscape(600, 600, len(card.bands)), card.bands)
    alone = f'mount -t tmpfs none {place} && cp -r {shipped.path}/. {place}/ && exec "$@"'
    node = cluster.add(1)
    words = (str(scene), str(place), str(out), cluster.address, str(folder), str(ROOT))
    driver = Driver(cluster, "-c", _PROGRAM, *words, before=("unshare", "-m", "sh", "-c", alone, "sh"))
    try:
        assert driver.until("ended", timeout_s=300) == "ended 0 [('published', None)]"
        assert not list(place.iterdir()), "no other process saw it"
    finally:
        end(driver.process, grace_s=5)
        assert driver.process.stdout is not None
        driver.process.stdout.close()
    cluster.remove(node)
    cluster.settle()


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
