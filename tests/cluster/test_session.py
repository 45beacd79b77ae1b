from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import psutil
import pytest

from earthloom.cluster import session as sessions
from earthloom.cluster.session import Session, connect, is_guest

ROOT = Path(__file__).parents[2]


def in_new_process(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_connected_process_keeps_its_connection(ray_session: Session) -> None:
    import ray

    with connect("elsewhere:6379") as again:
        assert again.address == ray_session.address
        assert not again.embedded
        assert again.resources["CPU"] == 2
    assert ray.is_initialized()
    assert not is_guest(), "this process started it"


@pytest.mark.ray
def test_an_embedded_instance_is_quiet_leaves_no_token_at_home_and_the_signal_handler_alone(tmp_path: Path) -> None:
    code = """
import signal, sys
from pathlib import Path
from earthloom.cluster.session import connect
assert "ray" not in sys.modules
handler = signal.signal(signal.SIGTERM, lambda *_: None)
handler = signal.getsignal(signal.SIGTERM)
with connect(cpus=1) as session:
    import ray
    assert session.embedded
    assert ray.get(ray.remote(lambda: 42).remote()) == 42
    assert session.resources["CPU"] == 1
    assert session.resources["object_store_memory"] <= 128 * 2**20
    assert signal.getsignal(signal.SIGTERM) is handler
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    assert folder.is_dir()
assert not folder.exists()
assert not ray.is_initialized()
with connect(cpus=1):
    assert ray.is_initialized()
print("end")
"""
    result = in_new_process(code, HOME=str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "stays"), [(None, False), (SystemExit(143), False), (KeyboardInterrupt(), False), (ValueError(), True)]
)
def test_the_folder_of_an_embedded_session_goes_unless_an_error_may_want_its_logs(
    error: BaseException | None, stays: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "session"
    (folder / "logs").mkdir(parents=True)
    ray = SimpleNamespace(is_initialized=lambda: False, shutdown=lambda: None)
    with ExitStack() as stack:
        for name in ("_init", "_session", "_session_folder"):
            stack.enter_context(mock.patch.object(sessions, name, return_value=folder))
        stack.enter_context(mock.patch.dict(sys.modules, {"ray": ray}))
        with pytest.raises(type(error)) if error else nullcontext(), connect("local"):
            if error:
                raise error
    assert folder.exists() == stays


@pytest.mark.usefixtures("ray_session")
def test_no_process_of_an_embedded_instance_takes_the_fixed_port_of_dashboard_agents() -> None:
    import ray.dashboard.optional_deps  # can be imported again
    from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT

    assert ray.is_initialized()
    children = psutil.Process().children(recursive=True)
    living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]  # others may be of earlier tests
    assert any("DashboardAgent" in " ".join(child.cmdline()) for child in living)
    ports = {c.laddr.port for child in living for c in child.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert ports
    assert DEFAULT_DASHBOARD_AGENT_LISTEN_PORT not in ports


@pytest.mark.ray
def test_an_executor_that_outlives_its_session_starts_no_other() -> None:
    code = """
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.session import connect
from tests.cluster import workers
with connect("local", cpus=1):
    import ray
    from earthloom.cluster.ray_pool import RayExecutor
    outcomes = RayExecutor(WorkerFactory(workers.square), workers=1).run([Task(key=str(n), payload=n) for n in range(9)])
    next(outcomes)
outcomes.close()
print(ray.is_initialized())
"""
    result = in_new_process(code)
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_a_cluster_that_is_not_there_is_an_error_before_ray_is_imported() -> None:
    code = """
import sys
from earthloom.cluster.session import connect
from earthloom.tiling.errors import EngineError
try:
    with connect("127.0.0.1:1", timeout_s=2):
        pass
except EngineError as error:
    print(error, "ray" in sys.modules)
"""
    result = in_new_process(code)
    assert result.stdout.startswith("no Ray head answered at 127.0.0.1:1 within 2 s")
    assert result.stdout.endswith(" False\n")


@pytest.mark.ray
def test_what_ray_refuses_is_an_engine_error() -> None:
    code = """
from earthloom.cluster.session import connect
from earthloom.tiling.errors import EngineError
try:
    with connect("local", cpus=1, object_store_bytes=1):
        pass
except EngineError as error:
    print(error)
"""
    result = in_new_process(code)
    assert result.stdout.startswith("Ray could not be started on this machine: ")


def test_importing_the_layer_imports_no_ray() -> None:
    modules = ", ".join(f"earthloom.cluster.{name}" for name in ("session", "local", "resources"))
    code = f"import sys, {modules}; print('ray' in sys.modules, 'grpc' in sys.modules)"
    assert in_new_process(code).stdout == "False False\n"


def test_a_dashboard_address_is_explained() -> None:
    result = in_new_process("from earthloom.cluster.session import connect; connect('http://head:8265').__enter__()")
    assert "EngineError" in result.stderr
    assert "earthloom submit" in result.stderr


@pytest.mark.parametrize("is_error", [False, True])
def test_what_ray_tells_of_nodes_is_logged_and_leaves_stdout_and_stderr_to_the_command(
    is_error: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from ray._private import worker

    died = {"lines": ["a node has died"], "pid": "raylet", "is_err": is_error}
    with sessions._said_in_logs():
        worker.print_to_stdstream(died, ignore_prefix=False)  # as Ray does it
    assert capsys.readouterr() == ("", "")
    assert caplog.messages == ["(raylet) a node has died"]
