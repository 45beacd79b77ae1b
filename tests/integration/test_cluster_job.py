"""The same run through `ray job submit --working-dir .` on a separately started cluster with token authentication."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from infra.ray_cluster import LocalCluster, local_cluster
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ["--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance", "--shard", "512", "--block", "512",
           "--precision", "fp32"]  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Any:
    with local_cluster(num_cpus=2, timeout_s=600) as started:
        yield started


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("in") / "lake.tif", landscape(1100, 600, 2), ("green", "swir16"))


@pytest.fixture(scope="module")
def golden(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("golden")
    options = {
        "model": "water-index",
        "scale": 1e-4,
        "quantity": "reflectance",
        "shard": 512,
        "block": 1024,
        "precision": "fp32",
    }
    run(load({"scenes": (str(scene),), "out": str(out), "executor": "local", **options}))
    return _files(out)


def _files(out: Path) -> dict[str, Any]:
    (result,) = out.glob("scenes/*/*/result.json")
    files: dict[str, Any] = json.loads(result.read_bytes())["files"]
    return files


def test_a_submitted_job_gives_the_same_bytes(
    cluster: LocalCluster, scene: Path, golden: dict[str, Any], tmp_path: Path
) -> None:
    found = cluster.submit(
        "python",
        "-m",
        "earthloom",
        "run",
        str(scene),
        "--out",
        str(tmp_path),
        *OPTIONS,
        working_dir=ROOT,
        timeout_s=600,
    )
    assert "succeeded" in found.lower()
    assert _files(tmp_path) == golden


def test_a_driver_beside_the_cluster_gives_the_same_bytes(
    cluster: LocalCluster, scene: Path, golden: dict[str, Any], tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "earthloom",
        "run",
        str(scene),
        "--out",
        str(tmp_path),
        *OPTIONS,
        "--address",
        cluster.address,
    ]
    done = subprocess.run([*command, "--json"], cwd=ROOT, env=cluster.env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scenes"]["lake"]["status"] == "published"
    assert _files(tmp_path) == golden


def test_a_cluster_that_is_not_there_is_an_error_with_a_remedy(
    cluster: LocalCluster, scene: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "earthloom",
        "run",
        str(scene),
        "--out",
        str(tmp_path),
        *OPTIONS,
        "--address",
        "127.0.0.1:1",
    ]
    done = subprocess.run(command, cwd=ROOT, env=cluster.env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_gpu_is_told_at_once(cluster: LocalCluster, scene: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "earthloom",
        "run",
        str(scene),
        "--out",
        str(tmp_path),
        *OPTIONS,
        "--device",
        "cuda",
    ]
    done = subprocess.run(
        [*command, "--address", cluster.address], cwd=ROOT, env=cluster.env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1
    assert "GPU" in done.stderr
    assert "Traceback" not in done.stderr
