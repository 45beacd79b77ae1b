"""Surveys and publications are tasks like blocks: they overlap, are done once, and leave the driver nothing but records."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from earthloom.cluster.allowance import Allowance
from earthloom.cluster.session import Session
from earthloom.jobs.execution.event import Event
from earthloom.jobs.execution.tasks import BlockTask
from earthloom.jobs.execution.worker import BlockWorker
from earthloom.jobs.publish.scene import publish
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from tests.maps import go, lake, published


def test_a_scene_is_published_while_blocks_of_the_next_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publishing, computing, met = threading.Event(), threading.Event(), list[bool]()
    compute = BlockWorker.__call__

    def block(self: BlockWorker, task: BlockTask) -> Any:
        if task.key == "b/1_2":
            computing.set()
            met.append(publishing.wait(60))
        return compute(self, task)

    def late(store: Any, plan: Any, write_id: str) -> Any:
        if plan.scene.id == "a":
            publishing.set()
            met.append(computing.wait(60))
        return publish(store, plan, write_id)

    monkeypatch.setattr(BlockWorker, "__call__", block)
    monkeypatch.setattr("earthloom.jobs.execution.scene_worker.publish", late)
    scenes = lake(tmp_path, "a", width=300, height=200), lake(tmp_path, "b", seed=1)
    result = go(*scenes, out=tmp_path / "out")
    assert result.exit_code == 0
    assert met == [True, True]


def test_as_many_scenes_are_published_at_once_as_there_are_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)

    def late(store: Any, plan: Any, write_id: str) -> Any:
        together.wait(60)
        return publish(store, plan, write_id)

    monkeypatch.setattr("earthloom.jobs.execution.scene_worker.publish", late)
    scenes = [lake(tmp_path, name, width=300, height=200) for name in "abcd"]
    assert go(*scenes, out=tmp_path / "out").exit_code == 0


def test_the_driver_touches_no_pixel_and_no_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: Session
) -> None:
    """Only this process refuses them; the workers are others."""
    touched: list[str] = []

    def guard(name: str) -> None:
        real = getattr(LocalObjects, name)

        def call(self: LocalObjects, key: str = "", *rest: Any, **options: Any) -> Any:
            if "scenes/" in key and not key.endswith((".json", "/blocks")):
                touched.append(f"{name} {key}")
            return real(self, key, *rest, **options)

        monkeypatch.setattr(LocalObjects, name, call)

    for name in ("get", "get_versioned", "get_range", "parts", "put", "create", "replace", "upload", "delete", "zarr"):
        guard(name)
    result = go(lake(tmp_path), out=tmp_path / "out", executor="ray", workers=1)
    assert result.exit_code == 0
    assert touched == []


def test_a_survey_is_taken_once_for_all_blocks_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from earthloom.jobs.execution import survey

    taken: list[str] = []
    real = survey.take_survey

    def take(plan: Any, *rest: Any) -> Any:
        taken.append(plan.scene.id)
        return real(plan, *rest)

    monkeypatch.setattr(survey, "take_survey", take)
    scene, out = lake(tmp_path), tmp_path / "out"
    options = {"model": "stretch", "block": 512}
    assert go(scene, out=out, **options).exit_code == 0
    assert taken == ["lake"]
    (document,) = out.glob("scenes/lake/*/survey.json")
    before, maps = document.read_bytes(), published(out)
    (document.parent / "result.json").unlink()
    for path in document.parent.glob("blocks/*"):
        path.unlink()
    assert go(scene, out=out, **options).exit_code == 0
    assert taken == ["lake"], "what storage holds is not surveyed again"
    document.write_bytes(before[:-9])
    (document.parent / "result.json").unlink()
    for path in document.parent.glob("blocks/*"):
        path.unlink()
    assert go(scene, out=out, **options).exit_code == 0
    assert taken == ["lake", "lake"], "a damaged document is replaced"
    assert document.read_bytes() == before
    assert published(out) == maps
    assert verify(ObjectRef.parse(str(out))).problems == []


def test_a_survey_that_fails_fails_its_scene_by_name_and_computes_none_of_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from earthloom.jobs.execution import survey
    from earthloom.tiling.errors import SceneError

    real = survey.take_survey

    def take(plan: Any, *rest: Any) -> Any:
        if plan.scene.id == "bad":
            raise SceneError("bad: cannot decode its pixels")
        return real(plan, *rest)

    monkeypatch.setattr(survey, "take_survey", take)
    scenes = [lake(tmp_path, name, width=300, height=200) for name in ("bad", "good")]
    result = go(*scenes, out=tmp_path / "out", model="stretch")
    assert result.exit_code == 3
    assert str(result.scenes["bad"].error) == "surveying: bad: cannot decode its pixels"
    assert not list((tmp_path / "out").glob("scenes/bad/*/blocks/*"))


def test_a_run_over_many_scenes_rewrites_its_catalogues_once_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[str] = []

    def counted(name: str) -> None:
        real = getattr(LocalObjects, name)

        def call(self: LocalObjects, key: str, *rest: Any) -> Any:
            if key.startswith("collections/") or key == "catalog.json":
                writes.append(key)
            return real(self, key, *rest)

        monkeypatch.setattr(LocalObjects, name, call)

    counted("create")
    counted("replace")
    monkeypatch.setattr("earthloom.jobs.publish.linker.PAUSE_S", 3600.0)
    out = tmp_path / "out"
    scenes = [lake(tmp_path / "in", f"s{number}", width=40, height=30) for number in range(12)]
    assert go(*scenes, out=out).exit_code == 0
    folder = "collections/water-index"
    names = ("collection.json", "items.parquet", "latest.parquet", "page.json", "water-index.qlr")
    expected = ["catalog.json", *(f"{folder}/{name}" for name in names)]
    assert sorted(writes) == expected, "one batch, however many scenes"
    writes.clear()
    assert go(*scenes, out=out).exit_code == 0
    assert writes == [], "and none where there is no news"


def test_items_appear_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthloom.jobs.publish.linker.PAUSE_S", 0.01)
    out, linked = tmp_path / "out", threading.Event()
    compute = BlockWorker.__call__

    def block(self: BlockWorker, task: BlockTask) -> Any:
        while task.plan.scene.id == "last" and not linked.wait(0.05):
            collection = out / "collections/water-index/collection.json"
            if collection.exists() and b"first-water-index" in collection.read_bytes():
                linked.set()
        return compute(self, task)

    monkeypatch.setattr(BlockWorker, "__call__", block)
    seen: list[Event] = []
    scenes = [lake(tmp_path, name, width=300, height=200) for name in ("first", "last")]
    assert go(*scenes, out=out, on_event=seen.append).exit_code == 0
    assert linked.is_set()
    collection = json.loads((out / "collections/water-index/collection.json").read_bytes())
    assert len([link for link in collection["links"] if link["rel"] == "item"]) == 2


def test_an_allowance_serves_in_order_and_never_gives_more_than_there_is() -> None:
    allowance, held, most = Allowance(10), [0], [0]
    lock = threading.Lock()

    def use(share: int) -> None:
        with allowance.taken(share):
            with lock:
                held[0] += min(share, 10)
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= min(share, 10)

    threads = [threading.Thread(target=use, args=(share,)) for share in (3, 7, 99, 1, 10, 5, 5, 5, 2) * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert 5 <= most[0] <= 10
