from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.execution.driver import Event
from earthloom.jobs.publish.catalog import leave, linked_items
from earthloom.jobs.records.documents import merge
from earthloom.jobs.records.run_commit import note_superseded
from earthloom.jobs.upkeep import gc
from earthloom.jobs.upkeep.gc import Sweep, sweep
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from tests.maps import go, go_until_commit, lake

DAY_S = 86400.0


def age(folder: Path, days: float) -> None:
    """Make everything below a folder look that old, records of attempts too."""
    for path in folder.rglob("*"):
        if path.is_file():
            if path.parent.name == "attempts":
                output = json.loads(path.read_bytes()) | {"updated": "2020-01-01T00:00:00Z"}
                path.write_text(json.dumps(output))
            moment = time.time() - days * DAY_S
            os.utime(path, (moment, moment))


def clean(out: Path | str, days: float = 7, **options: Any) -> Sweep:
    return sweep(ObjectRef.parse(str(out)), older_than_s=days * DAY_S, **options)


def kinds(done: Sweep) -> list[str]:
    return sorted(rubbish.kind for rubbish in done.found)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


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


@pytest.fixture
def renewed(tmp_path: Path) -> Path:
    """One scene that was mapped, changed and mapped again ten days ago, beside one that was not."""
    out = tmp_path / "out"
    steady = lake(tmp_path, "steady", width=300, height=200)
    for seed, days in ((0, 20), (1, 10)):
        assert go(lake(tmp_path, width=300, height=200, seed=seed), steady, out=out).exit_code == 0
        for folder in out.glob("scenes/*/*"):
            if not (folder / "seen").exists():
                age(folder, days=days)
                (folder / "seen").touch()
    for mark in out.glob("scenes/*/*/seen"):
        mark.unlink()
    return out


def test_superseded_results_go_only_when_asked_for_and_leave_no_link(renewed: Path) -> None:
    assert clean(renewed).found == []
    (old,) = clean(renewed, superseded=True).found
    assert old.kind == "superseded"
    newer = max(renewed.glob("scenes/lake/*/result.json"), key=lambda path: path.stat().st_mtime).parent
    assert old.place != newer.relative_to(renewed).as_posix()
    done = clean(renewed, superseded=True, delete=True)
    assert [rubbish.place for rubbish in done.removed] == [old.place]
    assert not files(renewed / old.place)
    report = verify(ObjectRef.parse(str(renewed)))
    assert (report.problems, report.scenes) == ([], 2)
    store = open_store(ObjectRef.parse(str(renewed)))
    assert len(linked_items(store, "water-index")) == 2
    commits = [json.loads(path.read_bytes()) for path in renewed.glob("runs/*/commit.json")]
    assert sorted(len(commit["superseded"]) for commit in commits) == [0, 1]
    assert clean(renewed, superseded=True).found == []


def test_a_folder_without_runs_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run has been started there"):
        clean(tmp_path / "nothing")


def test_results_of_another_place_grid_or_option_are_no_old_versions(tmp_path: Path) -> None:
    """A scene's id is the name of its file, so one name may stand for many places."""
    out = tmp_path / "out"
    here, there = lake(tmp_path / "a", width=300, height=200), lake(tmp_path / "b", width=300, height=200, seed=1)
    grid = "EPSG:32617,10m,300000,4496000,303000,4500000"
    for scene, options in ((here, {}), (here, {"onto": grid}), (here, {"flips": True}), (there, {})):
        assert go(scene, out=out, **options).exit_code == 0
    assert len(list(out.glob("scenes/lake/*/result.json"))) == 4
    age(out, days=20)
    for days, folder in enumerate(sorted(out.glob("scenes/lake/*"))):
        age(folder, days=10 + days)
    assert clean(out, superseded=True).found == []


