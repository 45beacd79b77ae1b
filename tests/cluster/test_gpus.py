"""Several GPUs on one node, simulated: Ray counts those that it is told of and hands each of them to a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_RUN = """
import json, os, sys
import ray
from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.ray_pool import RayExecutor
from earthloom.cluster.resources import WorkerResources
from earthloom.jobs.config import EngineOptions, check
from earthloom.jobs.planning.resources import share
from tests.cluster import workers
from tests.cluster.test_executors import numbered

ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
nodes = [node["Resources"] for node in ray.nodes()]
given = share(check(EngineOptions, {}), on_gpu=True, nodes=nodes)
executor = RayExecutor(
    WorkerFactory(workers.SeesGpus, (sys.argv[1], 2)), workers=given.workers, lanes=1,
    resources=WorkerResources(cpus=given.threads, gpus=given.gpus),
)
seen = [outcome.value for outcome in executor.run(numbered(range(6)))]
print(json.dumps({"workers": given.workers, "threads": given.threads, "seen": seen}))
ray.shutdown()
"""


@pytest.mark.ray
def test_each_gpu_of_a_node_gets_one_worker_that_sees_no_other(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(meeting)], capture_output=True, text=True, check=False, timeout=300,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["workers"], told["threads"]) == (2, 2)
    seen = {tuple(each) for each in told["seen"]}
    assert sorted(gpu for _, gpu in seen) == ["0", "1"], "as many workers as GPUs, each with one of its own"
