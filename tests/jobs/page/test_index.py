"""The index beside a collection: made by runs, a function of what the collection links, and never in a run's way."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.page import index
from earthloom.jobs.page.index import index_of, refresh, refresh_all
from earthloom.jobs.page.site import OWN, file_of_page, write_page
from earthloom.jobs.publish.catalog import leave
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from tests.maps import go, lake

FOLDER = "collections/water-index"


def scenes(folder: Path, *names: str) -> list[Path]:
    return [lake(folder / "in", name, width=96, height=64, seed=number) for number, name in enumerate(names)]


def index_bytes(out: Path) -> bytes:
    return (out / FOLDER / index.FILE).read_bytes()


def store_of(out: Path) -> Store:
    return open_store(ObjectRef.parse(str(out)))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OUT with scenes a, b and c, which tests do not change."""
    base = tmp_path_factory.mktemp("index")
    assert go(*scenes(base, "a", "b", "c"), out=base / "out").exit_code == 0
    return base / "out"


def test_a_run_makes_the_page_and_an_index_of_all_that_is_published(three: Path) -> None:
    assert [row["scene"] for row in json.loads(index_bytes(three))["rows"]] == ["a", "b", "c"]
    assert (three / "index.html").read_bytes() == file_of_page("index.html")
    assert {path.name for path in (three / "page").iterdir()} >= set(OWN)


def test_the_index_is_the_same_in_whatever_order_scenes_came(three: Path, tmp_path: Path) -> None:
    a, b, c = scenes(three.parent, "a", "b", "c")
    for scene in (c, a, b):
        assert go(scene, out=tmp_path).exit_code == 0
    assert index_bytes(tmp_path) == index_bytes(three)


def test_an_index_that_is_lost_or_damaged_is_made_again_by_a_run_without_news(three: Path, tmp_path: Path) -> None:
    (scene,) = scenes(tmp_path, "only")
    assert go(scene, out=tmp_path / "out").exit_code == 0
    whole = index_bytes(tmp_path / "out")
    for damaged in (b"", b"[]", b'{"format": 3, "rows": [7]}', b'{"format": 1, "rows": []}'):
        (tmp_path / "out" / FOLDER / index.FILE).write_bytes(damaged)
        assert go(scene, out=tmp_path / "out").exit_code == 0
        assert index_bytes(tmp_path / "out") == whole


def test_a_result_that_is_taken_out_of_the_catalogue_leaves_the_index(tmp_path: Path) -> None:
    result = go(*scenes(tmp_path, "stays", "goes"), out=tmp_path / "out")
    key = result.results["goes"].prefix.rpartition("/")[2]
    leave(store_of(tmp_path / "out"), model="water-index", scene_id="goes", key=key)
    assert [row["scene"] for row in json.loads(index_bytes(tmp_path / "out"))["rows"]] == ["stays"]


def test_of_several_results_of_a_scene_the_one_that_was_committed_last_is_current(tmp_path: Path) -> None:
    (scene,), out = scenes(tmp_path, "twice"), tmp_path / "out"
    paths = [go(scene, out=out, flips=flips).results["twice"].prefix for flips in (True, False)]
    assert go(scene, out=out, flips=True).exit_code == 0  # finds its result and changes nothing
    rows = {row["path"]: row for row in json.loads(index_bytes(out))["rows"]}
    assert {path: row.get("superseded", False) for path, row in rows.items()} == {paths[0]: True, paths[1]: False}
    whole = index_bytes(out)
    (out / FOLDER / index.FILE).unlink()
    refresh_all(store_of(out))
    assert index_bytes(out) == whole
    leave(store_of(out), model="water-index", scene_id="twice", key=paths[1].rpartition("/")[2])
    (row,) = json.loads(index_bytes(out))["rows"]
    assert "superseded" not in row


def test_a_date_that_is_corrected_is_corrected_in_the_index(tmp_path: Path) -> None:
    (scene,) = scenes(tmp_path, "dated")
    for date in (None, "2020-02-03"):
        assert go(scene, out=tmp_path / "out", **({"datetime": date} if date else {})).exit_code == 0
    (row,) = json.loads(index_bytes(tmp_path / "out"))["rows"]
    assert row["start"] == "2020-02-03T00:00:00Z"


def test_an_item_that_is_no_longer_ours_is_left_out_and_said(three: Path, tmp_path: Path, caplog: Any) -> None:
    store = store_of(three)
    items = {row["id"]: {"type": "Feature"} for row in json.loads(index_bytes(three))["rows"][:1]}
    with caplog.at_level(logging.WARNING):
        rows = index_of(store, FOLDER, items=items)["rows"]
    assert [row["scene"] for row in rows] == ["b", "c"]
    assert "is not shown by the page" in caplog.text


def test_storage_that_fails_is_said_and_stops_nothing(
    three: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fails(*_: Any) -> Any:
        raise StorageError("the disk is full")

    store = store_of(three)
    for name in ("get", "put", "create", "replace", "get_versioned"):
        monkeypatch.setattr(type(store), name, fails)
    with caplog.at_level(logging.WARNING):
        refresh(store, FOLDER)
        write_page(store)
    assert caplog.text.count("the disk is full") == 2


def test_indices_of_an_older_out_can_be_made(three: Path) -> None:
    whole = index_bytes(three)
    (three / FOLDER / index.FILE).unlink()
    refresh_all(store_of(three))
    assert index_bytes(three) == whole


def test_what_is_written_already_is_not_written_again(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(three)
    monkeypatch.setattr(type(store), "put", lambda *_: pytest.fail("nothing has changed"))
    write_page(store)
