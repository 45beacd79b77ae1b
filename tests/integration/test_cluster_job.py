"""The same run through `earthloom submit`, `ray job submit` and a driver beside a separately started cluster with a token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.ray_cluster import LocalCluster, local_cluster
from tests.maps import WORDS, command, go
from tests.scenes import landscape, write_scene

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = (*WORDS, "--precision", "fp32")


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
    go(scene, out=out, block=1024)
    return _files(out)


def _files(out: Path) -> dict[str, Any]:
    (result,) = out.glob("scenes/*/*/result.json")
    files: dict[str, Any] = json.loads(result.read_bytes())["files"]
    return files


def _call(cluster: LocalCluster, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The command on a machine that is no node: it has a cache of its own."""
    called = {name: value for name, value in cluster.env.items() if name != "RAY_AUTH_MODE"}
    return subprocess.run(
        [sys.executable, "-m", "earthloom", *words], cwd=ROOT, env=called | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.long
def test_a_submitted_command_gives_the_same_bytes_and_its_exit_code(
    cluster: LocalCluster, scene: Path, golden: dict[str, Any], tmp_path: Path
) -> None:
    config = tmp_path / "night.toml"
    lines = [f'scenes = ["{scene}"]', f'out = "{tmp_path / "out"}"']
    lines += [f'{name.strip("-")} = "{value}"' for name, value in zip(OPTIONS[::2], OPTIONS[1::2], strict=True)]
    config.write_text("\n".join(line.replace('"512"', "512").replace('"0.0001"', "0.0001") for line in lines))
    secret = "not-to-be-printed"
    done = _call(
        cluster, "submit", str(config), "--address", cluster.dashboard, "--follow", AWS_SECRET_ACCESS_KEY=secret
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6/6 blocks" in done.stdout, "what the job prints is shown"
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr
    assert secret not in done.stdout + done.stderr
    assert _files(tmp_path / "out") == golden
    job = done.stdout.splitlines()[0]
    assert job.startswith("run-water-index-")
    again = _call(cluster, "logs", job, "--address", cluster.dashboard)
    assert "6/6 blocks" in again.stdout
    listed = json.loads(_call(cluster, "jobs", "--json", "--address", cluster.dashboard).stdout)
    assert [(one["status"], one["exit_code"]) for one in listed if one["id"] == job] == [("SUCCEEDED", 0)]

    missing = ["run", str(tmp_path / "no-such.tif"), "--out", str(tmp_path / "out"), *OPTIONS]
    refused = _call(cluster, "submit", *missing, "--follow", "--address", cluster.dashboard)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "no-such.tif" in refused.stdout


@pytest.mark.long
def test_a_submitted_command_is_stopped_and_what_it_has_done_stays(cluster: LocalCluster, tmp_path: Path) -> None:
    submitted = _call(cluster, "submit", "doctor", "--address", cluster.dashboard)
    assert submitted.returncode == 0, submitted.stderr
    job = submitted.stdout.strip()
    stopped = _call(cluster, "stop", job, "--address", cluster.dashboard)
    assert stopped.returncode == 0
    assert job in stopped.stdout
    assert _call(cluster, "logs", job, "--follow", "--address", cluster.dashboard).returncode == 143
    unknown = _call(cluster, "stop", "nobody", "--address", cluster.dashboard)
    assert unknown.returncode == 1
    assert "there is no job nobody" in unknown.stderr


def test_what_cannot_be_submitted_is_told_before_anything_is_sent(cluster: LocalCluster, tmp_path: Path) -> None:
    wrong = _call(
        cluster, "submit", "run", "a.tif", "--out", str(tmp_path), "--block", "wide", "--address", cluster.dashboard
    )
    assert (wrong.returncode, "wide" in wrong.stderr) == (2, True)
    head = _call(cluster, "jobs", "--address", cluster.address)
    assert "is not the URL of a dashboard" in head.stderr
    nobody = _call(cluster, "jobs", "--address", cluster.dashboard, RAY_AUTH_TOKEN="wrong")
    assert "refuses the token from RAY_AUTH_TOKEN" in nobody.stderr
    assert "Traceback" not in wrong.stderr + head.stderr + nobody.stderr


@pytest.mark.long
def test_what_ray_itself_submits_gives_the_same_bytes(
    cluster: LocalCluster, scene: Path, golden: dict[str, Any], tmp_path: Path
) -> None:
    words = ("python", "-m", "earthloom", "run", str(scene), "--out", str(tmp_path), *OPTIONS)
    assert "succeeded" in cluster.submit(*words, working_dir=ROOT, timeout_s=600).lower()
    assert _files(tmp_path) == golden


@pytest.mark.long
def test_a_driver_beside_the_cluster_gives_the_same_bytes(
    cluster: LocalCluster, scene: Path, golden: dict[str, Any], tmp_path: Path
) -> None:
    words = ("run", scene, "--out", tmp_path, *OPTIONS, "--address", cluster.address)
    done = command(*words, "--json", env=cluster.env, timeout_s=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scenes"]["lake"]["status"] == "published"
    assert _files(tmp_path) == golden


def test_a_cluster_that_is_not_there_is_an_error_with_a_remedy(
    cluster: LocalCluster, scene: Path, tmp_path: Path
) -> None:
    words = ("run", scene, "--out", tmp_path, *OPTIONS, "--address", "127.0.0.1:1")
    done = command(*words, env=cluster.env, timeout_s=600)
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_gpu_is_told_at_once(cluster: LocalCluster, scene: Path, tmp_path: Path) -> None:
    words = ("run", scene, "--out", tmp_path, *OPTIONS, "--device", "cuda")
    done = command(*words, "--address", cluster.address, env=cluster.env, timeout_s=600)
    assert done.returncode == 1
    assert "GPU" in done.stderr
    assert "Traceback" not in done.stderr
