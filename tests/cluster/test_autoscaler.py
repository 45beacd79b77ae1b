"""A cluster that begins with a head without cores and adds nodes when it sees work that waits for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.processes import end
from tests.cluster.nodes import Driver, nodes

_DRIVER = """
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.session import connect
from tests.cluster import workers
with connect(None):
    import ray
    from earthloom.cluster.nodes import autoscales
    from earthloom.cluster.places import Size
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources
    print("autoscales", autoscales(), "at first", ray.cluster_resources().get("CPU", 0))
    size = Size(elastic=True, most=2, wait_s=400)
    executor = RayExecutor(WorkerFactory(workers.sleeper), lanes=1, resources=WorkerResources(cpus=1), size=size)
    outcomes = list(executor.run([Task(key=str(n), payload=3.0) for n in range(12)]))
    print("done", len(outcomes), "by", len(executor.worker_stats()))
"""


@pytest.mark.slow
@pytest.mark.ray
def test_workers_that_wait_make_an_autoscaler_add_their_nodes(tmp_path: Path) -> None:
    with nodes((tmp_path, 2)) as cluster:
        driver = Driver(cluster, "-c", _DRIVER)
        try:
            driver.until("autoscales True at first 0")
            driver.until("done 12 by 2", timeout_s=500)
            assert driver.process.wait(60) == 0
        finally:
            end(driver.process, grace_s=5)
            assert driver.process.stdout is not None
            driver.process.stdout.close()
