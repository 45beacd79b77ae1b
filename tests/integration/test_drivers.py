"""Several drivers on one OUT, markers that lie, sources that change: what is published is right or is not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.execution.event import Event
from earthloom.jobs.products.item_table import read_items
from earthloom.jobs.records.blocks import ShardRecord
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import serve_apart
from tests.maps import faults, go, go_until_commit, lake, published
from tests.threads import side_by_side


def together(*calls: Callable[[], RunResult]) -> list[RunResult]:
    return side_by_side(lambda call: call(), calls)


def sound(out: Path | str) -> bool:
    report = verify(ObjectRef.parse(str(out)))
    assert report.problems == []
    return report.scenes > 0


def meet_before_committing(monkeypatch: pytest.MonkeyPatch, drivers: int) -> None:
    """All drivers have made everything before any of them commits."""
    barrier = threading.Barrier(drivers)
    create = LocalObjects.create

    def late(self: LocalObjects, key: str, data: bytes) -> bool:
        if key.endswith("result.json"):
            barrier.wait(60)
        return create(self, key, data)

    monkeypatch.setattr(LocalObjects, "create", late)


def test_of_two_drivers_one_commits_and_the_other_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"
    meet_before_committing(monkeypatch, 2)
    both = together(lambda: go(scene, out=out), lambda: go(scene, out=out, block=1024))
    assert [result.exit_code for result in both] == [0, 0]
    assert sorted(result.scenes["lake"].status for result in both) == ["already published", "published"]
    assert both[0].results == both[1].results
    assert sorted(path.name for path in out.glob("runs/*/attempts/*")) == ["1.json", "2.json"]
    assert sound(out)


def test_a_driver_of_smaller_blocks_takes_no_shard_from_one_of_larger(tmp_path: Path) -> None:
    """Both began on nothing; the one of smaller blocks is on its way when the other one publishes."""
    scene, out = lake(tmp_path), tmp_path / "out"
    go_until_commit(scene, out=out, block=1024)
    nothing, dead = dict[tuple[int, int], ShardRecord](), [StorageError("it has come no further")] * 9
    with (
        mock.patch("earthloom.jobs.execution.opening.finished_shards", return_value=nothing),
        faults({"lake/1_2": dead}),
    ):
        assert go(scene, out=out, block=512).exit_code == 1
    again = go(scene, out=out, block=1024)
    assert (again.exit_code, again.telemetry["computed_px"]) == (0, 0)
    assert sound(out)


def test_a_driver_that_would_commit_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"
    create = LocalObjects.create

    def beaten(self: LocalObjects, key: str, data: bytes) -> bool:
        if key.endswith("result.json"):
            create(self, key, json.dumps({**json.loads(data), "nodata_px": 1, "write_id": "another"}).encode())
        return create(self, key, data)

    monkeypatch.setattr(LocalObjects, "create", beaten)
    result = go(scene, out=out)
    assert result.exit_code == 1
    assert "was made by another writer and differs in nodata_px" in str(result.scenes["lake"].error)


def test_two_runs_on_different_scenes_lose_no_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "c", "d"]
    scenes = [lake(tmp_path / "in", name, width=300, height=200, seed=seed) for seed, name in enumerate(names)]
    out = tmp_path / "out"
    meet_before_committing(monkeypatch, 2)
    both = together(lambda: go(*scenes[:2], out=out), lambda: go(*scenes[2:], out=out))
    assert [result.exit_code for result in both] == [0, 0]
    items = read_items((out / "collections/water-index/items.parquet").read_bytes())
    assert [item["id"].split("-")[0] for item in items] == names
    collection = json.loads((out / "collections/water-index/collection.json").read_bytes())
    assert len([link for link in collection["links"] if link["rel"] == "item"]) == 4
    assert sound(out)


@pytest.mark.s3
@pytest.mark.long
def test_drivers_in_a_bucket_agree_too(tmp_path: Path, s3_env: None) -> None:
    a, b = lake(tmp_path, "a", width=600, height=300), lake(tmp_path, "b", width=600, height=300, seed=1)
    out = "s3://outputs/drivers"
    results = together(lambda: go(a, out=out), lambda: go(a, out=out), lambda: go(b, out=out))
    assert [result.exit_code for result in results] == [0, 0, 0]
    assert sound(out)
    assert verify(ObjectRef.parse(out)).scenes == 2


def test_a_lost_answer_to_the_commit_is_no_defeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create, replace = LocalObjects.create, LocalObjects.replace

    def lose_create(self: LocalObjects, key: str, data: bytes) -> bool:
        return create(self, key, data) and False

    def lose_replace(self: LocalObjects, key: str, data: bytes, etag: str) -> bool:
        return replace(self, key, data, etag) and False

    monkeypatch.setattr(LocalObjects, "create", lose_create)
    monkeypatch.setattr(LocalObjects, "replace", lose_replace)
    scenes = [lake(tmp_path / "in", name, width=300, height=200) for name in ("a", "b")]
    result = go(*scenes, out=tmp_path / "out")
    assert [progress.status for progress in result.scenes.values()] == ["published", "published"]
    assert sorted(path.name for path in (tmp_path / "out").glob("runs/*/attempts/*")) == ["1.json"]
    assert sound(tmp_path / "out")


def test_a_store_without_conditional_writes_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heedless(self: LocalObjects, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    monkeypatch.setattr(LocalObjects, "create", heedless)
    with pytest.raises(StorageError, match="If-None-Match is ignored"):
        go(lake(tmp_path), out=tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the lake's runs must publish, whatever happens to them."""
    folder = tmp_path_factory.mktemp("golden")
    assert go(lake(folder), out=folder / "out").exit_code == 0
    return anywhere(folder / "out")


