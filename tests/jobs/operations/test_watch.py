"""The watcher over a folder or an API, with an OUT in memory and runs that compute nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from earthloom.jobs.operations import notebook
from earthloom.jobs.operations.watch import HeldError, leased
from earthloom.jobs.operations.watched import read_watched
from earthloom.jobs.records import lease as lease_module
from earthloom.tiling.errors import ConfigError, StorageError
from tests.jobs.operations.watching import Mapper, arrive, look_once, memory_out, remembered, write_file
from tests.memory_store import MemoryStore
from tests.stac_api import item, stac_api


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def mapper(store: MemoryStore) -> Iterator[Mapper]:
    made = Mapper()
    with memory_out(store, made):
        yield made


def test_each_scene_is_mapped_once_and_a_bad_one_is_named_and_stops_no_other(
    tmp_path: Path, store: MemoryStore, mapper: Mapper
) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "a_20200101", "bad_20200102", "c_20200103")
    first = look_once(file)
    assert first.published == ["a_20200101", "c_20200103"]
    assert [(bad.id, bad.reason, bad.again) for bad in first.bad] == [
        ("bad_20200102", "bad_20200102: it is no TIFF", None)
    ]
    assert first.exit_code == 3
    again = look_once(file)
    assert (again.found, again.known, again.new, again.exit_code) == (3, 3, 0, 0)
    arrive(tmp_path, "d_20200104")
    assert look_once(file).published == ["d_20200104"]
    assert mapper.runs == [["a_20200101", "bad_20200102", "c_20200103"], ["d_20200104"]]
    assert remembered(store, "bad") == ["bad_20200102"]


def test_a_replaced_scene_is_mapped_again_and_said_to_be_changed(
    tmp_path: Path, store: MemoryStore, mapper: Mapper
) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "a", "bad")
    look_once(file)
    arrive(tmp_path, "a", "bad", content=b"II*longer")
    seen = look_once(file)
    assert (seen.new, seen.changed) == (2, 2)
    assert mapper.mapped == ["a", "bad", "a", "bad"]


def test_a_scene_that_failed_in_passing_is_tried_after_a_pause_that_grows_and_then_given_up(
    tmp_path: Path, store: MemoryStore, mapper: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "flaky")
    (bad,) = look_once(file).bad
    assert datetime.fromisoformat(bad.again or "") - datetime.fromisoformat(bad.last) == timedelta(minutes=10)
    assert look_once(file).known == 1, "its time has not come"
    (key,) = [key for key in store.objects if "/bad/" in key]
    due = json.loads(store.objects[key]) | {"again": "2020-01-01T00:00:00Z"}
    store.put(key, json.dumps(due).encode())
    mapper.failed.clear()
    (bad,) = look_once(file).bad
    assert datetime.fromisoformat(bad.again or "") - datetime.fromisoformat(bad.last) == timedelta(minutes=20)
    store.put(key, json.dumps(due | {"tries": notebook.TRIES - 1}).encode())
    mapper.failed.clear()
    assert look_once(file).bad[0].again is None
    seen = look_once(file, retry=True)
    assert (seen.retried, seen.published) == (1, ["flaky"])
    assert remembered(store, "bad") == []
    assert remembered(store, "done") == ["flaky"]


def test_a_file_that_is_still_being_copied_is_left_for_the_next_look(tmp_path: Path, mapper: Mapper) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "old", "young")
    moment = time.time() - 120
    os.utime(tmp_path / "in" / "old.tif", (moment, moment))
    seen = look_once(file, settle=60.0)
    assert (seen.published, seen.coming) == (["old"], 1)


def test_late_scenes_are_told_and_the_age_of_the_newest_too(tmp_path: Path, mapper: Mapper) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "LC08_L2SP_017039_20200601_20200610_02_T1_20200601")
    look_once(file)
    arrive(tmp_path, "LC08_L2SP_017039_20200101_20200110_02_T1_20200101")
    seen = look_once(file)
    assert seen.late == 1
    assert seen.newest == datetime(2020, 6, 1, tzinfo=UTC)
    assert seen.lag_s == pytest.approx((datetime.now(UTC) - seen.newest).total_seconds(), abs=5)


def test_a_back_fill_takes_the_days_that_are_asked_for_and_says_what_it_cannot_date(
    tmp_path: Path, mapper: Mapper
) -> None:
    file = write_file(tmp_path)
    days = ("20200101", "20200102", "20200103")
    arrive(tmp_path, *(f"LC08_L2SP_017039_{day}_20200110_02_T1" for day in days), "undated")
    seen = look_once(file, first="2020-01-02", last="2020-01-02")
    assert seen.published == ["LC08_L2SP_017039_20200102_20200110_02_T1"]
    assert seen.undated == 1
    assert len(look_once(file).published) == 3, "the rest is still to be done"
    with pytest.raises(ConfigError, match="after the last one"):
        look_once(file, first="2020-01-02", last="2020-01-01")


def test_many_scenes_are_mapped_some_at_a_time_in_the_order_of_their_days(tmp_path: Path, mapper: Mapper) -> None:
    file = write_file(tmp_path)
    names = [f"LC08_L2SP_017039_2020010{n}_20200110_02_T1" for n in (5, 3, 1, 2, 4)]
    arrive(tmp_path, *names)
    look_once(file, at_once=2)
    assert mapper.runs == [sorted(names)[:2], sorted(names)[2:4], sorted(names)[4:]]


def test_files_of_one_name_get_ids_of_their_own_whether_they_come_on_one_day_or_on_two(
    tmp_path: Path, mapper: Mapper
) -> None:
    file = write_file(tmp_path)
    for folder in ("x", "y"):
        (tmp_path / "in" / folder).mkdir()
        (tmp_path / "in" / folder / "a.tif").write_bytes(b"II*")
    first = look_once(file, at_once=1).published
    assert len(set(first)) == 2
    assert all(name.startswith("a-") for name in first)
    (tmp_path / "in" / "z").mkdir()
    (tmp_path / "in" / "z" / "a.tif").write_bytes(b"II*")
    (second,) = look_once(file).published
    assert second not in first


def test_an_empty_folder_is_no_error(tmp_path: Path, mapper: Mapper) -> None:
    seen = look_once(write_file(tmp_path))
    assert (seen.found, seen.exit_code, mapper.runs) == (0, 0, [])


def test_a_dry_run_writes_and_maps_nothing(tmp_path: Path, store: MemoryStore, mapper: Mapper) -> None:
    arrive(tmp_path, "a")
    assert look_once(write_file(tmp_path), dry=True).new == 1
    assert (store.objects, mapper.runs) == ({}, [])


def test_other_models_or_options_are_another_watch_and_other_engines_are_not(tmp_path: Path, mapper: Mapper) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "a")
    look_once(file)
    file.write_text(file.read_text() + '\nexecutor = "local"\nworkers = 3\n')
    assert look_once(file).known == 1
    file.write_text(file.read_text() + "\nscale = 0.5\n")
    assert look_once(file).published == ["a"]


def test_a_run_that_fails_as_a_whole_leaves_its_scenes_to_the_next_look(tmp_path: Path, mapper: Mapper) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "a")

    def fail() -> None:
        raise StorageError("no cluster")

    mapper.before = fail
    with pytest.raises(StorageError):
        look_once(file)
    mapper.before = lambda: None
    assert look_once(file).published == ["a"]


def test_of_two_watchers_one_works_and_the_other_stands_by(
    tmp_path: Path, store: MemoryStore, mapper: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_file(tmp_path)
    arrive(tmp_path, "a")
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(HeldError, match="another watcher is at work: process"):
            look_once(file)
        refused.append("once")

    mapper.before = second
    assert look_once(file).published == ["a"]
    assert (refused, mapper.mapped) == (["once"], ["a"])
    mapper.before = lambda: None
    look_once(file)  # the lease was given back


def test_a_dead_watchers_lease_is_taken_over_and_a_living_one_says_so(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "BEAT_S", 0.01)
    with leased(store, "lease.json") as first:
        before = store.objects["lease.json"]
        later = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
        monkeypatch.setattr(lease_module, "now", lambda: later)
        deadline = time.monotonic() + 20
        while store.objects["lease.json"] == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.objects["lease.json"] != before, "it says that it lives"
        with pytest.raises(HeldError), leased(store, "lease.json"):
            pass
        monkeypatch.setattr(lease_module, "EXPIRES_S", -1e12)
        with leased(store, "lease.json"):
            monkeypatch.setattr(lease_module, "EXPIRES_S", 1e12)
            while first.held and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not first.held, "the first one hears that it was taken for dead"
    assert "lease.json" not in store.objects, "the one who holds it gives it back"
    assert not [thread for thread in threading.enumerate() if thread.name == "lease" and not thread.daemon]


def test_an_api_is_asked_for_what_it_wrote_since_the_last_look_and_for_the_days_in_which_scenes_come_late(
    tmp_path: Path, store: MemoryStore, mapper: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)

    def at(days: float) -> str:
        return (now - timedelta(days=days)).isoformat(timespec="seconds")

    href = "https://data.example/s.tif"
    with stac_api([item("first", at(3), href, updated=at(2.9))]) as api:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", api.host)
        file = write_file(tmp_path, api.search(collections="a"))
        assert look_once(file).published == ["first"]
        assert "filter" not in api.asked[-1], "the first look asks for everything"
        api.items.append(item("years late", at(900), href, updated=at(0)))
        api.items.append(item("without a date of writing", at(10), href))
        seen = look_once(file)
        assert seen.published == [name for name in seen.published if name != "first"]
        assert len(seen.published) == 2
        assert seen.late == 2
        assert len(api.asked) == 3, "by the day of acquisition, and by the date of writing"
        api.items[0]["properties"]["updated"] = at(0)  # reprocessed
        assert look_once(file).changed == 1
        api.down = True
        with pytest.raises(StorageError):
            look_once(file)
        api.down = False
        assert look_once(file).known >= 1


def test_a_look_by_a_clock_that_stood_in_the_future_hides_nothing_that_comes_until_then(
    tmp_path: Path, store: MemoryStore, mapper: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago, ahead = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
    href = "https://data.example/s.tif"
    with stac_api([item("first", long_ago, href, updated=long_ago), item("flaky", long_ago, href)]) as api:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", api.host)
        file = write_file(tmp_path, api.search(collections="a"))
        look_once(file)
        for key in [key for key in store.objects if "/bad/" in key or key.endswith("/seen.json")]:
            wrong = {"since": ahead} if key.endswith("/seen.json") else {"last": ahead, "again": ahead}
            store.put(key, json.dumps(json.loads(store.objects[key]) | wrong).encode())
        api.items.append(item("next", long_ago, href, updated=long_ago))
        assert sorted(look_once(file).published) == ["flaky", "next"]
        (key,) = [key for key in store.objects if key.endswith("/seen.json")]
        assert json.loads(store.objects[key])["since"] < ahead


def test_items_of_a_static_catalogue_are_taken_as_they_are_linked_and_again_when_they_are_written_anew(
    tmp_path: Path, mapper: Mapper
) -> None:
    folder = tmp_path / "stac"
    folder.mkdir()

    def write(*names: str) -> None:
        for name in names:
            (folder / f"{name}.json").write_text(json.dumps(item(name, "2026-01-01T10:00:00Z", "./s.tif")))
        links = [{"rel": "item", "href": f"./{path.name}"} for path in sorted(folder.glob("s-*.json"))]
        catalog = {"type": "Catalog", "id": "c", "stac_version": "1.1.0", "description": "d", "links": links}
        (folder / "catalog.json").write_text(json.dumps(catalog))

    write()
    file = write_file(tmp_path, str(folder / "catalog.json"))
    assert look_once(file).found == 0, "a catalogue may be empty until tomorrow"
    write("s-1", "s-2")
    assert look_once(file).published == ["s-1", "s-2"]
    again = item("s-2", "2026-01-01T10:00:00Z", "./other.tif")
    (folder / "s-2.json").write_text(json.dumps(again))
    write("s-3")
    seen = look_once(file)
    assert (seen.published, seen.changed) == (["s-2", "s-3"], 1)


def test_a_search_is_not_narrowed_while_a_scene_of_it_is_left_to_be_tried(
    tmp_path: Path, store: MemoryStore, mapper: Mapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = "2020-01-01T00:00:00Z"
    with stac_api([item("flaky", long_ago, "https://data.example/s.tif", updated=long_ago)]) as api:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", api.host)
        file = write_file(tmp_path, api.search(collections="a"))
        look_once(file)
        (key,) = [key for key in store.objects if "/bad/" in key]
        store.put(key, json.dumps(json.loads(store.objects[key]) | {"again": long_ago}).encode())
        assert look_once(file).published == ["flaky"]


def test_a_file_that_is_neither_says_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text('model = "water-index"\nout = "o"\n')
    with pytest.raises(ConfigError, match="name at least one scene"):
        read_watched(str(file), None, {})
    file.write_text(
        'name = "lake"\nbbox = [10, 50, 11, 51]\ncrs = "EPSG:32632"\ngsd = 30\n[[product]]\nmodel = "water-index"\n'
    )
    with pytest.raises(ConfigError, match="give `out`"):
        read_watched(str(file), None, {})
    with pytest.raises(ConfigError, match="'scenes'"):
        read_watched(str(file), str(tmp_path), {})
