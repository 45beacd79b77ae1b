"""An area on a cluster of several nodes, in object storage: a node dies amid the update, and no byte differs for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import earthloom
from earthloom.jobs.records.canonical import canonical
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from infra.ray_cluster import local_cluster
from tests.integration.test_monitor import write
from tests.maps import KEYS

pytestmark = [pytest.mark.s3, pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
DAYS = ("2016-07-01", "2017-07-01", "2018-07-01", "2020-07-01")
AREA = """name = "lake"
onto = "EPSG:32617,20m,500000,4482000,512000,4500000"
shard = 512
[[product]]
model = "water-index"
scenes = ["{scenes}"]
composites = [{{ every = "year", rule = "mode" }}]
[product.options]
{options}
[[product.change]]
from = "2016"
to = "2020"
[[product.alert]]
name = "flooded"
from = "land"
to = "water"
closing = 1
[[product]]
model = "index:wet=(green-swir16)/(green+swir16)"
scenes = ["{scenes}"]
[product.options]
{options}
[[product.monitor]]
method = "mann-kendall"
level = 0.1
"""
_TASKS_BEFORE = 4
"""Shards of dates that are there when the node dies: the update is under way and far from its end."""


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("area")
    for seed, day in enumerate(DAYS):
        write(folder / "in", f"s{seed}", day, seed=seed)
    file = folder / "lake.toml"
    file.write_text(AREA.format(scenes=f"{folder}/in/*.tif", options=KEYS))
    return file


@pytest.mark.chaos
def test_a_node_that_dies_amid_an_update_changes_no_byte(area: Path, tmp_path: Path, s3_env: None) -> None:
    alone = earthloom.monitor(area, out=tmp_path / "alone", executor="local")
    assert alone.exit_code == 0
    out = "s3://outputs/test-monitor-cluster"
    store = open_store(ObjectRef.parse(out))
    with local_cluster(num_cpus=0, timeout_s=300) as cluster, cluster.node("doomed") as doomed, cluster.node("steady"):
        env = cluster.env | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        command = [sys.executable, "-m", "earthloom", "monitor", str(area), "--out", out, "--address", cluster.address,
                   "--workers", "2", "--memory-per-worker", "1GiB", "--json"]  # fmt: skip
        with (tmp_path / "log").open("wb") as log:
            driver = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=log)
        try:
            _await(driver, lambda: _shards(store) >= _TASKS_BEFORE, tmp_path / "log")
            doomed.kill()
            printed, _ = driver.communicate(timeout=500)
        finally:
            driver.kill()
    said = json.loads(printed)
    assert (driver.returncode, [one["errors"] for one in said["products"]]) == (0, [[], []])
    assert _derived(store) == _derived(open_store(ObjectRef.parse(str(tmp_path / "alone"))))


def _shards(store: Store) -> int:
    return sum("/cube.zarr/classes/c/" in head.key for head in store.list("monitors"))


def _await(driver: subprocess.Popen[bytes], reached: Any, log: Path) -> None:
    deadline = time.monotonic() + 400
    while not reached():
        assert driver.poll() is None, f"the update ended before the node was killed: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)


def _derived(store: Store) -> dict[str, bytes]:
    """All of the area, by key; of documents all but who wrote them (`write_id`: docs/format.md)."""
    found = {head.key: store.get(head.key) for head in store.list("monitors")}
    commits = [key for key in found if key.endswith("/result.json")]
    assert {key.split("/")[4] for key in commits} == {"composites", "change", "trends"}
    for key, data in found.items():
        document = json.loads(data) if key.endswith(".json") else None
        if isinstance(document, dict) and "write_id" in document:
            found[key] = canonical({name: value for name, value in document.items() if name != "write_id"})
    return found
