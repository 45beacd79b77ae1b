"""A run over hosts of a network, each a node of Ray, with object storage on another one; a host is cut off and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.processes import end, spawn, tail
from tests.cluster.nodes import Driver
from tests.faults.hosts import Host, network, unable
from tests.scenes import landscape, write_scene

pytestmark = [pytest.mark.chaos, pytest.mark.s3]
ROOT = Path(__file__).resolve().parents[2]
_RUN_WORDS = ("s3://scenes/lake.tif", "--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance",
              "--shard", "512", "--block", "512", "--precision", "fp32")  # fmt: skip
_PORT = 6379
_MIB = 2**20

_RUN = """
import sys
from earthloom.cluster.executor import WorkerFactory
from earthloom.jobs.command import main
from earthloom.jobs.execution import engine
from tests.faults.workers import GatedWorker

made = engine._factory
engine._factory = lambda *arguments: WorkerFactory(GatedWorker, made(*arguments).arguments)
main(sys.argv[1:])
"""
_PUT = """
import sys
from pathlib import Path
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import open_store

apply()
open_store(ObjectRef.parse("s3://scenes")).put("lake.tif", Path(sys.argv[1]).read_bytes())
"""
_FILES = """
import json, sys
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import open_store

apply()
store = open_store(ObjectRef.parse(sys.argv[1]))
(result,) = [head.key for head in store.list("scenes") if head.key.endswith("/result.json")]
print(json.dumps(json.loads(store.get(result))["files"]))
"""


class _Cluster:
    """Three hosts of one core; the first one has the head and the driver. The fourth serves S3."""

    def __init__(self, stack: ExitStack, made: list[Host], folder: Path) -> None:
        self._stack, self._folder, self.gate = stack, folder, folder / "gate"
        self.gate.mkdir()
        self.nodes, storage = made[:3], made[3]
        self.address = f"{self.nodes[0].address}:{_PORT}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        words = ("-m", "infra.s3_server", "--bucket", "scenes", "--bucket", "maps", "--host", storage.address)
        server = subprocess.Popen(
            storage.command(sys.executable, *words), cwd=ROOT, env=kept, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        stack.callback(end, server, grace_s=10)
        assert server.stdout is not None
        stack.callback(server.stdout.close)
        said = [server.stdout.readline().strip().removeprefix("export ").partition("=") for _ in range(4)]
        self.env = kept | {name: value for name, _, value in said} | {
            "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT), "GATE": str(self.gate),
        }  # fmt: skip
        self.raylets = [self.start(number) for number in range(3)]

    def start(self, number: int) -> subprocess.Popen[bytes]:
        """`ray start` on a host, as whoever looks after it would."""
        host = self.nodes[number]
        log = self._folder / f"{host.address}.{time.monotonic_ns()}.log"
        where = ("--head", f"--port={_PORT}", f"--temp-dir={self._folder / 'ray'}", "--include-dashboard=false")
        command = host.command(
            sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-ip-address={host.address}",
            *(where if number == 0 else (f"--address={self.address}",)), "--num-cpus=1", "--num-gpus=0",
            f"--object-store-memory={128 * _MIB}", "--disable-usage-stats",
        )  # fmt: skip
        process = spawn(command, env=self.env, log=log)
        self._stack.callback(end, process, grace_s=10)
        deadline = time.monotonic() + 240
        while b"Ray runtime started" not in log.read_bytes():
            assert process.poll() is None, f"{host.address} ended:\n{tail(log)}"
            assert time.monotonic() < deadline, f"{host.address} did not start:\n{tail(log)}"
            time.sleep(0.1)
        return process

    def call(self, *words: str) -> str:
        """What a program prints that reaches the storage."""
        command = self.nodes[0].command(sys.executable, *words)
        done = subprocess.run(command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def cluster() -> Iterator[_Cluster]:
    if why := unable():
        pytest.skip(why)
    # short: the paths of Ray's sockets end at 107 letters
    with TemporaryDirectory(prefix="nh-", ignore_cleanup_errors=True) as scratch, ExitStack() as stack:
        made = stack.enter_context(network(4))
        yield _Cluster(stack, made, Path(scratch))


def _until(driver: Driver, what: Callable[[], bool], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        if driver.process.poll() is not None or time.monotonic() > deadline:
            driver.until("what it never says", timeout_s=5)  # tells what it did say
        time.sleep(0.1)


def _worked(gate: Path, host: Host) -> bool:
    return (gate / host.address).exists()


def test_a_host_that_is_cut_off_and_comes_back_changes_no_byte(cluster: _Cluster, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "lake.tif", landscape(4096, 2048, 2), ("green", "swir16"))
    gate = cluster.gate
    cluster.call("-c", _PUT, str(scene))
    cluster.call("-m", "earthloom", "run", *_RUN_WORDS, "--out", "s3://maps/golden", "--executor", "local")
    driver = Driver(
        cluster, "-c", _RUN, "run", *_RUN_WORDS, "--out", "s3://maps/out", "--address", cluster.address,
        "--workers", "3", before=cluster.nodes[0].command(),
    )  # fmt: skip
    try:
        _until(driver, lambda: all(_worked(gate, host) for host in cluster.nodes))
        lost = cluster.nodes[2]
        lost.plug(there=False)
        driver.until("is replaced")
        (gate / lost.address).unlink()
        lost.plug(there=True)
        cluster.raylets[2].wait(120)  # Ray's head has told it that it is dead
        cluster.start(2)
        _until(driver, lambda: _worked(gate, lost))
        (gate / "open").touch()
        driver.until("lake published 32/32 blocks")
        assert driver.process.wait(100) == 0
    finally:
        end(driver.process, grace_s=5)
        assert driver.process.stdout is not None
        driver.process.stdout.close()
    found, wanted = (json.loads(cluster.call("-c", _FILES, f"s3://maps/{name}")) for name in ("out", "golden"))
    assert found == wanted
