"""What `gc` removes of abandoned scenes, runs and leftovers, and what it never touches."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.execution.event import Event
from earthloom.jobs.records import attempt as attempts
from earthloom.jobs.upkeep import gc
from earthloom.jobs.upkeep.gc import Sweep
from earthloom.jobs.upkeep.status import status
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import Head, ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.jobs.aged import DAY_S, age, clean, files, kinds
from tests.maps import go, go_until_commit, lake


@pytest.fixture(scope="module")
def abandoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, and an OUT in which one is published and the other's run was killed before its last block was done."""
    root = tmp_path_factory.mktemp("abandoned")
    out, other = root / "out", tmp_path_factory.mktemp("other")
    assert go(lake(root, "whole", width=300, height=200), out=out).exit_code == 0
    (folder,) = go_until_commit(lake(root, "half"), out=other)
    (folder / "blocks/1_2.json").unlink()
    for name in ("scenes", "runs"):
        shutil.copytree(other / name, out / name, dirs_exist_ok=True)
    return root


@pytest.fixture
def interrupted(abandoned: Path, tmp_path: Path) -> Path:
    """A copy of that OUT, and of the scenes beside it."""
    shutil.copytree(abandoned, tmp_path, copy_function=shutil.copyfile, dirs_exist_ok=True)
    return tmp_path / "out"


