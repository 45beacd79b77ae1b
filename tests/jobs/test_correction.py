from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rasterio

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.products.item_table import read_items
from earthloom.jobs.upkeep.gc import sweep
from earthloom.jobs.upkeep.verify import Verification, verify
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from tests.maps import OPTIONS, go, go_until_commit, published
from tests.scenes import landscape, write_scene

WRONG, RIGHT = "2019-01-01T00:00:00Z", "2020-06-01T10:00:00Z"


def scene(folder: Path, name: str = "lake", *, date: str | None = None) -> Path:
    return write_scene(folder / f"{name}.tif", landscape(300, 200, 2, ord(name[0])), ("green", "swir16"), date=date)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OUT whose two scenes have a wrong date, beside the scenes."""
    folder = tmp_path_factory.mktemp("corrected")
    scenes = [scene(folder, name) for name in ("lake", "pond")]
    assert go(*scenes, out=folder / "out", datetime=WRONG).exit_code == 0
    assert go(*scenes, out=folder / "fresh", datetime=RIGHT).exit_code == 0
    return folder


@pytest.fixture
def out(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original / "out", tmp_path / "out"))


def again(original: Path, out: Path, **options: Any) -> RunResult:
    return go(original / "lake.tif", original / "pond.tif", out=out, **options)


def check(out: Path) -> Verification:
    return verify(ObjectRef.parse(str(out)))


def documents(out: Path, name: str = "lake") -> tuple[dict[str, Any], dict[str, Any]]:
    """Result and item of a scene."""
    (folder,) = out.glob(f"scenes/{name}/*")
    result, item = (json.loads((folder / file).read_bytes()) for file in ("result.json", "item.json"))
    return result, item


def assert_as_if_published_so(out: Path, fresh: Path) -> None:
    """Every file and every catalogue is that of an OUT which had the right date from the start."""
    assert published(out) == published(fresh)
    assert (out / "collections/water-index/collection.json").read_bytes() == (
        fresh / "collections/water-index/collection.json"
    ).read_bytes()
    tables = [read_items((one / "collections/water-index/items.parquet").read_bytes()) for one in (out, fresh)]
    assert tables[0] == tables[1]
    assert "correcting" not in documents(out)[0]
    assert documents(out)[0]["files"] == documents(fresh)[0]["files"]
    assert (check(out).problems, check(out).notes) == ([], [])


def test_the_same_command_with_a_right_date_corrects_what_is_published(original: Path, out: Path) -> None:
    done = again(original, out, datetime=RIGHT)
    assert done.exit_code == 0
    assert_as_if_published_so(out, original / "fresh")
    assert {progress.status for progress in done.scenes.values()} == {"corrected"}
    record = {"datetime": [WRONG, RIGHT], "dated_by": ["option", "option"]}
    assert done.scenes["lake"].corrected == record
    assert ("lake", f"the date is {RIGHT} by the user; it was {WRONG} by the user") in done.notes
    (attempt,) = out.glob("runs/*/attempts/2.json")
    assert json.loads(attempt.read_bytes())["scenes"]["pond"]["corrected"] == record


def test_a_correction_is_made_once(original: Path, out: Path) -> None:
    again(original, out, datetime=RIGHT)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    done = again(original, out, datetime=RIGHT)
    assert {progress.status for progress in done.scenes.values()} == {"already published"}
    written = [path.relative_to(out) for path, time in before.items() if path.stat().st_mtime_ns != time]
    (page,) = out.glob("runs/*/index.html")  # tells of the latest attempt
    assert written == [page.relative_to(out)]


def test_a_run_without_a_date_leaves_the_users_word_alone(original: Path, out: Path) -> None:
    done = again(original, out)
    assert {progress.status for progress in done.scenes.values()} == {"already published"}
    assert documents(out)[1]["properties"]["datetime"] == WRONG


def test_a_weaker_source_does_not_correct_and_says_so(tmp_path: Path) -> None:
    path = scene(tmp_path, date="2026:07:01 10:00:00")
    assert go(path, out=tmp_path / "out", datetime=RIGHT).exit_code == 0
    done = go(path, out=tmp_path / "out")
    assert done.scenes["lake"].status == "already published"
    assert documents(tmp_path / "out")[1]["properties"]["datetime"] == RIGHT
    assert any("which stays: 2026-07-01T10:00:00Z by tag is the weaker word" in text for _, text in done.notes)


def test_the_users_word_corrects_a_tag_and_no_pixel_file_changes(tmp_path: Path) -> None:
    path = scene(tmp_path, date="2026:07:01 10:00:00")
    assert go(path, out=tmp_path / "out").exit_code == 0
    files = {name: data for name, data in published(tmp_path / "out").items() if not name.endswith("item.json")}
    assert go(path, out=tmp_path / "out", datetime=RIGHT).exit_code == 0
    assert documents(tmp_path / "out")[1]["properties"]["datetime"] == RIGHT
    after = {name: data for name, data in published(tmp_path / "out").items() if not name.endswith("item.json")}
    assert after == files


def test_no_file_with_pixels_says_a_date(out: Path) -> None:
    (folder,) = out.glob("scenes/lake/*")
    for file in folder.glob("*.tif"):
        with rasterio.open(file) as dataset:
            assert "TIFFTAG_DATETIME" not in dataset.tags()


def test_a_result_that_does_not_say_how_its_date_is_known_is_corrected_by_the_user_only(
    original: Path, out: Path
) -> None:
    for path in out.glob("scenes/*/*/result.json"):
        document = json.loads(path.read_bytes())
        del document["datetime"], document["dated_by"]
        path.write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    assert {one.status for one in again(original, out).scenes.values()} == {"already published"}
    assert {one.status for one in again(original, out, datetime=RIGHT).scenes.values()} == {"corrected"}
    assert_as_if_published_so(out, original / "fresh")


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"properties":[]}', b"\xff", None], ids=["empty", "list", "odd", "bytes", "word"]
)
def test_an_item_that_another_tool_has_changed_is_not_vouched_for(
    original: Path, out: Path, damage: bytes | None
) -> None:
    (path,) = out.glob("scenes/lake/*/item.json")
    path.write_bytes(path.read_bytes().replace(b"water", b"wader") if damage is None else damage)
    done = again(original, out, datetime=RIGHT)
    assert (done.exit_code, done.scenes["lake"].status, done.scenes["pond"].status) == (3, "failed", "corrected")
    assert "was changed by another tool" in str(done.scenes["lake"].error)


def test_a_corrected_result_does_not_count_as_committed_later(tmp_path: Path) -> None:
    path = scene(tmp_path)
    assert go(path, out=tmp_path / "out", datetime=WRONG).exit_code == 0
    assert go(path, out=tmp_path / "out", datetime=WRONG, shard=1024, block=1024).exit_code == 0
    assert go(path, out=tmp_path / "out", datetime=RIGHT).exit_code == 0
    assert len(list(tmp_path.glob("out/scenes/lake/*"))) == 2
    found = sweep(ObjectRef.parse(str(tmp_path / "out")), older_than_s=0, superseded=True).found
    (first,) = [
        path.parent.name
        for path in tmp_path.glob("out/scenes/lake/*/result.json")
        if b"committed_s" in path.read_bytes()
    ]
    assert [one.place.rpartition("/")[2] for one in found if one.kind == "superseded"] == [first]


class _Killed(BaseException):
    """The process dies."""


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_wherever_a_correction_is_killed_the_same_command_ends_it(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    replace = LocalObjects.replace
    ends = []
    for n in range(1, 20):
        out = Path(shutil.copytree(original / "out", tmp_path / f"out-{n}"))
        calls = [0]

        def dies(self: LocalObjects, key: str, data: bytes, etag: str, calls: list[int] = calls, n: int = n) -> bool:
            calls[0] += 1
            if calls[0] >= n and not after:
                raise _Killed
            done = replace(self, key, data, etag)
            if calls[0] >= n:
                raise _Killed
            return done

        with monkeypatch.context() as patched:
            patched.setattr(LocalObjects, "replace", dies)
            try:
                again(original, out, datetime=RIGHT)
            except _Killed:
                ends.append(n)
        if n not in ends:
            break
        found = [documents(out, name) for name in ("lake", "pond")]
        assert all(item["properties"]["datetime"] in (WRONG, RIGHT) for _, item in found)  # a whole item at any time
        if any("correcting" in result and item["properties"]["datetime"] == WRONG for result, item in found):
            assert any("the same run again ends it" in problem.message for problem in check(out).problems)
        done = again(original, out, datetime=RIGHT)
        assert done.exit_code == 0
        assert_as_if_published_so(out, original / "fresh")
    assert len(ends) >= 8  # result, item and result of two scenes, collection, table


def test_a_slow_driver_does_not_undo_a_correction(tmp_path: Path) -> None:
    """It has planned with the old date, and publishes when another driver has committed and corrected."""
    from earthloom.jobs.planning.plan import plan
    from earthloom.jobs.publish.scene import publish
    from earthloom.tiling.storage.store import open_store

    path, out = scene(tmp_path), tmp_path / "out"
    config = load({"scenes": (str(path),), "out": str(out), **OPTIONS, "datetime": WRONG})
    (planned,) = plan(config).scenes
    go_until_commit(path, out=out, datetime=WRONG)
    (folder,) = out.glob("scenes/lake/*")
    late = Path(shutil.copytree(folder / "blocks", tmp_path / "blocks"))
    assert go(path, out=out, datetime=WRONG).exit_code == 0
    assert go(path, out=out, datetime=RIGHT).exit_code == 0
    shutil.copytree(late, folder / "blocks", dirs_exist_ok=True)  # which that driver has read in the meantime
    summary, won = publish(open_store(ObjectRef.parse(str(out))), planned, "late")
    assert (summary.date and summary.date.datetime, won) == (RIGHT, False)
    assert documents(out)[1]["properties"]["datetime"] == RIGHT
    assert check(out).problems == []


def test_two_drivers_that_correct_at_once_agree_in_the_end(original: Path, out: Path) -> None:
    dates = [RIGHT, "2021-01-01T00:00:00Z"]
    with ThreadPoolExecutor(len(dates)) as pool:
        done = list(pool.map(lambda date: again(original, out, datetime=date), dates))
    assert [one.exit_code for one in done] == [0, 0]
    for name in ("lake", "pond"):
        result, item = documents(out, name)
        assert result["datetime"] == item["properties"]["datetime"]
        assert "correcting" not in result
        assert result["datetime"] in dates
    assert (check(out).problems, check(out).notes) == ([], [])
