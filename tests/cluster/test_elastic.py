"""A cluster whose nodes come and go while a driver is at work: a head without cores, and nodes that are processes of Ray."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from earthloom.cluster.nodes import typed_nodes
from infra.processes import end
from tests.cluster.nodes import Driver, Nodes, nodes

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

_SETUP = """
import logging, sys
from pathlib import Path
from typing import Any
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.session import connect
from tests.cluster import workers
logging.basicConfig(format="log %(message)s", stream=sys.stdout, level=logging.INFO)
with connect(None) as session:
    import ray
    from earthloom.cluster.places import Size
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources
    from earthloom.tiling.errors import EngineError
    need = WorkerResources(cpus=1)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes() as started:
        yield started


@pytest.fixture
def drive(cluster: Nodes) -> Iterator[Callable[..., Driver]]:
    made: list[Driver] = []

    def start(code: str, *words: str) -> Driver:
        made.append(Driver(cluster, "-c", _SETUP + code, *words))
        return made[-1]

    yield start
    for driver in made:
        end(driver.process, grace_s=5)
        assert driver.process.stdout is not None
        driver.process.stdout.close()


_MANY = """
    executor = RayExecutor(
        WorkerFactory(workers.noted, Path(sys.argv[1])), workers=3, lanes=2, resources=need, name="night",
        size=Size(elastic=True, wait_s=240),
    )
    for outcome in executor.run([Task(key=f"block-{n}", payload=n) for n in range(60)]):
        print("named", sorted(each["name"] for each in ray.util.list_named_actors(all_namespaces=True)))
        print("done", outcome.key, outcome.value, outcome.attempts)
    print("the run is over")
"""


@pytest.mark.long
def test_nodes_that_come_are_used_and_those_that_go_cost_what_was_in_them(
    cluster: Nodes, drive: Callable[..., Driver], tmp_path: Path
) -> None:
    limit = tmp_path / "limit"
    limit.write_text("4")
    driver = drive(_MANY, str(tmp_path))
    driver.until("0 of 3 workers placed; 3 wait for {CPU: 1}")
    first = cluster.add(1)
    driver.until("done", 4)
    assert "1 of 3 workers placed; 2 wait for {CPU: 1}" in "".join(driver.lines)
    assert any("night" in line and "worker 0" in line for line in driver.lines if line.startswith("named"))
    others = [cluster.add(1), cluster.add(1)]
    driver.until("all of 3 workers placed")
    _await_runs(tmp_path, 4 + 3 * 2)
    cluster.remove(first)  # as spot capacity is taken: with blocks in it, and without a word
    driver.until("is replaced")
    limit.write_text("20")
    driver.until("done", 16)
    _await_runs(tmp_path, 20 + 2 + 2 * 2)
    for node in others:
        cluster.remove(node, at_once=False)
    driver.until("0 of 3 workers placed; 3 wait for {CPU: 1}")
    limit.write_text("60")
    last = cluster.add(2)
    driver.until("the run is over")
    assert driver.process.wait(60) == 0
    cluster.remove(last)
    limit.unlink()

    done = [line.split() for line in driver.lines if line.startswith("done")]
    assert Counter(key for _, key, _, _ in done) == {f"block-{n}": 1 for n in range(60)}
    assert all(key == f"block-{value}" and attempts == "1" for _, key, value, attempts in done), "nothing was charged"
    runs = [mark.name.split(".")[:2] for mark in tmp_path.iterdir()]
    assert len({node for _, node in runs}) == 4
    assert len(runs) == 60 + 3 * 2, "what was in the lanes of three nodes that went is computed again, and nothing else"


def _await_runs(marks: Path, count: int) -> None:
    deadline = time.monotonic() + 240
    while len(list(marks.iterdir())) - 1 < count:
        assert time.monotonic() < deadline, sorted(marks.iterdir())
        time.sleep(0.05)


_UNLIKE = """
    executor = RayExecutor(
        WorkerFactory(workers.only_where, "right"), lanes=1, resources=need, size=Size(elastic=True, wait_s=240)
    )
    outcomes = list(executor.run([Task(key=str(n), payload=n) for n in range(30)]))
    print("nodes", len({outcome.value for outcome in outcomes}), "of", len(ray.nodes()) - 1)
"""


@pytest.mark.long
def test_nodes_that_a_worker_refuses_are_named_and_never_work(cluster: Nodes, drive: Callable[..., Driver]) -> None:
    wrong, right = cluster.add(2, {"KIND": "wrong"}), cluster.add(1, {"KIND": "right"})
    driver = drive(_UNLIKE)
    assert driver.until("nodes ").startswith("nodes 1 ")
    assert driver.process.wait(60) == 0
    (left_out,) = {line for line in driver.lines if "is left out" in line}
    assert "the node is of kind wrong, not right" in left_out
    for node in (wrong, right):
        cluster.remove(node)


_SHRINKS = """
    from earthloom.cluster.nodes import living
    size = Size(elastic=True, wait_s=240, release_s=2)
    executor = RayExecutor(WorkerFactory(workers.sleeper), workers=3, lanes=1, resources=need, size=size)
    seen = []
    for outcome in executor.run([Task(key=str(n), payload=s) for n, s in enumerate([20.0, 0.0, 0.0, 0.0])]):
        print("done", outcome.key, outcome.attempts)
"""


@pytest.mark.long
def test_workers_without_work_are_given_back_while_others_are_busy(
    cluster: Nodes, drive: Callable[..., Driver]
) -> None:
    node = cluster.add(2)
    driver = drive(_SHRINKS)
    driver.until("is given back", 2)
    assert driver.until("done") == "done 0 1", "the busy one was not touched"
    assert driver.process.wait(60) == 0
    cluster.remove(node)


_IN_VAIN = """
    executor = RayExecutor(
        WorkerFactory(workers.square), lanes=1, resources=WorkerResources(cpus=1, gpus=float(sys.argv[1])),
        size=Size(elastic=True, wait_s=3),
    )
    try:
        list(executor.run([Task(key="only", payload=1)]))
    except EngineError as error:
        print("error", error)
"""


@pytest.mark.parametrize(
    ("gpus", "said"),
    [("0", ["no worker started within 3 s: 0 of 1 workers placed; 1 waits for {CPU: 1}", "`wait_for_workers`"]),
     ("1", ["a worker needs 1 GPUs and the largest of the cluster's ", "has 0 GPUs; start a node with GPUs"])],
)  # fmt: skip
def test_what_does_not_come_is_not_waited_for_for_ever_and_gpus_not_at_all(
    drive: Callable[..., Driver], gpus: str, said: list[str]
) -> None:
    line = drive(_IN_VAIN, gpus).until("error")
    for text in said:
        assert text in line


_STATUS = """======== Autoscaler status: 2026-11-27 13:26:00 ========
Node status
---------------------------------------------------------------
Active:
 1 {}
 2 {}
Pending:
 (no pending nodes)
Recent failures:
 (no failures)

Resources
 1.0/2.0 CPU
"""


def test_an_autoscaler_is_known_by_the_types_of_its_nodes() -> None:
    assert not typed_nodes(_STATUS.format("node_" + "3c" * 28, "node_" + "d6" * 28))
    assert typed_nodes(_STATUS.format("headgroup", "gpu-group"))
    assert not typed_nodes("no cluster status")