def test_a_newer_result_that_is_not_yet_in_the_table_supersedes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run was killed between the link and the table."""
    out = tmp_path / "out"
    assert go(lake(tmp_path, width=300, height=200, seed=0), out=out).exit_code == 0
    (old,) = out.glob("scenes/lake/*")
    age(out, days=20)
    with monkeypatch.context() as patched:
        patched.setattr("earthloom.jobs.execution.driver._Driver._catalogue", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            go(lake(tmp_path, width=300, height=200, seed=1), out=out)
    (new,) = set(out.glob("scenes/lake/*")) - {old}
    age(new, days=10)
    assert "superseded" not in kinds(clean(out, superseded=True, delete=True))
    assert go(lake(tmp_path, width=300, height=200, seed=1), out=out).exit_code == 0
    assert verify(ObjectRef.parse(str(out))).problems == []


def test_a_row_that_a_run_enters_after_the_result_was_removed_is_taken_back(
    renewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps: list[Sweep | None] = []

    def late(store: Store, key: str, change: Any) -> None:
        if key.endswith("items.parquet") and not sweeps:
            sweeps.append(None)
            sweeps[0] = clean(renewed, superseded=True, delete=True, living_s=0)
        merge(store, key, change)

    monkeypatch.setattr("earthloom.jobs.publish.catalog.merge", late)
    go(lake(tmp_path, width=300, height=200, seed=0), out=renewed)
    assert sweeps[0]
    assert kinds(sweeps[0]) == ["superseded"]
    assert verify(ObjectRef.parse(str(renewed))).problems == []


def test_the_only_result_and_the_newest_are_never_superseded(renewed: Path) -> None:
    assert clean(renewed, days=11, superseded=True).found == [], "the newer one is younger than that"
    store = open_store(ObjectRef.parse(str(renewed)))
    newer = max(renewed.glob("scenes/lake/*/result.json"), key=lambda path: path.stat().st_mtime).parent
    leave(store, model="water-index", scene_id="lake", key=newer.name)
    assert clean(renewed, superseded=True).found == [], "readers are not led to the newer one"
    for path in renewed.glob("scenes/lake/*/result.json"):
        os.utime(path, (1e9, 1e9))
    assert clean(renewed, superseded=True).found == [], "neither is older"


def test_a_removal_that_was_killed_at_any_step_is_finished_by_the_next(
    renewed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = clean(renewed, superseded=True).found
    for step in ("note_superseded", "delete", "delete_all"):
        with monkeypatch.context() as patch:

            def killed(*_: Any, **__: Any) -> None:
                raise KeyboardInterrupt

            patch.setattr(
                f"earthloom.jobs.upkeep.gc.{step}"
                if step == "note_superseded"
                else f"earthloom.tiling.storage.local.LocalObjects.{step}",
                killed,
            )
            with pytest.raises(KeyboardInterrupt):
                clean(renewed, superseded=True, delete=True)
        for problem in verify(ObjectRef.parse(str(renewed))).problems:
            assert "collections/" in problem.place, "a commit or a scene is broken"
            assert "the same run again enters it" in problem.message
    assert clean(renewed, superseded=True, delete=True).removed
    assert not files(renewed / old.place)
    assert verify(ObjectRef.parse(str(renewed))).problems == []


def test_an_old_result_that_a_run_enters_while_it_is_removed_leaves_no_dangling_link(
    renewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has seen the commit and links the item after the result was removed."""
    (old,) = clean(renewed, superseded=True).found
    swept: list[bool] = []

    def late(store: Store, key: str, change: Any) -> None:
        if not swept and key.endswith("collection.json"):
            swept.append(True)
            clean(renewed, superseded=True, delete=True, living_s=0)
        merge(store, key, change)

    monkeypatch.setattr("earthloom.jobs.publish.catalog.merge", late)
    result = go(lake(tmp_path, width=300, height=200, seed=0), out=renewed)
    assert swept
    assert old.place.endswith(str(result.scenes["lake"].key))
    assert "was removed while it was being linked; run again" in str(result.scenes["lake"].error)
    assert [p for p in verify(ObjectRef.parse(str(renewed))).problems if "no committed scene" in p.message] == []
    assert go(tmp_path / "lake.tif", out=renewed).exit_code == 0


def test_an_old_result_that_a_run_enters_just_before_it_is_removed_leaves_no_dangling_link(
    renewed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = lake(tmp_path, width=300, height=200, seed=0)
    note = note_superseded

    def late(store: Store, run_id: str, prefix: str) -> None:
        assert go(again, out=renewed).scenes["lake"].status == "already published"
        note(store, run_id, prefix)

    monkeypatch.setattr(gc, "note_superseded", late)
    assert clean(renewed, superseded=True, delete=True).removed
    report = verify(ObjectRef.parse(str(renewed)))
    assert [problem for problem in report.problems if "collections/" in problem.place] == []


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
