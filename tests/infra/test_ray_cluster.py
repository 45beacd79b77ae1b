"""A separate cluster: jobs, tokens, drivers from outside. The embedded Ray of the session stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from earthloom.cluster.address import Answer, Token, ask, auth_mode_for
from earthloom.cluster.session import Session
from earthloom.tiling.errors import EngineError
from infra.ray_cluster import ClusterError, LocalCluster, local_cluster

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SENT = "_ray_pkg_"
"""In the path of what Ray has brought to a node."""


@pytest.fixture(scope="module")
def cluster(ray_session: Session) -> Iterator[LocalCluster]:
    with local_cluster(num_cpus=2, timeout_s=600) as cluster:
        assert cluster.address != ray_session.address
        yield cluster


def test_a_job_runs_to_its_end(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "beside.txt").write_text("from the working directory")
    output = cluster.submit("python", "-c", "print('hello', open('beside.txt').read())", working_dir=tmp_path)
    assert "hello from the working directory" in output
    assert "SUCCEEDED" in cluster.jobs().values()


def test_a_job_that_fails_is_an_error_with_its_output(cluster: LocalCluster) -> None:
    with pytest.raises(ClusterError, match="out of luck"):
        cluster.submit("python", "-c", "raise SystemExit('out of luck')")


@pytest.mark.parametrize(("headers", "status"), [({}, 401), ({"Authorization": "Bearer wrong"}, 403)])
def test_a_request_without_the_token_is_refused(cluster: LocalCluster, headers: dict[str, str], status: int) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        direct.open(urllib.request.Request(f"{cluster.dashboard}/api/jobs/", headers=headers), timeout=60)
    assert refused.value.code == status
    refused.value.close()


def test_the_probe_tells_right_tokens_from_wrong_ones(cluster: LocalCluster) -> None:
    assert ask(cluster.address, None, 60) is Answer.REFUSED
    assert ask(cluster.address, Token("wrong", "test"), 60) is Answer.REFUSED
    assert ask(cluster.address, Token(cluster.token, "test"), 60) is Answer.WELCOME
    assert auth_mode_for(cluster.address, {"RAY_AUTH_TOKEN": cluster.token}, 60) == "token"
    with pytest.raises(EngineError, match="refuses the token from RAY_AUTH_TOKEN"):
        auth_mode_for(cluster.address, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "wrong"}, 60)


_DRIVER = """
import sys
from contextlib import ExitStack
from pathlib import Path
import earthloom
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.session import connect
from tests.cluster import workers

root = Path(sys.argv[1])
with ExitStack() as stack:
    packages = []
    if root.is_absolute():
        from earthloom.cluster.package import sent_package
        packages = [stack.enter_context(sent_package()), root / "tests"]
    session = stack.enter_context(connect(None, packages=packages))
    from earthloom.cluster.ray_pool import RayExecutor
    tasks = [Task(key=str(n), payload=n) for n in range(10)]
    outcomes = list(RayExecutor(WorkerFactory(workers.square), workers=1).run(tasks))
    asked = [Task(key="arenas", payload="MALLOC_ARENA_MAX")]
    (arenas,) = RayExecutor(WorkerFactory(workers.variable), workers=1).run(asked)
    asked = [Task(key="home", payload="earthloom.jobs.execution.worker")]
    (home,) = RayExecutor(WorkerFactory(workers.home_of), workers=1).run(asked)
    total = sum(outcome.value for outcome in outcomes)
    print("sum", total, session.embedded, session.resources["CPU"], "arenas", arenas.value)
    print("worker", home.value)
    print("driver", earthloom.__file__)
"""


def test_a_driver_outside_ships_its_packages_and_needs_only_the_token(cluster: LocalCluster, tmp_path: Path) -> None:
    env = {name: value for name, value in cluster.env.items() if name != "RAY_AUTH_MODE"}
    env |= {"RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(ROOT)], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.stderr == ""
    found, worker, driver = result.stdout.splitlines()
    assert found == "sum 285 False 2.0 arenas 1"
    assert SENT in worker
    assert driver == f"driver {ROOT / 'earthloom' / '__init__.py'}"


def test_a_driver_inside_a_job_finds_its_cluster_and_ships_nothing(cluster: LocalCluster, tmp_path: Path) -> None:
    for name in ("earthloom", "cluster", "jobs", "models", "tiling", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "driver.py").write_text(_DRIVER)
    output = cluster.submit("python", "driver.py", ".", working_dir=tmp_path)
    assert "sum 285 False 2.0 arenas 1" in output
    for line in [line for line in output.splitlines() if line.startswith(("worker ", "driver "))]:
        assert SENT in line, "the code comes from the job's working directory, though it is installed here too"


def test_the_embedded_session_is_still_alive(cluster: LocalCluster, ray_session: Session) -> None:
    import ray

    assert cluster
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address == ray_session.address
    assert os.environ.get("RAY_AUTH_TOKEN_PATH") != cluster.env["RAY_AUTH_TOKEN_PATH"]
