"""A cluster that Ray's own autoscaler makes larger and smaller: what it is asked for, and what is given back to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from infra.processes import end
from infra.ray_cluster import LocalCluster, local_cluster
from tests.cluster.nodes import Driver
from tests.scenes import landscape, write_scene

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(0, timeout_s=300, grows_to=2) as started:
        yield started


@pytest.fixture
def drive(cluster: LocalCluster) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def start(*words: str) -> Driver:
        made.append(Driver(cluster, *words))
        return made[-1]

    yield start
    for driver in made:
        end(driver.process, grace_s=5)
        assert driver.process.stdout is not None
        driver.process.stdout.close()


def _until_nodes(cluster: LocalCluster, wanted: int, timeout_s: float = 240) -> None:
    """Wait until so many nodes beside the head are processes of this machine."""
    deadline = time.monotonic() + timeout_s
    while (found := _nodes(cluster)) != wanted:
        assert time.monotonic() < deadline, f"{found} nodes, not {wanted}"
        time.sleep(0.2)


def _nodes(cluster: LocalCluster) -> int:
    return sum(_name(one) == "raylet" for one in psutil.Process(cluster.pid).children(recursive=True)) - 1


def _name(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return ""


def _files(out: Path) -> Any:
    (result,) = out.glob("scenes/*/*/result.json")
    return json.loads(result.read_bytes())["files"]


def test_a_run_makes_nodes_come_maps_the_same_bytes_and_lets_them_go(
    cluster: LocalCluster, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "lake.tif", landscape(1024, 1024, 2), ("green", "swir16"))
    given = {"model": "water-index", "scale": 1e-4, "quantity": "reflectance", "shard": 512, "block": 512,
             "precision": "fp32"}  # fmt: skip
    run(load({"scenes": (str(scene),), "out": str(tmp_path / "golden"), "executor": "local", **given}))
    out = tmp_path / "out"
    _until_nodes(cluster, 0)
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    driver = drive("-m", "earthloom", "run", str(scene), "--out", str(out), *words, "--address", cluster.address)
    driver.until("lake published 4/4 blocks")
    assert driver.process.wait(100) == 0
    assert _files(out) == _files(tmp_path / "golden")
    _until_nodes(cluster, 0)


_WAVES = """
import logging, sys, time
from pathlib import Path
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.session import connect
from tests.cluster import workers
logging.basicConfig(format="log %(message)s", stream=sys.stdout, level=logging.INFO)
with connect(None):
    from earthloom.cluster.places import Size
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources
    size = Size(elastic=True, wait_s=240, release_s=2)
    need = WorkerResources(cpus=1)
    executor = RayExecutor(WorkerFactory(workers.noted, Path(sys.argv[1])), lanes=1, resources=need, size=size)

    def waves():
        for number in (0, 10, 11, 12):
            yield Task(key=str(number), payload=number)
        while not (Path(sys.argv[1]) / "more").exists():
            yield None
        for number in (20, 21, 22):
            yield Task(key=str(number), payload=number)

    for outcome in executor.run(waves()):
        print("done", outcome.key, outcome.attempts)
    print("the run is over")
"""


def test_a_crew_grows_to_what_there_may_be_shrinks_with_its_work_and_grows_again(
    cluster: LocalCluster, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    _until_nodes(cluster, 0)
    limit = tmp_path / "limit"
    limit.write_text("0")
    driver = drive("-c", _WAVES, str(tmp_path))
    driver.until("2 of 4 workers placed; 2 wait for {CPU: 1}")
    _until_nodes(cluster, 2)
    limit.write_text("12")  # ends all but the task of that number
    driver.until("done", 3)
    driver.until("is given back", 3)  # one from its node, and two for which no node was found
    _until_nodes(cluster, 1)
    (tmp_path / "more").touch()
    _until_nodes(cluster, 2)
    limit.write_text("99")
    driver.until("the run is over")
    assert driver.process.wait(60) == 0
    done = sorted(line.split()[1:] for line in driver.lines if line.startswith("done"))
    assert done == sorted([str(number), "1"] for number in (0, 10, 11, 12, 20, 21, 22))
    _until_nodes(cluster, 0)
