"""A store in memory, for tests that write thousands of objects: as atomic as the others, and as strict."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import Head, ObjectRef


class MemoryStore:
    """Objects in a dict. `ref` is a folder where files lie that are not read through the store, such as COGs.

    Args:
        ref: the folder; none where nothing is read past the store.
        objects: by key, to begin with.
    """

    def __init__(self, ref: ObjectRef | None = None, objects: dict[str, bytes] | None = None) -> None:
        self.ref = ref or ObjectRef("s3", "memory", "")
        self.objects = dict(objects or {})
        self.times = dict.fromkeys(self.objects, time.time())
        self._lock = threading.Lock()

    def get(self, key: str = "") -> bytes:
        try:
            return self.objects[key]
        except KeyError:
            raise MissingObjectError(f"cannot read {self.ref.url}/{key}: it does not exist") from None

    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        data = self.get(key)
        return data, hashlib.sha256(data).hexdigest()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key)[start : start + length]

    def parts(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def head(self, key: str = "") -> Head | None:
        with self._lock:
            return self._head(key) if key in self.objects else None

    def list(self, prefix: str = "") -> Iterator[Head]:
        with self._lock:
            keys = sorted(key for key in self.objects if not prefix or key.startswith(f"{prefix}/"))
            return iter([self._head(key) for key in keys])

    def leftovers(self) -> Iterator[Head] | None:
        return iter(())

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            if key in self.objects:
                return False
            self._write(key, data)
            return True

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        with self._lock:
            if key not in self.objects or hashlib.sha256(self.objects[key]).hexdigest() != etag:
                return False
            self._write(key, data)
            return True

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:  # noqa: ARG002
        self.put(key, b"".join(pieces))

    def copy(self, source_key: str, target_key: str) -> None:
        self.put(target_key, self.get(source_key))

    def delete(self, key: str) -> None:
        with self._lock:
            self.objects.pop(key, None)

    def delete_all(self, prefix: str) -> None:
        for head in self.list(prefix):
            self.delete(head.key)

    def zarr(self, prefix: str, *, read_only: bool = False) -> Any:
        """What lies below a prefix now."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore as ZarrMemory

        make = default_buffer_prototype().buffer.from_bytes
        held = {head.key.removeprefix(f"{prefix}/"): make(self.get(head.key)) for head in self.list(prefix)}
        return ZarrMemory(held, read_only=read_only)

    def _write(self, key: str, data: bytes) -> None:
        self.objects[key], self.times[key] = bytes(data), time.time()

    def _head(self, key: str) -> Head:
        return Head(key, len(self.objects[key]), None, self.times.get(key, 0.0))
