"""Records that a disk, a hand or another program has damaged: told by name, and never at another scene's cost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.upkeep.gc import sweep
from earthloom.jobs.upkeep.status import status
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import PublishError, StorageError
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from tests.maps import go, go_until_commit, lake

EMPTY = b'{"format": 1}'


def small(folder: Path, name: str = "a") -> Path:
    return lake(folder, name, width=300, height=200)


def ref(path: Path) -> ObjectRef:
    return ObjectRef.parse(str(path))


def beside(out: Path, folder: Path) -> RunResult:
    """Another run, of the scene that is there and of one more."""
    return go(small(folder), small(folder, "b"), out=out)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    assert go(small(tmp_path), out=tmp_path / "out").exit_code == 0
    return tmp_path / "out"


@pytest.mark.parametrize("damage", [b"", b"[]", EMPTY, b"\0"])
def test_a_damaged_result_costs_its_scene_only(out: Path, tmp_path: Path, damage: bytes) -> None:
    next(out.glob("scenes/a/*/result.json")).write_bytes(damage)
    result = beside(out, tmp_path)
    assert (result.scenes["a"].status, result.scenes["b"].status) == ("failed", "published")
    assert "result.json" in str(result.scenes["a"].error)


@pytest.mark.parametrize("name", ["catalog.json", "collections/water-index/collection.json"])
@pytest.mark.parametrize("damage", [b"[]", b"\0"])
def test_a_damaged_catalogue_is_told_by_name_and_what_is_published_stays(
    out: Path, tmp_path: Path, name: str, damage: bytes
) -> None:
    (out / name).write_bytes(damage)
    result = beside(out, tmp_path)
    assert result.exit_code != 0
    assert f"{name.rpartition('/')[2]} is no JSON object; delete it" in " ".join(
        f"{progress.error}" for progress in result.scenes.values()
    ) + str(result.stopped)
    (out / name).unlink()
    assert beside(out, tmp_path).exit_code == 0
    assert verify(ref(out)).problems == []


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\0"])
def test_a_damaged_item_that_is_to_be_entered_again_costs_its_scene_only(
    out: Path, tmp_path: Path, damage: bytes
) -> None:
    next(out.glob("scenes/a/*/item.json")).write_bytes(damage)
    shutil.rmtree(out / "collections")  # as the message about a damaged catalogue advises
    result = beside(out, tmp_path)
    assert (result.scenes["a"].status, result.scenes["b"].status) == ("failed", "published")
    assert "item.json is no STAC item" in str(result.scenes["a"].error)
    next(out.glob("scenes/a/*/result.json")).unlink()  # the remedy that it names
    assert beside(out, tmp_path).exit_code == 0
    assert verify(ref(out)).problems == []


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"\0", None])
def test_verify_names_a_damaged_item_and_goes_on(out: Path, damage: bytes | None) -> None:
    item = next(out.glob("scenes/*/*/item.json"))
    if damage is None:
        item.unlink()
    else:
        item.write_bytes(damage)
    assert any("item.json" in problem.place for problem in verify(ref(out)).problems)


@pytest.mark.parametrize("name", ["plan.json", "commit.json"])
def test_verify_names_a_damaged_plan_or_commit(out: Path, name: str) -> None:
    next(out.glob(f"runs/*/{name}")).write_bytes(EMPTY)
    (problem,) = verify(ref(out)).problems
    assert "its plan or commit is damaged" in problem.message


@pytest.mark.parametrize("name", ["plan.json", "commit.json"])
def test_a_sweep_keeps_a_run_whose_records_it_cannot_read(out: Path, name: str) -> None:
    next(out.glob(f"runs/*/{name}")).write_bytes(EMPTY)
    (note,) = [note for note in sweep(ref(out), older_than_s=0, delete=True).notes if "is kept" in note]
    assert f"{name} is damaged" in note
    assert len(list(out.glob("runs/*/plan.json"))) == 1


@pytest.mark.parametrize("name", ["plan.json", "attempts/1.json"])
def test_status_names_a_damaged_record(out: Path, name: str) -> None:
    next(out.glob(f"runs/*/{name}")).write_bytes(EMPTY)
    with pytest.raises(PublishError, match=rf"{name} is damaged, it lacks"):
        status(ref(out))


@pytest.mark.parametrize(
    ("field", "damage"),
    [("tally", {"pixels": [-1]}), ("tally", []), ("sums", {"classes": {}}), ("files", [["x", [1]]])],
)
def test_a_damaged_marker_costs_its_block_only(tmp_path: Path, field: str, damage: object) -> None:
    (folder,) = go_until_commit(lake(tmp_path), out=tmp_path / "out")
    marker = folder / "blocks/0_0.json"
    found = json.loads(marker.read_bytes())
    found["shards"]["0_0"][field] = damage
    marker.write_text(json.dumps(found))
    result = go(lake(tmp_path), out=tmp_path / "out")
    assert result.exit_code == 0
    assert result.telemetry["computed_px"] == 512 * 512


def test_a_profile_that_cannot_be_written_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put = LocalObjects.put

    def busy(store: LocalObjects, key: str, data: bytes) -> None:
        if "/profiles/" in key:
            raise StorageError("busy", transient=True)
        put(store, key, data)

    monkeypatch.setattr(LocalObjects, "put", busy)
    assert go(small(tmp_path), out=tmp_path / "out", profile=True).exit_code == 0
    assert len(list(tmp_path.glob("out/runs/*/commit.json"))) == 1
