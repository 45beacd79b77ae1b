from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.execution.event import Event
from earthloom.jobs.publish.catalog import leave
from earthloom.jobs.upkeep.verify import Verification, verify
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.maps import go, lake


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OUT with two scenes of one run."""
    folder = tmp_path_factory.mktemp("verify")
    scenes = [lake(folder, "a"), lake(folder, "b", width=300, height=200)]
    assert go(*scenes, out=folder / "out").exit_code == 0
    return folder / "out"


@pytest.fixture
def out(original: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(original, tmp_path / "out"))


def check(place: Path) -> Verification:
    return verify(ObjectRef.parse(str(place)))


def scene(out: Path, name: str = "a") -> Path:
    (folder,) = out.glob(f"scenes/{name}/*")
    return folder


def test_a_sound_output_has_nothing_wrong_with_it(out: Path) -> None:
    report = check(out)
    assert (report.problems, report.notes, report.exit_code) == ([], [], 0)
    assert report.scenes == 2
    listed = [json.loads(path.read_bytes())["files"] for path in out.glob("scenes/*/*/result.json")]
    assert report.objects == sum(map(len, listed))
    assert report.checked_bytes == sum(stored["size"] for files in listed for stored in files.values())


def test_a_run_at_work_is_no_problem(tmp_path: Path) -> None:
    """Its scenes are linked one by one, and the table of all follows at the end."""
    reports: list[Verification] = []

    def look(event: Event) -> None:
        if event.status == "published":
            reports.append(check(tmp_path / "out"))

    scenes = [lake(tmp_path, name, width=300, height=200) for name in ("a", "b")]
    assert go(*scenes, out=tmp_path / "out", on_event=look).exit_code == 0
    assert [report.problems for report in reports] == [[], []]
    assert any("which a run at work may be entering" in note for note in reports[0].notes)


def test_a_scene_that_is_published_while_bytes_are_read_is_no_problem(out: Path, tmp_path: Path) -> None:
    late: list[int] = []

    def publish(_: str) -> None:
        if not late:
            late.append(go(lake(tmp_path, "late", width=300, height=200), out=out).exit_code)

    report = verify(ObjectRef.parse(str(out)), on_scene=publish)
    assert (late, report.problems) == ([0], [])


def test_a_scene_that_is_removed_while_bytes_are_read_is_no_problem(out: Path) -> None:
    """`earthloom gc --superseded` and this command may be of the same night."""
    store, key = open_store(ObjectRef.parse(str(out))), scene(out).name

    def sweep(prefix: str) -> None:
        if "/b/" in prefix:  # which is read next, and `a`, which was read
            for folder in (scene(out, "b"), scene(out)):
                shutil.rmtree(folder)
            for path in out.glob("runs/*/commit.json"):
                path.unlink()
            leave(store, model="water-index", scene_id="a", key=key)

    report = verify(ObjectRef.parse(str(out)), on_scene=sweep)
    assert [
        problem for problem in report.problems if "a-water-index" in problem.message or "/a/" in problem.place
    ] == []
    assert any("/b/" in note and note.endswith("was removed while it was read") for note in report.notes)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("water-index.tif", "has sha256"),
        ("data.zarr/0/classes/c/0/1", "has sha256"),
        ("data.zarr/zarr.json", "has sha256"),
        ("item.json", "has sha256"),
        ("quicklook.png", "has sha256"),
    ],
)
def test_one_changed_bit_is_found_and_named(out: Path, name: str, problem: str) -> None:
    path = scene(out) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    (found, *_) = check(out).problems
    assert found.place == (scene(out) / name).relative_to(out).as_posix()
    assert problem in found.message


def test_missing_cut_and_foreign_objects_are_named(out: Path) -> None:
    folder = scene(out)
    (folder / "water-index.qml").unlink()
    (folder / "data.zarr/1/classes/c/0/0").write_bytes(b"short")
    (folder / "data.zarr/0/classes/c/9").mkdir(parents=True)
    (folder / "data.zarr/0/classes/c/9/9").write_bytes(b"stray")
    output = {Path(problem.place).relative_to(folder.relative_to(out)).as_posix(): problem.message
            for problem in check(out).problems}  # fmt: skip
    assert set(output) == {"water-index.qml", "data.zarr/1/classes/c/0/0", "data.zarr/0/classes/c/9/9"}
    assert "is missing" in output["water-index.qml"]
    assert re.search(r"has 5 bytes and should have \d+", output["data.zarr/1/classes/c/0/0"])
    assert "is not listed in result.json" in output["data.zarr/0/classes/c/9/9"]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"format": 1}', b'{"format": 7}', b"[1]"])
def test_a_damaged_result_is_an_error_by_name_and_other_scenes_are_still_checked(out: Path, damage: bytes) -> None:
    (scene(out) / "result.json").write_bytes(damage)
    report = check(out)
    assert report.scenes == 1
    assert any(
        p.place.endswith("result.json") and "nothing vouches for this scene" in p.message for p in report.problems
    )


def test_a_result_under_another_name_is_noticed(out: Path) -> None:
    shutil.copytree(scene(out), out / "scenes/c" / scene(out).name)
    assert any("speaks of scenes/a/" in problem.message for problem in check(out).problems)


def test_catalogues_that_miss_or_invent_a_scene_are_named(out: Path) -> None:
    store = open_store(ObjectRef.parse(str(out)))
    leave(store, model="water-index", scene_id="b", key=scene(out, "b").name)
    output = {problem.place: problem.message for problem in check(out).problems}
    assert set(output) == {"collections/water-index/collection.json", "collections/water-index/items.parquet"}
    assert all("which is committed; the same run again enters it" in message for message in output.values())
    shutil.rmtree(scene(out, "b"))
    assert [problem.place.split("/")[-1] for problem in check(out).problems] == ["commit.json"]
    shutil.rmtree(scene(out, "a"))
    invented = [
        problem.message for problem in check(out).problems if "of which no committed scene is there" in problem.message
    ]
    assert len(invented) == 2


def test_the_same_run_again_mends_the_catalogues(out: Path, original: Path) -> None:
    shutil.rmtree(out / "collections/water-index")
    (out / "catalog.json").unlink()
    assert check(out).exit_code == 1
    scenes = [original.parent / "a.tif", original.parent / "b.tif"]
    assert go(*scenes, out=out).exit_code == 0
    assert check(out).problems == []


def test_an_item_that_the_table_tells_otherwise_is_named(out: Path) -> None:
    from earthloom.jobs.products.item_table import items_parquet, read_items

    table = out / "collections/water-index/items.parquet"
    items = read_items(table.read_bytes())
    items[0]["properties"]["datetime"] = "2020-01-01T00:00:00Z"
    table.write_bytes(items_parquet(items))
    assert "otherwise than" in check(out).problems[0].message


def test_one_run_is_checked_alone(out: Path, original: Path) -> None:
    (run,) = out.glob("runs/*")
    assert go(lake(original.parent / "more", "c", width=300, height=200), out=out).exit_code == 0
    (scene(out, "c") / "quicklook.png").unlink()
    report = check(run)
    assert (report.problems, report.scenes, report.run_id) == ([], 2, run.name)
    assert check(out).exit_code == 1
    commit = run / "commit.json"
    output = json.loads(commit.read_bytes())
    commit.write_text(json.dumps(output | {"scenes": {"a": "scenes/a/elsewhere"}}))
    messages = [problem.message for problem in check(run).problems]
    assert "names scenes/a/elsewhere, which is not committed" in messages
    assert any(message.startswith("says nothing of b") for message in messages)
    commit.unlink()
    assert "is not committed" in check(run).problems[0].message


def test_what_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is published there"):
        check(tmp_path)
    with pytest.raises(ConfigError, match="there is no such run"):
        check(tmp_path / "runs" / ("0" * 64))


def test_the_command_line_says_what_is_wrong_by_exit_code_and_json(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main(["verify", str(out), *arguments])
        return int(stop.value.code or 0)

    assert command() == 0
    assert "all is as it was published" in capsys.readouterr().out
    (scene(out) / "quicklook.png").unlink()
    assert command("--json") == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["place"].endswith("quicklook.png")
    assert "missing" in problem["message"]


def test_large_files_are_read_in_pieces(tmp_path: Path) -> None:
    store = open_store(ObjectRef.parse(str(tmp_path)))
    data = bytes(range(256)) * 80_000
    store.put("big", data)
    parts = list(store.parts("big"))
    assert (len(parts), max(map(len, parts)), b"".join(parts) == data) == (3, 8 << 20, True)


@pytest.mark.s3
def test_an_output_in_a_bucket_is_verified(original: Path, s3_env: None) -> None:
    store, local = open_store(ObjectRef.parse("s3://outputs/verify")), open_store(ObjectRef.parse(str(original)))
    for head in local.list():
        store.put(head.key, local.get(head.key))
    report = verify(ObjectRef.parse("s3://outputs/verify"))
    assert (report.problems, report.scenes) == ([], 2)
    store.put("big", bytes(range(256)) * 80_000)
    assert [len(part) for part in store.parts("big")][:2] == [8 << 20, 8 << 20]
    store.delete("big")
    shard = next(head for head in store.list("scenes") if head.key.endswith("/c/0/0"))
    store.put(shard.key, b"x" * shard.size)
    assert [problem.place for problem in verify(ObjectRef.parse("s3://outputs/verify")).problems] == [shard.key]


def test_weights_for_nodes_are_hashed(out: Path) -> None:
    data = b"weights"
    folder = out / "models" / hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True)
    (folder / "card.json").write_bytes(b"{}")
    (folder / "weights.safetensors").write_bytes(data)
    before = check(out)
    assert before.problems == []
    (folder / "weights.safetensors").write_bytes(b"weighty")
    report = check(out)
    assert [problem.place for problem in report.problems] == [f"models/{folder.name}/weights.safetensors"]
    assert report.objects == before.objects
