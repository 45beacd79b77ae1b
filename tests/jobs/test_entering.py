"""Scenes that are published and cannot be entered into the catalogues: who fails for it, and how often storage is asked."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from earthloom.tiling.errors import MissingObjectError, StorageError
from earthloom.tiling.storage.local import LocalObjects
from tests.maps import go, lake

NAMES = [f"scene-{letter}" for letter in "abcdefghijkl"]


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    return [lake(tmp_path, name, width=64, height=64) for name in NAMES]


def test_a_storage_that_is_away_at_the_end_is_asked_some_times_and_not_once_for_each_scene(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = LocalObjects.get_versioned

    def away(store: LocalObjects, key: str = "") -> tuple[bytes, str]:
        if key.endswith("collection.json"):
            asked.append(key)
            raise StorageError("the storage does not answer", transient=True)
        return read(store, key)

    monkeypatch.setattr(LocalObjects, "get_versioned", away)
    result = go(*scenes, out=tmp_path / "out")
    assert result.exit_code == 1
    assert {scene.error for scene in result.scenes.values()} == {"entering the catalogue: the storage does not answer"}
    assert len(asked) <= len(NAMES) // 2 + 1  # that of the linker, which enters scenes as they come
    monkeypatch.undo()
    assert go(*scenes, out=tmp_path / "out").exit_code == 0


def test_a_fault_that_passes_fails_no_scene(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tabled: list[str] = []
    read = LocalObjects.get_versioned

    def once(store: LocalObjects, key: str = "") -> tuple[bytes, str]:
        if key.endswith("items.parquet"):
            tabled.append(key)
            if len(tabled) == 1:
                raise StorageError("the answer was cut off", transient=True)
        return read(store, key)

    monkeypatch.setattr(LocalObjects, "get_versioned", once)
    assert go(*scenes, out=tmp_path / "out").exit_code == 0
    assert len(tabled) == 2, "all scenes together again, not one by one"


@pytest.mark.parametrize(
    "wrong", [(0, 5), (0, 1, 2, 3, 7)], ids=["few", "more-than-are-tried-of-a-storage-that-is-away"]
)
def test_scenes_that_cannot_be_entered_fail_alone(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[int, ...]
) -> None:
    read = LocalObjects.get

    def without(store: LocalObjects, key: str = "") -> bytes:
        if key.endswith("item.json") and any(f"/{NAMES[n]}/" in key for n in wrong):
            raise MissingObjectError(f"cannot read {key}: it does not exist")
        return read(store, key)

    monkeypatch.setattr(LocalObjects, "get", without)
    result = go(*scenes, out=tmp_path / "out")
    assert result.exit_code == 3
    assert {name for name, scene in result.scenes.items() if scene.status == "failed"} == {NAMES[n] for n in wrong}


def test_a_full_scratch_disk_at_the_table_is_said_with_its_folder(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stac_geoparquet.arrow

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stac_geoparquet.arrow, "to_parquet", full)
    result = go(*scenes[:2], out=tmp_path / "out")
    (error,) = {scene.error for scene in result.scenes.values()}
    assert "No space left on device" in str(error)
    assert "TMPDIR" in str(error)
    monkeypatch.undo()
    assert go(*scenes[:2], out=tmp_path / "out").exit_code == 0
