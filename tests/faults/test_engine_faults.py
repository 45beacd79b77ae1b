"""Workers that die, memory and disks that run out: the scene at fault fails alone and says why, or nothing is noticed."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import earthloom.jobs.execution.engine
from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.retry import Budget
from earthloom.cluster.session import Session
from earthloom.jobs.execution.driver import RunResult, run
from earthloom.jobs.publish.scene import publish
from earthloom.models.inference.predictor import Predictor
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.local import LocalObjects
from tests.faults.golden import Golden, config, differences, published
from tests.faults.workers import Doomed, DoomedWorker, SmallMemory

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_doomed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ray_session: Session) -> Callable[..., RunResult]:
    """Run on Ray with workers that die at given blocks."""
    real = earthloom.jobs.execution.engine._factory

    def go(golden: Golden, *, once: frozenset[str] = frozenset(), always: frozenset[str] = frozenset()) -> RunResult:
        def factory(*arguments: Any) -> WorkerFactory:
            doomed = Doomed(real(*arguments).arguments, once=once, always=always, marks=tmp_path)
            return WorkerFactory(DoomedWorker, doomed)

        monkeypatch.setattr("earthloom.jobs.execution.engine._factory", factory)
        return run(config(golden.scenes, tmp_path / "out", executor="ray", workers=1))

    return go


@pytest.mark.long
def test_a_worker_that_is_killed_in_a_block_costs_that_block(
    run_doomed: Callable[..., RunResult], small_run: Golden, tmp_path: Path
) -> None:
    result = run_doomed(small_run, once=frozenset({"east/1_0", "west/0_1"}))
    assert result.exit_code == 0
    assert differences(published(tmp_path / "out"), small_run.published) == []
    assert any("WorkerDied" in cause for causes in result.scenes["east"].faults.values() for cause in causes)


@pytest.mark.long
def test_a_poison_block_is_set_aside_and_fails_its_scene_alone(
    run_doomed: Callable[..., RunResult], small_run: Golden, tmp_path: Path
) -> None:
    result = run_doomed(small_run, always=frozenset({"east/0_1"}))
    assert result.exit_code == 3
    assert result.scenes["west"].status == "published"
    assert "block 0_1" in str(result.scenes["east"].error)
    assert "killed its worker 3 times" in str(result.scenes["east"].error)
    (output,) = (tmp_path / "out").glob("runs/*/attempts/1.json")
    record = json.loads(output.read_bytes())["scenes"]["east"]
    assert record["kind"] == "PoisonTask"
    assert len(record["faults"]["0_1"]) >= 3, "each death is told"
    west = {name: data for name, data in small_run.published.items() if name.startswith("scenes/west/")}
    found = {name: data for name, data in published(tmp_path / "out").items() if name.startswith("scenes/west/")}
    assert found == west
    again = run_doomed(small_run)
    assert again.exit_code == 0, "the next run tries the scene again"
    assert differences(published(tmp_path / "out"), small_run.published) == []


def test_a_worker_that_is_killed_while_it_publishes_costs_nothing_but_time(
    run_doomed: Callable[..., RunResult], small_run: Golden, tmp_path: Path
) -> None:
    result = run_doomed(small_run, once=frozenset({"east/publish", "west/publish"}))
    assert result.exit_code == 0
    assert differences(published(tmp_path / "out"), small_run.published) == []
    assert any("WorkerDied" in cause for cause in result.scenes["east"].faults["publish"])


@pytest.mark.long
def test_a_scene_that_kills_whoever_publishes_it_is_set_aside_alone(
    run_doomed: Callable[..., RunResult], small_run: Golden, tmp_path: Path
) -> None:
    result = run_doomed(small_run, always=frozenset({"west/publish"}))
    assert result.exit_code == 3
    assert result.scenes["east"].status == "published"
    assert (result.scenes["west"].status, result.scenes["west"].kind) == ("failed", "PoisonTask")
    assert "publishing after 3 attempts: killed its worker 3 times" in str(result.scenes["west"].error)
    assert not list((tmp_path / "out").glob("scenes/west/*/result.json"))
    again = run_doomed(small_run)
    assert (again.exit_code, again.telemetry["computed_px"]) == (0, 0), "only publishing was left"
    assert differences(published(tmp_path / "out"), small_run.published) == []


def test_a_publication_that_is_repeated_after_its_commit_knows_it_for_its_own(
    small_run: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is lost after the commit, before it could say so."""
    lost = list[str]()

    def unheard(store: Any, plan: Any, write_id: str) -> Any:
        made = publish(store, plan, write_id)
        if plan.scene.id not in lost:
            lost.append(plan.scene.id)
            raise StorageError("the answer was lost", transient=True)
        return made

    monkeypatch.setattr("earthloom.jobs.execution.scene_worker.publish", unheard)
    result = run(config(small_run.scenes, tmp_path / "out"))
    assert [scene.status for scene in result.scenes.values()] == ["published", "published"]
    assert sorted(lost) == ["east", "west"]
    assert differences(published(tmp_path / "out"), small_run.published) == []


