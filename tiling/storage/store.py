"""Reading and writing whole objects in a folder, an S3 bucket or a web server, with conditional writes.

A `Store` is opened on one `ObjectRef` and every key is relative to it. `create` and `replace` are the two atomic steps
that publishing is built from: one winner, and nobody ever sees half an object. Knows nothing of what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from earthloom.tiling.storage.foreign import ForeignObjects
from earthloom.tiling.storage.local import LocalObjects
from earthloom.tiling.storage.objects import FOREIGN, Head, ObjectRef
from earthloom.tiling.storage.remote import RemoteObjects

if TYPE_CHECKING:
    from zarr.storage import ObjectStore


class Store(Protocol):
    """Objects below one reference. Every method raises StorageError; `get` raises MissingObjectError for no object."""

    ref: ObjectRef

    def get(self, key: str = "") -> bytes: ...
    def get_versioned(self, key: str = "") -> tuple[bytes, str]:
        """Bytes and the etag that `replace` wants."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Part of an object; shorter where the object ends."""
        ...

    def parts(self, key: str) -> Iterator[bytes]:
        """The bytes in pieces of at most 8 MiB, for objects of any size. A writer in between may mix versions."""
        ...

    def head(self, key: str = "") -> Head | None: ...
    def list(self, prefix: str = "") -> Iterator[Head]:
        """Every object below a prefix; those of one folder come one after another."""
        ...

    def leftovers(self) -> Iterator[Head] | None:
        """What writers that died have left behind; None where the store cannot tell."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write, whatever was there; readers see the old object or the new one, never a part."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write unless the object exists. False when it did."""
        ...

    def replace(self, key: str, data: bytes, etag: str) -> bool:
        """Write only if the object still has `etag`. False when it changed."""
        ...

    def upload(self, key: str, pieces: Iterable[bytes], expected_bytes: int = 0) -> None:
        """Like `put`, of any size in little memory. An error of the pieces is passed on, and nothing is written.

        Args:
            expected_bytes: about how many will come; needed for more than 80 GB, because S3 takes 10,000 parts at most.
        """
        ...

    def copy(self, source_key: str, target_key: str) -> None:
        """Write at `target_key` what is at `source_key`, whatever was there; on S3 the server does it, up to 5 GiB.

        Raises:
            MissingObjectError: if there is no source.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; no error when there is none."""
        ...

    def delete_all(self, prefix: str) -> None:
        """Remove every object below a prefix."""
        ...

    def zarr(self, prefix: str, *, read_only: bool = False) -> ObjectStore[Any]:
        """A zarr-python store below this one."""
        ...


def open_store(ref: ObjectRef) -> Store:
    """The store behind a reference; connects lazily."""
    if ref.scheme == "file":
        return LocalObjects(ref)
    return ForeignObjects(ref) if ref.scheme in FOREIGN else RemoteObjects(ref)