def test_a_run_that_another_sweep_removes_meanwhile_is_gone_for_sweeps_and_for_status(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(interrupted, days=8)
    (gone,) = (path for path in interrupted.glob("runs/*/") if not (path / "commit.json").exists())
    kept, walk = shutil.copytree(gone, tmp_path / "kept"), LocalObjects.list

    calls = iter([True, False, True])  # of `status`; of `gc`, which first asks whether there is any run

    def swept(store: LocalObjects, prefix: str = "") -> Iterator[Head]:
        heads = list(walk(store, prefix))
        if prefix == "runs" and next(calls, False):
            shutil.rmtree(gone)
        return iter(heads)

    monkeypatch.setattr(LocalObjects, "list", swept)
    assert [run["state"] for run in status(ObjectRef.parse(str(interrupted)))["runs"]] == ["committed"]
    shutil.copytree(kept, gone)
    assert "scene" in kinds(clean(interrupted))
    assert not gone.exists()


def test_an_abandoned_scene_and_its_run_go_and_nothing_else_does(interrupted: Path, tmp_path: Path) -> None:
    out = interrupted
    (out / "scenes/whole/.x.json.0a1b2c.partial").write_bytes(b"half")
    (out / "runs/.probe-00").write_bytes(b"1")
    age(out, days=8)
    before = files(out)
    found = clean(out)
    assert kinds(found) == ["leftover", "leftover", "run", "scene"]
    assert files(out) == before, "a dry run touched something"
    assert found.removed == []
    done = clean(out, delete=True)
    assert len(done.removed) == 4
    assert not list(out.glob("scenes/half/*/*"))
    assert len(list(out.glob("runs/*"))) == 1
    assert verify(ObjectRef.parse(str(out))).problems == []
    assert clean(out).found == []
    again = go(tmp_path / "whole.tif", tmp_path / "half.tif", out=out)
    assert [progress.status for progress in again.scenes.values()] == ["already published", "published"]


def test_what_is_young_or_at_work_is_kept(interrupted: Path) -> None:
    out = interrupted
    assert clean(out).found == [], "written to a moment ago"
    age(out, days=8)
    (half,) = [path for path in out.glob("runs/*/attempts/1.json") if not (path.parents[1] / "commit.json").exists()]
    output = json.loads(half.read_bytes())
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    half.write_text(json.dumps(output | {"state": "running", "updated": now}))
    moment = time.time() - 8 * DAY_S
    os.utime(half, (moment, moment))
    assert clean(out).found == [], "its run says that it lives"
    half.write_text('{"format": 9}')
    os.utime(half, (moment, moment))
    kept = clean(out)
    assert kept.found == [], "a later version may be at work there"
    assert "has format 9" in kept.notes[0]


def test_a_run_at_work_keeps_its_scenes_and_what_it_is_writing_even_at_age_zero(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []

    def collect(event: Event) -> None:
        if event.blocks_done == 3:
            (scene,) = out.glob("scenes/lake/*")
            for folder, hours in ((scene, 0), (scene, 2), (out, 0)):
                partial = folder / f".x.{hours}a1b2c.partial"
                partial.write_bytes(b"half")
                moment = time.time() - hours * 3600
                os.utime(partial, (moment, moment))
            seen.append(clean(out, days=0, delete=True))

    assert go(lake(tmp_path), out=out, on_event=collect).exit_code == 0
    (done,) = seen
    assert [Path(rubbish.place).name for rubbish in done.found] == [".x.2a1b2c.partial"], (
        "its writer has long been dead"
    )
    assert [Path(rubbish.place).name for rubbish in clean(out, days=0, living_s=0).found] == [".x.0a1b2c.partial"] * 2


@pytest.mark.parametrize("ahead_s", [-3 * 3600, 3 * 3600, 400 * DAY_S])
@pytest.mark.parametrize("whose", ["the run's", "this command's"])
def test_a_run_at_work_keeps_its_scenes_whosever_clock_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float, whose: str
) -> None:
    def wrong() -> str:
        return datetime.fromtimestamp(time.time() + ahead_s, UTC).isoformat()

    out, swept = tmp_path / "out", list[Sweep]()

    def collect(event: Event) -> None:
        if event.blocks_done == 3:
            with monkeypatch.context() as patch:
                if whose == "this command's":
                    patch.setattr(gc, "time", SimpleNamespace(time=lambda: time.time() + ahead_s))
                swept.append(clean(out, days=0, delete=True))

    if whose == "the run's":
        monkeypatch.setattr(attempts, "now", wrong)
    assert go(lake(tmp_path), out=out, on_event=collect).exit_code == 0
    assert [(done.found, done.removed) for done in swept] == [([], [])]
    assert not list(out.glob("runs/.probe*")), "nor is anything left of looking at the storage's clock"


def test_status_calls_a_host_with_a_wrong_clock_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, said = tmp_path / "out", list[str]()

    def look(_: Event) -> None:
        main(["status", str(out)])
        said.append(" ".join(capsys.readouterr().out.split()))

    scene = lake(tmp_path, width=64, height=64)
    with pytest.MonkeyPatch.context() as patch:
        later = datetime.now(UTC) + timedelta(hours=2)
        patch.setattr(attempts, "now", later.isoformat)
        go(scene, out=out, on_event=look)
    assert "running" in said[0]
    assert re.search(r"the clock of \S+ is 1[12]\d min ahead of the storage's", said[0])
    shutil.rmtree(out)
    go(scene, out=out, on_event=look)
    assert "clock" not in said[-1]


def test_a_run_that_is_just_beginning_keeps_its_plan_and_what_it_is_writing_even_at_age_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fsync, swept = tmp_path / "out", os.fsync, list[Sweep]()

    def slow(descriptor: int) -> None:
        fsync(descriptor)
        if "attempts/.1.json." in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and not swept:
            swept.append(clean(out, days=0, delete=True))

    monkeypatch.setattr("earthloom.tiling.storage.atomic.os.fsync", slow)
    assert go(lake(tmp_path, width=300, height=200), out=out).exit_code == 0
    assert [done.removed for done in swept] == [[]]


def test_two_sweeps_at_once_remove_everything_once(interrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(interrupted, days=8)
    rmtree = shutil.rmtree

    def twice(path: Path) -> None:
        rmtree(path)  # the other one was faster, by a hair
        rmtree(path)

    monkeypatch.setattr("earthloom.tiling.storage.local.shutil.rmtree", twice)
    assert kinds(clean(interrupted, delete=True)) == ["run", "scene"]
    assert not list(interrupted.glob("scenes/half/*/*"))


def test_a_scene_that_is_taken_up_again_between_finding_and_removing_is_kept(
    interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(interrupted, days=8)
    remove = gc._remove
    monkeypatch.setattr(gc, "_remove", lambda *rest: (go(tmp_path / "half.tif", out=interrupted), remove(*rest))[1])
    done = clean(interrupted, delete=True)
    assert done.removed == []
    assert all("came to life meanwhile" in note for note in done.notes)
    assert verify(ObjectRef.parse(str(interrupted))).scenes == 2


def test_a_folder_without_runs_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run has been started there"):
        clean(tmp_path / "nothing")


def test_the_command_line_lists_by_default_and_removes_when_told(
    interrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    age(interrupted, days=8)

    def command(*arguments: str) -> dict[str, Any]:
        main(["gc", str(interrupted), "--json", *arguments])
        return dict(json.loads(capsys.readouterr().out))

    assert command("--older-than", "9d")["found"] == []
    listed = command()
    assert (listed["dry_run"], len(listed["found"]), listed["removed"]) == (True, 2, [])
    assert len(command("--delete")["removed"]) == 2
    main(["gc", str(interrupted)])
    assert "nothing to remove" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["gc", str(interrupted), "--older-than", "soon"])
    assert stop.value.code == 2
    assert "--older-than" in capsys.readouterr().err


@pytest.mark.s3
def test_a_bucket_is_cleaned_and_says_what_it_cannot_list(tmp_path: Path, s3_env: None) -> None:
    out = "s3://outputs/gc"
    assert go(lake(tmp_path, "whole", width=300, height=200), out=out).exit_code == 0
    assert go(lake(tmp_path, "half"), out=out, max_runtime=1e-6).exit_code == 1
    time.sleep(1.1)  # S3 tells times in whole seconds
    done = clean(out, days=0, delete=True, living_s=0)
    assert kinds(done) == ["run", "scene"]
    assert len(done.removed) == 2
    assert any("AbortIncompleteMultipartUpload" in note for note in done.notes)
    store = open_store(ObjectRef.parse(out))
    assert not list(store.list("scenes/half"))
    report = verify(ObjectRef.parse(out))
    assert (report.problems, report.scenes) == ([], 1)


def test_tiles_that_outlived_the_commit_go_and_nothing_else_of_the_scene(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = out / go(lake(tmp_path, "whole", width=300, height=200), out=out).results["whole"].prefix
    tiles = folder / "blocks" / "0_0.tiles"
    tiles.write_bytes(b"left by a driver that died")
    before = files(out)
    assert clean(out).found == [], "it is not old enough"
    age(out, 8)
    done = clean(out, delete=True)
    assert [(one.kind, out / one.place) for one in done.removed] == [("leftover", tiles)]
    assert files(out) == [path for path in before if path != tiles]
    assert verify(ObjectRef.parse(str(out))).problems == []


def test_weights_that_nodes_lacked_go_when_nobody_has_wanted_them_for_long(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert go(lake(tmp_path, width=64, height=64), out=out).exit_code == 0
    old, new, own = out / "models" / ("a" * 64), out / "models" / ("b" * 64), out / "models" / "mine"
    for folder in (old, new, own):
        folder.mkdir(parents=True)
        for name in ("card.json", "weights.safetensors"):
            (folder / name).write_bytes(b"1")
    age(out, 30)
    (new / "weights.safetensors").write_bytes(b"2")
    done = clean(out, delete=True)
    assert [(one.kind, one.place, one.objects) for one in done.removed] == [("weights", f"models/{'a' * 64}", 2)]
    assert (old.exists(), new.exists(), own.exists()) == (False, True, True)


def test_weights_stay_while_a_run_is_at_work(tmp_path: Path) -> None:
    out, found = tmp_path / "out", list[list[str]]()
    folder = out / "models" / ("a" * 64)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"1")
    age(out, 30)
    go(lake(tmp_path, width=64, height=64), out=out, on_event=lambda _: found.append(kinds(clean(out))))
    assert found
    assert not any("weights" in one for one in found)
    assert kinds(clean(out)) == ["weights"]
