"""Faults on the wire between a run and a real S3 server: what the libraries retry, and what we say when they give up."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from earthloom.cluster.retry import Budget
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.settings import derive
from earthloom.tiling.storage.store import open_store
from infra.s3_server import Server
from tests.faults.golden import Golden, config
from tests.faults.proxy import FaultProxy, Rule, fault_proxy
from tests.maps import result_files

pytestmark = pytest.mark.s3


@pytest.fixture
def wire(s3: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    """A proxy that this process's S3 clients use, with time-outs short enough for a test that waits for one."""
    stalls = "stall" in request.node.name
    patience = "2" if stalls else "60"  # seconds; on a busy machine a sound answer may take longer than two
    with fault_proxy(s3.endpoint) as proxy:
        env = {**s3.env, "AWS_ENDPOINT_URL": proxy.endpoint, "GDAL_HTTP_TIMEOUT": patience, "GDAL_HTTP_RETRY_DELAY": "0.1",
               "GDAL_HTTP_MAX_RETRY": "1"}  # fmt: skip
        for name, value in (derive(env) | env).items():
            monkeypatch.setenv(name, value)
        timeouts = {"timeout": f"{patience}s", "connect_timeout": f"{patience}s"}
        monkeypatch.setattr("earthloom.tiling.storage.remote._TIMEOUTS", timeouts)
        retry = {"max_retries": 4, "retry_timeout": timedelta(seconds=120)}
        monkeypatch.setattr("earthloom.tiling.storage.remote._RETRY", retry)
        monkeypatch.setattr("earthloom.jobs.execution.engine.BUDGET", Budget(attempts=3, backoff_s=0.05))
        yield proxy


@pytest.fixture
def out() -> str:
    return f"s3://outputs/{secrets.token_hex(6)}"


@pytest.fixture
def scenes(small_run: Golden) -> Path:
    return small_run.scenes


def published_sums(result: RunResult) -> dict[str, dict[str, str]]:
    return {
        scene: {n: o.sha256 for n, o in result_files(result, scene).items() if n != "item.json"}
        for scene in result.results
    }


@pytest.fixture
def plain(small_run: Golden) -> dict[str, dict[str, str]]:
    """The sums of a run without faults, into a folder."""
    found = {name.split("/")[1]: json.loads(data)["files"] for name, data in small_run.published.items()
            if name.endswith("/result.json")}  # fmt: skip
    return {scene: {n: o["sha256"] for n, o in files.items() if n != "item.json"} for scene, files in found.items()}


@pytest.mark.parametrize(
    ("method", "key", "action"),
    [
        ("PUT", r"/0/classes/c/0/1$", "503"),
        ("PUT", r"/0/classes/c/0/1$", "reset"),
        ("PUT", r"/0/classes/c/0/1$", "stall"),
        ("PUT", r"/0/classes/c/0/1$", "lost"),
        ("PUT", r"east/[0-9a-f]+/result\.json$", "lost"),
        ("PUT", r"east/[0-9a-f]+/result\.json$", "503"),
        ("PUT", r"water-index/collection\.json$", "lost"),
        ("PUT", r"runs/.*/commit\.json$", "lost"),
        ("GET", r"/0/classes/c/0/1$", "truncate"),
        ("GET", r"/0/classes/c/0/1$", "reset"),
        ("GET", r"item\.json$", "truncate"),
    ],
)
def test_a_run_gets_over_a_fault_of_its_output_store(
    method: str, key: str, action: str, wire: FaultProxy, scenes: Path, out: str, plain: dict[str, dict[str, str]]
) -> None:
    rule = Rule(method, key, action)
    wire.set(rule)
    result = run(config(scenes, out))
    assert wire.fired() == [1], "the request was never made"
    assert {name: scene.error for name, scene in result.scenes.items() if scene.error} == {}
    assert {scene.status for scene in result.scenes.values()} == {"published"}, (
        "a commit of ours was taken for another's"
    )
    assert published_sums(result) == plain


@pytest.fixture
def remote(wire: FaultProxy, scenes: Path, out: str) -> str:
    """The scenes in the bucket."""
    for path in scenes.iterdir():
        open_store(ObjectRef.parse(out)).put(f"in/{path.name}", path.read_bytes())
    return f"{out}/in/"


@pytest.mark.parametrize("action", ["503", "reset", "truncate", "stall"])
def test_a_run_gets_over_a_fault_of_its_source(
    action: str, wire: FaultProxy, remote: str, tmp_path: Path, plain: dict[str, dict[str, str]]
) -> None:
    rule = Rule("GET", r"in/east\.tif", action, nth=4, times=2)
    wire.set(rule)
    result = run(config(remote, tmp_path / "out"))
    assert wire.fired() == [2], "the requests were never made"
    assert {name: scene.error for name, scene in result.scenes.items() if scene.error} == {}
    for scene, sums in published_sums(result).items():
        shards = {name: digest for name, digest in sums.items() if "/c/" in name}
        assert shards == {name: digest for name, digest in plain[scene].items() if "/c/" in name}


def test_a_source_that_stays_away_fails_its_scene_alone_and_is_named(
    wire: FaultProxy, remote: str, tmp_path: Path
) -> None:
    wire.set(Rule("GET", r"in/east\.tif", "503", nth=4, times=10_000))
    out = tmp_path / "out"
    result = run(config(remote, out))
    assert result.exit_code == 3
    assert result.scenes["west"].status == "published"
    error = str(result.scenes["east"].error)
    assert "after 3 attempts" in error
    assert f"{remote}east.tif" in error
    assert "503" in error, "the cause is named"
    (found,) = out.glob("runs/*/attempts/1.json")
    faults = json.loads(found.read_bytes())["scenes"]["east"]["faults"]
    assert max(len(causes) for causes in faults.values()) == 3
    assert all("StorageError" in cause for causes in faults.values() for cause in causes)
    wire.set()
    assert run(config(remote, out)).exit_code == 0, "the next run tries the scene again"


def test_an_output_store_that_stays_away_fails_its_scene_with_code_and_key(
    wire: FaultProxy, scenes: Path, out: str
) -> None:
    wire.set(Rule("PUT", r"east/.*/0/classes/c/0/1$", "503", times=10_000))
    result = run(config(scenes, out))
    assert result.exit_code == 3
    assert result.scenes["west"].status == "published"
    error = str(result.scenes["east"].error)
    for part in ("after 3 attempts", "503", "/0/classes/c/0/1", "after 4 retries"):
        assert part in error
    wire.set()
    assert run(config(scenes, out)).exit_code == 0


def test_a_store_that_is_away_from_the_start_is_an_error_and_no_crash(wire: FaultProxy, scenes: Path, out: str) -> None:
    wire.set(Rule("PUT|GET|HEAD|POST", "outputs", "503", times=10_000))
    with pytest.raises(StorageError, match="503"):
        run(config(scenes, out))