def anywhere(out: Path) -> dict[str, bytes]:
    """What is published, but for the item, which says where its source lay."""
    return {name: data for name, data in published(out).items() if not name.endswith("/item.json")}


@pytest.mark.parametrize("damage", ["gone", "cut", "unwanted", "no tiles"])
def test_a_marker_is_believed_only_if_its_shards_are_there(
    tmp_path: Path, damage: str, golden: dict[str, bytes]
) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"
    (folder,) = go_until_commit(scene, out=out)
    shard = folder / ("blocks/1_2.tiles" if damage == "no tiles" else "data.zarr/0/confidence/c/1/2")
    if damage in ("gone", "no tiles"):
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        marker = json.loads((folder / "blocks/1_2.json").read_bytes())
        marker["shards"]["1_2"]["objects"]["0/confidence/c/1/2"] = None
        (folder / "blocks/1_2.json").write_text(json.dumps(marker))
    again = go(scene, out=out)
    assert again.exit_code == 0
    assert again.telemetry["computed_px"] == (1300 - 1024) * (700 - 512), "the one block whose marker lied"
    assert anywhere(out) == golden
    marker = json.loads((folder / "blocks/1_2.json").read_bytes())
    assert (marker["attempt"], marker["empty"]) == (2, False)
    assert json.loads((folder / "blocks/0_0.json").read_bytes())["attempt"] == 1


def test_a_damaged_marker_costs_its_block_and_nothing_else(tmp_path: Path, golden: dict[str, bytes]) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"
    (folder,) = go_until_commit(scene, out=out)
    (folder / "blocks/0_0.json").write_bytes(b'{"format": 1, "sha')
    (folder / "blocks/0_1.json").write_bytes(b'{"format": 1}')
    again = go(scene, out=out)
    assert again.telemetry["computed_px"] == 2 * 512 * 512
    assert anywhere(out) == golden


def test_a_marker_of_an_unknown_version_is_refused(tmp_path: Path) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"
    folder = out / go(scene, out=out).results["lake"].prefix
    (folder / "result.json").unlink()
    (folder / "blocks/0_0.json").write_bytes(b'{"format": 2}')
    result = go(scene, out=out)
    assert result.exit_code == 1
    assert "0_0.json has format 2, this version reads 1" in str(result.scenes["lake"].error)


