"""Does a store keep its word, may this machine use it, and which time does it keep? Leaves nothing behind.

Two drivers are only safe from each other where conditional writes hold, so that is asked before a run writes anything, and
by the doctor.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import Store

PREFIX = "runs/.probe-"
"""Beginning of the probe's key; a process that is killed in the middle leaves one behind."""


def probe_conditional_writes(store: Store) -> None:
    """Create, create again, replace, replace a stale version: what a store must get right. Six small requests.

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


def probe_access(store: Store) -> None:
    """Write an object, read it, list and remove it: what a worker must be allowed to do where it runs. Four small requests;
    that conditions hold was found by whoever sends the work.

    Raises:
        StorageError: if one of these is not allowed, or what is read is not what was written.
    """
    key, written = f"{PREFIX}{secrets.token_hex(8)}", secrets.token_bytes(16)
    store.put(key, written)
    try:
        read = store.get(key)
        next(iter(store.list(key.partition("/")[0])), None)
    except StorageError:
        with suppress(StorageError):  # what went wrong before says more
            store.delete(key)
        raise
    store.delete(key)
    if read != written:
        raise StorageError(f"{store.ref.url}/{key} is not what was written there a moment ago; use another `out`")


def time_of(store: Store) -> float:
    """POSIX time by the store's own clock, which stamps every object. Writes a small object and removes it.

    Raises:
        StorageError: if the store cannot be written.
    """
    key = f"{PREFIX}{secrets.token_hex(8)}"
    store.put(key, b"")
    head = store.head(key)
    store.delete(key)
    if head is None:
        raise StorageError(f"{store.ref.url}/{key} was written and is not there; try again", transient=True)
    return head.modified_s
