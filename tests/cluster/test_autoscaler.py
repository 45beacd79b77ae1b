"""A cluster that begins with a head without cores and adds nodes when it sees work that waits for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra.ray_cluster import local_cluster

ROOT = Path(__file__).parents[2]

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
def test_workers_that_wait_make_an_autoscaler_add_their_nodes() -> None:
    with local_cluster(num_cpus=0, most_nodes=2, timeout_s=600) as cluster:
        env = cluster.env | {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", _DRIVER], env=env, cwd=ROOT, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert "autoscales True at first 0" in done.stdout
        assert "done 12 by 2" in done.stdout
