from __future__ import annotations

import errno
import os
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from earthloom.tiling.errors import MissingObjectError, StorageError
from earthloom.tiling.storage.failures import os_errors
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from tests.threads import side_by_side


def local(folder: Path) -> Store:
    return open_store(ObjectRef.parse(str(folder)))


def exercise(store: Store) -> None:
    """What every store must get right."""
    assert store.head("a/b") is None
    with pytest.raises(MissingObjectError, match="does not exist"):
        store.get("a/b")
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    assert store.get("a/b") == b"two"
    assert not store.create("a/b", b"three")
    assert store.create("a/c", b"three")
    assert [(head.key, head.size) for head in store.list("a")] == [("a/b", 3), ("a/c", 5)]
    data, version = store.get_versioned("a/c")
    assert data == b"three"
    assert store.replace("a/c", b"four", version)
    assert not store.replace("a/c", b"five", version), "a stale version was accepted"
    assert store.get("a/c") == b"four"
    _, version = store.get_versioned("a/c")
    store.delete("a/c")
    assert not store.replace("a/c", b"six", version), "what is gone was replaced"
    assert store.head("a/c") is None
    store.copy("a/b", "deep/er/c")
    assert store.get("deep/er/c") == store.get("a/b") == b"two"
    store.put("a/b", b"new")
    assert store.get("deep/er/c") == b"two", "a copy is an object of its own"
    store.copy("a/b", "deep/er/c")
    assert store.get("deep/er/c") == b"new"
    with pytest.raises(MissingObjectError, match=r"a/nothing: it does not exist"):
        store.copy("a/nothing", "deep/er/c")
    assert store.get("deep/er/c") == b"new"
    store.delete("deep/er/c")
    store.delete("a/b")
    assert store.head("a/b") is None


def race(store: Store) -> None:
    """One winner among many, for creating and for replacing."""
    barrier = threading.Barrier(8)

    def contend(key: str, name: int) -> bool:
        barrier.wait()
        return store.create(key, str(name).encode())

    for key in (f"race/{trial}" for trial in range(5)):
        wins = side_by_side(partial(contend, key), range(8))
        assert sum(wins) == 1
        assert store.get(key) == str(wins.index(True)).encode()


def test_a_folder_is_a_store(tmp_path: Path) -> None:
    exercise(local(tmp_path))
    assert not list(tmp_path.rglob("*.partial"))


def test_a_folder_has_one_winner(tmp_path: Path) -> None:
    race(local(tmp_path))


def test_lost_updates_do_not_happen_in_a_folder(tmp_path: Path) -> None:
    store = local(tmp_path)
    store.put("count", b"0")

    def add(_: int) -> None:
        for _ in range(10):
            while True:
                data, version = store.get_versioned("count")
                if store.replace("count", str(int(data) + 1).encode(), version):
                    break

    side_by_side(add, range(4))
    assert store.get("count") == b"40"


def test_a_large_file_is_uploaded_whole(tmp_path: Path) -> None:
    store, pieces = local(tmp_path / "out"), [bytes(range(256)) * 40_000] * 2
    store.upload("x/big", iter(pieces))
    assert store.get("x/big") == b"".join(pieces)
    assert store.get_range("x/big", 255, 3) == b"\xff\0\1"


def broken() -> Iterator[bytes]:
    yield bytes(20 << 20)
    raise MissingObjectError("a part is gone")


def test_an_upload_whose_pieces_fail_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    store = local(tmp_path / "out")
    with pytest.raises(MissingObjectError, match="a part is gone"):
        store.upload("x/big", broken())
    assert list(store.list()) == []


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*file/x: File exists"):
        local(tmp_path / "file").put("x", b"")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space, then run the same command again"),
        (errno.EROFS, "name a folder that this user may write to"),
        (errno.EIO, "output error$"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_with_what_helps(tmp_path: Path, number: int, remedy: str) -> None:
    with pytest.raises(StorageError, match=remedy), os_errors(tmp_path / "a", "write"):
        raise OSError(number, os.strerror(number))


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = local(tmp_path / "out")
    store.put("a/x", b"1")
    store.put("b/y", b"2")
    scandir = os.scandir

    def broken_disk(folder: str) -> Any:
        if str(folder).endswith("/b"):
            raise OSError(errno.EIO, "Input/output error", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", broken_disk)
    with pytest.raises(StorageError, match=r"cannot list .*out.*Input/output error"):
        list(store.list())
    monkeypatch.undo()
    assert [head.key for head in store.list()] == ["a/x", "b/y"]
    assert list(store.list("none")) == []


def test_errors_keep_their_transience_across_processes() -> None:
    back = pickle.loads(pickle.dumps(StorageError("slow down", transient=True)))
    assert (str(back), back.transient) == ("slow down", True)


@pytest.mark.s3
def test_a_bucket_is_a_store(s3_env: None) -> None:
    store = open_store(ObjectRef.parse("s3://outputs/test-store"))
    exercise(store)
    race(store)


@pytest.mark.s3
def test_a_multipart_upload_arrives_whole_or_not_at_all(s3_env: None) -> None:
    store, pieces = open_store(ObjectRef.parse("s3://outputs/test-upload")), [bytes(range(256)) * 40_000] * 2
    store.upload("big", iter(pieces))
    assert store.get("big") == b"".join(pieces)
    assert store.get_range("big", 255, 3) == b"\xff\0\1"
    with pytest.raises(MissingObjectError, match="a part is gone"):
        store.upload("broken", broken())
    assert store.head("broken") is None


@pytest.mark.parametrize(
    ("expected", "chunk"), [(0, 8 << 20), (10**10, 8 << 20), (10**11, 16 << 20), (5 * 10**12, 536 << 20)]
)
def test_ten_thousand_parts_are_enough_for_the_largest_object(
    expected: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    store: Any = open_store(ObjectRef.parse("s3://outputs/x"))
    monkeypatch.setattr(store, "_store", mock.Mock(put=lambda *_, chunk_size, **__: asked.append(chunk_size)))
    store.upload("big", iter([bytes(9 << 20)]), expected)
    assert asked == [chunk]
    assert chunk * 10_000 >= expected


@pytest.mark.s3
def test_a_refused_credential_is_explained_and_not_shown(s3_env: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongsecret")
    with pytest.raises(StorageError, match="check the AWS_") as refusal:
        open_store(ObjectRef.parse("s3://outputs/x")).get("y")
    assert not refusal.value.transient
    assert "wrongsecret" not in str(refusal.value)
