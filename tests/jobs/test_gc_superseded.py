"""Older results of the same files: when `gc` removes them, and what beside a run that enters them meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from earthloom.jobs.publish.catalog import leave, linked_items
from earthloom.jobs.records.documents import merge
from earthloom.jobs.records.run_commit import note_superseded
from earthloom.jobs.upkeep import gc
from earthloom.jobs.upkeep.gc import Sweep
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from tests.jobs.aged import age, clean, files, kinds
from tests.maps import go, lake


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
