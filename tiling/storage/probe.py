"""Does a store keep its word? Two drivers are only safe from each other where conditional writes hold.

Asked before a run writes anything, and by the doctor. Six small requests; leaves nothing behind.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import Store

PREFIX = "runs/.probe-"
"""Beginning of the probe's key; a process that is killed in the middle leaves one behind."""


def probe_conditional_writes(store: Store) -> None:
    """Create, create again, replace, replace a stale version: what a store must get right.

    An answer that was lost on its way is no fault of the store, so a refusal is believed only when the bytes agree.

    Raises:
        StorageError: if the store cannot be written or ignores a condition; the message names the remedy.
    """
    key = f"{PREFIX}{secrets.token_hex(8)}"
    first, second, third = (secrets.token_bytes(16) for _ in range(3))
    problem = None
    try:
        created = store.create(key, first)
        again = store.create(key, second)
        data, etag = store.get_versioned(key)
        if again or data == second:
            problem = "If-None-Match is ignored: an existing object was overwritten"
        elif data != first:
            problem = "a new object was not stored" if created else "a new object was reported as existing"
        elif not store.replace(key, second, etag) and store.get(key) != second:
            problem = "If-Match failed on the current version"
        elif store.replace(key, third, etag):
            problem = "If-Match is ignored: a stale version was accepted"
    finally:
        with suppress(StorageError):  # what went wrong before says more
            store.delete(key)
    if problem:
        raise StorageError(
            f"{store.ref.url}: {problem}. Two runs could overwrite each other there: use a store with If-None-Match and "
            "If-Match on PUT (AWS S3 has them), or a local file system with link(2) and flock(2)"
        )
