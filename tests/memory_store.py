"""A store in this process's memory, for tests that write thousands of small objects and need no file system."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import Head, ObjectRef


class MemoryStore:
    """Keeps the promises of `tiling.storage.store.Store`; has no Zarr view."""

    def __init__(self) -> None:
        self.ref = ObjectRef("s3", "memory", "")
        self.objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str = "") -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise MissingObjectError(f"{key} does not exist") from None

    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def parts(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def head(self, key: str = "") -> Head | None:
        return self._head(key) if key in self.objects else None

    def list(self, prefix: str = "") -> Iterator[Head]:
        found = [key for key in sorted(self.objects) if key == prefix or key.startswith(f"{prefix}/" if prefix else "")]
        return (self._head(key) for key in found)

    def leftovers(self) -> Iterator[Head] | None:
        return None

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = data
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        with self._lock:
            if key not in self.objects or hashlib.sha256(self.objects[key]).hexdigest() != etag:
                return False
            self.objects[key] = data
            return True

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:  # noqa: ARG002 - of buckets
        self.objects[key] = b"".join(pieces)

    def copy(self, source_key: str, target_key: str) -> None:
        self.objects[target_key] = self.get(source_key)

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def delete_all(self, prefix: str) -> None:
        for entry in [*self.list(prefix)]:
            self.delete(entry.key)

    def zarr(self, prefix: str, *, read_only: bool = False) -> Any:
        raise NotImplementedError(f"{prefix}: a Zarr needs a folder or a bucket")

    def _head(self, key: str) -> Head:
        return Head(key, len(self.objects[key]), hashlib.sha256(self.objects[key]).hexdigest(), time.time())
