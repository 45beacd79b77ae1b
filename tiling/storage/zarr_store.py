"""A zarr-python store whose failures are StorageErrors that name the object, like those of every other store.

Apart from the stores because importing zarr takes time that most commands need not spend.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore


class NamingStore(ObjectStore[Any]):
    """Reads through obstore.

    Args:
        store: an obstore store on the Zarr's prefix.
        errors: by key, the block that turns obstore's errors into ours.
    """

    def __init__(
        self, store: Any, errors: Callable[[str], AbstractContextManager[None]], *, read_only: bool = False
    ) -> None:
        super().__init__(store, read_only=read_only)
        self._errors = errors

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """See zarr; None when there is no such object."""
        with self._errors(key):
            return await super().get(key, prototype, byte_range)
