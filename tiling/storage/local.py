"""The store in a folder of a POSIX file system.

Writes go through a file beside the target and a rename, so that a reader sees the old object or the new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.atomic import PART_BYTES, PARTIAL, locked, sync_folder, written_aside
from earthloom.tiling.storage.failures import os_errors, remote_errors
from earthloom.tiling.storage.objects import Head, ObjectRef

if TYPE_CHECKING:
    from zarr.storage import ObjectStore


class LocalObjects:
    """A folder. Conditional writes are link(2) and flock + rename, which hold on POSIX file systems."""

    def __init__(self, ref: ObjectRef) -> None:
        self.ref = ref

    def _path(self, key: str) -> Path:
        return (self.ref / key).path

    def get(self, key: str = "") -> bytes:
        with os_errors(self._path(key), "read"):
            return self._path(key).read_bytes()

    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        with os_errors(self._path(key), "read"), self._path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def parts(self, key: str) -> Iterator[bytes]:
        with os_errors(self._path(key), "read"), self._path(key).open("rb") as file:
            while part := file.read(PART_BYTES):
                yield part

    def head(self, key: str = "") -> Head | None:
        path = self._path(key)
        with os_errors(path, "look at"), suppress(FileNotFoundError):  # it may go between the two
            return _head_of(key, path) if path.is_file() else None
        return None

    def list(self, prefix: str = "") -> Iterator[Head]:
        return (head for head in self._walk(prefix) if not head.key.endswith(PARTIAL))

    def leftovers(self) -> Iterator[Head] | None:
        return (head for head in self._walk("") if head.key.endswith(PARTIAL))

    def _walk(self, prefix: str) -> Iterator[Head]:
        root = self._path(prefix)
        with os_errors(root, "list"):
            for folder, subfolders, names in os.walk(root, onerror=_unless_gone):
                subfolders.sort()
                for name in sorted(names):
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):
                        yield _head_of(path.relative_to(self.ref.path).as_posix(), path)

    def put(self, key: str, data: bytes) -> None:
        self.upload(key, (data,))

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with os_errors(path, "write"), written_aside(path, data) as aside:
            try:
                path.hardlink_to(aside)
            except FileExistsError:
                return False
            sync_folder(path.parent)
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        path = self._path(key)
        with os_errors(path, "write"), locked(path), written_aside(path, data) as aside:
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != etag:
                return False
            aside.replace(path)
            sync_folder(path.parent)
            return True

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:  # noqa: ARG002 - of buckets
        path = self._path(key)
        with os_errors(path, "write"), written_aside(path, pieces) as aside:
            aside.replace(path)
            sync_folder(path.parent)

    def copy(self, source_key: str, target_key: str) -> None:
        self.upload(target_key, self.parts(source_key))

    def delete(self, key: str) -> None:
        with os_errors(self._path(key), "delete"):
            self._path(key).unlink(missing_ok=True)

    def delete_all(self, prefix: str) -> None:
        path = self._path(prefix)
        with os_errors(path, "delete"):
            while path.is_dir():
                with suppress(FileNotFoundError):  # somebody else removes it too
                    shutil.rmtree(path)

    def zarr(self, prefix: str, *, read_only: bool = False) -> ObjectStore[Any]:
        from obstore.store import LocalStore

        from earthloom.tiling.storage.zarr_store import NamingStore

        path = self._path(prefix)
        if not read_only:
            with os_errors(path, "create"):
                path.mkdir(parents=True, exist_ok=True)
        elif not path.is_dir():
            raise MissingObjectError(f"{path} does not exist")
        return NamingStore(
            LocalStore(path), partial(remote_errors, self.ref / prefix, verb="read"), read_only=read_only
        )


def _unless_gone(error: OSError) -> None:
    """A folder that cannot be listed is an error: silence would mean that nothing is in it."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _head_of(key: str, path: Path) -> Head:
    stat = path.stat()
    return Head(key, stat.st_size, None, stat.st_mtime)
