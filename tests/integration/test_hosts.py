"""One scene over three hosts with a network between them, storage on a fourth; one is cut off and comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from infra.hosts import Host, ended, hosts, possible
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).parents[2]
OPTIONS = ("--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance", "--shard", "512", "--block", "512",
           "--precision", "fp32")  # fmt: skip
RAY = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
       "--object-store-memory=134217728", "--num-gpus=0")  # fmt: skip
DELAY_S = 0.01
"""Each way, on the way to storage."""

_PUT = """
import sys
from pathlib import Path
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import open_store
apply()
open_store(ObjectRef.parse("s3://scenes/hosts")).put("lake.tif", Path(sys.argv[1]).read_bytes())
"""
_FILES = """
import json, sys
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import open_store
apply()
store = open_store(ObjectRef.parse(sys.argv[1]))
print(json.dumps({head.key.rpartition("/")[2]: json.loads(store.get(head.key))
                  for head in store.list("") if head.key.endswith(("result.json", "attempts/1.json"))}))
"""


def _await(log: Path, text: str, timeout_s: float = 300, times: int = 1) -> str:
    deadline = time.monotonic() + timeout_s
    while log.read_text(errors="replace").count(text) < times:
        assert time.monotonic() < deadline, f"no {text!r} in {log.read_text(errors='replace')[-3000:]}"
        time.sleep(0.1)
    return log.read_text(errors="replace")


def _python(env: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, *words], env=env, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not possible(), reason="network namespaces need root")
def test_a_host_that_is_cut_off_costs_its_blocks_and_is_used_again_when_it_is_back(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "lake.tif", landscape(3072, 2048, 2), ("green", "swir16"))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
    plain |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        *three, storage = stack.enter_context(hosts(4))
        env = plain | _s3(stack, storage, plain, tmp_path)
        _python(env, "-c", _PUT, str(scene))
        stack.enter_context(ended(_ray(three[0], three[0], env, tmp_path / "head.log", cpus=0)))
        _await(tmp_path / "head.log", "Ray runtime started")
        for number, host in enumerate((*three[1:], three[0])):
            log = tmp_path / f"node-{number}.log"
            node = stack.enter_context(ended(_ray(three[0], host, env, log, cpus=1)))
            _await(log, "Ray runtime started")
            assert node.poll() is None
        log = tmp_path / "driver.log"
        words = ["run", "s3://scenes/hosts/lake.tif", *OPTIONS, "--out", "s3://outputs/hosts"]
        command = [sys.executable, "-m", "earthloom", *words, "--workers", "3", "--address", f"{three[0].address}:6379"]
        driver = stack.enter_context(ended(three[0].start(command, env=env, log=log)))
        _await(log, "lake running")
        _await(log, "blocks 0.", times=2)
        three[1].cut()
        _await(log, "is replaced")
        three[1].heal()
        again = tmp_path / "again.log"
        stack.enter_context(ended(_ray(three[0], three[1], env, again, cpus=1)))
        said = _await(log, "lake published 24/24 blocks")
        assert driver.wait(200) == 0, said[-3000:]
        _python(env, "-m", "earthloom", *words[:-1], "s3://outputs/golden", "--executor", "local")
        made, golden = (json.loads(_python(env, "-c", _FILES, f"s3://outputs/{name}")) for name in ("hosts", "golden"))
    assert made["result.json"]["files"] == golden["result.json"]["files"]
    record = made["1.json"]
    assert record["telemetry"]["computed_px"] == 3072 * 2048, "no block counts twice"
    lost = record["scenes"]["lake"].get("faults", {})
    assert 1 <= len(lost) <= 3, "no more than was in the lanes of the host that was cut off"


def _ray(head: Host, host: Host, env: dict[str, str], log: Path, *, cpus: int) -> subprocess.Popen[bytes]:
    joins = [f"--address={head.address}:6379"] if cpus else ["--head", "--port=6379", "--include-dashboard=false"]
    words = [*RAY, *joins, f"--node-ip-address={host.address}", f"--num-cpus={cpus}"]
    return host.start(words, env=env | {"RAY_AUTH_MODE": "disabled"}, log=log)


def _s3(stack: ExitStack, host: Host, env: dict[str, str], folder: Path) -> dict[str, str]:
    log = folder / "s3.log"
    words = [sys.executable, "-m", "infra.s3_server", "--bucket", "scenes", "--bucket", "outputs"]
    stack.enter_context(ended(host.start(words, env=env, log=log)))
    told = dict(re.findall(r"(AWS_\w+)=(\S+)", _await(log, "AWS_REGION")))
    port = int(told["AWS_ENDPOINT_URL"].rpartition(":")[2])
    stack.enter_context(ended(host.relay(port, delay_s=DELAY_S, log=folder / "relay.log")))
    return told | {"AWS_ENDPOINT_URL": f"http://{host.address}:{port}"}