def test_a_run_that_is_out_of_memory_takes_smaller_batches_and_gives_the_same_map(
    small_run: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = Predictor.__init__

    def init(self: Predictor, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        self.module = SmallMemory(self.module, sizes)

    monkeypatch.setattr(Predictor, "__init__", init)
    result = run(config(small_run.scenes, tmp_path / "out", batch=4, block=1024))
    assert result.exit_code == 0
    assert max(sizes) == 4, "it did try"
    assert 4 not in sizes[len(sizes) // 2 :], "it remembers"
    assert differences(published(tmp_path / "out"), small_run.published) == []


def test_a_full_scratch_disk_is_told_with_its_path_and_publishes_nothing(
    golden_run: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> Any:
        return Path("/dev/full").open("r+b", buffering=0)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("earthloom.tiling.writing.cog_parts.tempfile.SpooledTemporaryFile", full)
        result = run(config(golden_run.scenes, out))
    assert result.exit_code == 1
    for scene in result.scenes.values():
        assert scene.kind == "PublishError"
        for part in ("No space left on device", tempfile.gettempdir(), "MiB are free", "TMPDIR"):
            assert part in str(scene.error)
    assert not list(out.glob("scenes/*/*/result.json"))
    assert not list(out.glob("scenes/*/*/*.tif"))
    assert run(config(golden_run.scenes, out)).exit_code == 0
    assert differences(published(out), golden_run.published) == []


def test_a_full_output_disk_fails_the_scene_and_leaves_no_part(
    small_run: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name.startswith(".water-index.tif."):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("earthloom.tiling.storage.atomic.os.fsync", fsync)
    result = run(config(small_run.scenes, tmp_path / "out"))
    assert result.exit_code == 1
    assert "No space left on device" in str(result.scenes["east"].error)
    assert "water-index.tif" in str(result.scenes["east"].error)
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not list((tmp_path / "out").glob("scenes/*/*/result.json"))


def test_the_record_of_an_attempt_that_cannot_be_written_stops_nothing(
    small_run: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalObjects.put

    def put(self: LocalObjects, key: str, data: bytes) -> None:
        if "/attempts/" in key:
            raise StorageError(f"cannot write {key}: busy", transient=True)
        real(self, key, data)

    monkeypatch.setattr(LocalObjects, "put", put)
    assert run(config(small_run.scenes, tmp_path / "out")).exit_code == 0


def test_a_fault_that_never_ends_ends_the_block_at_its_deadline(
    small_run: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "earthloom.jobs.execution.engine.BUDGET",
        Budget(attempts=1000, backoff_s=0.05, backoff_max_s=0.05, deadline_s=0.5),
    )
    real = LocalObjects.put

    def put(self: LocalObjects, key: str, data: bytes) -> None:
        if "east" in key and key.endswith("/c/0/0"):
            raise StorageError(f"cannot write {key}: 503", transient=True)
        real(self, key, data)

    monkeypatch.setattr(LocalObjects, "put", put)
    result = run(config(small_run.scenes, tmp_path / "out"))
    assert result.exit_code == 3
    assert "503" in str(result.scenes["east"].error)
    assert result.scenes["west"].status == "published"


def test_every_engine_has_a_deadline_for_each_block() -> None:
    assert earthloom.jobs.execution.engine.BUDGET.deadline_s is not None