def test_a_shard_that_is_lost_between_marker_and_publishing_is_never_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"

    def lose(event: Event) -> None:
        if event.blocks_done == 5:
            next(out.glob("scenes/lake/*/data.zarr/0/classes/c/0/0"), scene).unlink()

    result = go(scene, out=out, on_event=lose)
    assert result.exit_code == 1
    assert "storage has None (None: no such object); it is not published" in str(result.scenes["lake"].error)
    assert not list(out.glob("scenes/*/*/result.json"))
    assert not list(out.glob("collections/*"))
    assert go(lake(tmp_path), out=out).exit_code == 0
    assert sound(out)


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_tiles_that_change_between_marker_and_publishing_are_never_published(
    tmp_path: Path, damage: str, golden: dict[str, bytes]
) -> None:
    scene, out = lake(tmp_path), tmp_path / "out"

    def change(event: Event) -> None:
        if event.blocks_done == 5:
            tiles = next(out.glob("scenes/lake/*/blocks/0_0.tiles"))
            data = bytearray(tiles.read_bytes())
            data[len(data) // 2] ^= 1
            tiles.unlink()
            if damage == "flipped":
                tiles.write_bytes(data)

    result = go(scene, out=out, on_event=change)
    assert result.exit_code == 1
    assert "0_0.tiles" in str(result.scenes["lake"].error)
    assert not list(out.glob("scenes/*/*/result.json"))
    again = go(lake(tmp_path), out=out)
    assert again.telemetry["computed_px"] == 512 * 512, "the block whose tiles they were"
    assert anywhere(out) == golden
    assert sound(out)


@pytest.mark.parametrize("where", ["file", "http", pytest.param("s3", marks=pytest.mark.s3)])
def test_a_source_that_is_replaced_while_it_is_read_fails_its_scene_and_is_taken_anew(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    old, new = (lake(tmp_path / name, width=1600, height=1100, seed=seed) for seed, name in enumerate(("old", "new")))
    steady = lake(tmp_path / "in", "steady", width=300, height=200)
    with serve_apart(tmp_path / "web") as server:
        if where == "s3":
            request.getfixturevalue("s3_env")
            ref = ObjectRef.parse("s3://scenes/swap/lake.tif")
        else:
            ref = ObjectRef.parse(str(tmp_path / "web/lake.tif"))
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.removeprefix("http://"))
        source = f"{server}/lake.tif" if where == "http" else ref.url
        open_store(ref).put("", old.read_bytes())
        swapped = threading.Event()

        def swap(event: Event) -> None:
            if event.scene_id == "lake" and event.blocks_done and not swapped.is_set():
                swapped.set()
                open_store(ref).put("", new.read_bytes())

        out = tmp_path / "out"
        first = go(source, steady, out=out, on_event=swap)
        assert first.exit_code == 3
        assert first.scenes["steady"].status == "published"
        found = str(first.scenes["lake"].error)
        assert "lake" in found
        assert "changed since it was checked" in found
        assert "run again" in found
        assert not list(out.glob("scenes/lake/*/result.json"))
        second = go(source, steady, out=out)
        assert second.exit_code == 0
        assert second.scenes["steady"].status == "already published"
        assert second.scenes["lake"].key != first.scenes["lake"].key
    if where == "file":
        assert go(new, out=tmp_path / "golden").exit_code == 0
        maps = [next(folder.glob(f"scenes/lake/{second.scenes['lake'].key}/water-index.tif")).read_bytes()
                for folder in (out, tmp_path / "golden")]  # fmt: skip
        assert maps[0] == maps[1], "the same bytes have the same identity, whatever was computed before"
    assert sound(out)


def test_a_file_written_into_while_a_block_reads_it_is_noticed(tmp_path: Path) -> None:
    from earthloom.tiling.errors import SceneError
    from earthloom.tiling.reading.identity import pin
    from earthloom.tiling.reading.opening import open_asset

    scene = lake(tmp_path)
    asset = pin(ObjectRef.parse(str(scene)))

    def read_while_it_changes() -> None:
        with open_asset(asset) as dataset:
            dataset.read(1)
            with scene.open("r+b") as file:
                file.seek(-1, 2)
                last = file.read(1)
                file.seek(-1, 2)
                file.write(bytes([last[0] ^ 1]))

    with pytest.raises(SceneError, match="changed since it was checked"):
        read_while_it_changes()
