"""Documents that exactly one writer makes, and documents that many writers change, over stores that may lose an answer.

An answer that is lost makes the store's client ask again, and the second answer says that the object exists already:
our own. So every document carries a random `write_id`, and after any doubt it is read back. Knows no document's meaning.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.records.canonical import canonical, read_document
from earthloom.tiling.errors import MissingObjectError, PublishError, StorageError
from earthloom.tiling.storage.store import Store

_TRIES = 20
_FAULTS = 4
"""Failed writes that are tried again; each has been repeated by the store's client already."""


@dataclass(frozen=True, slots=True)
class Claim:
    """How an attempt to create a document ended."""

    won: bool
    document: Mapping[str, Any]
    """What the store holds now, ours or another's."""


def claim(store: Store, key: str, document: Mapping[str, Any]) -> Claim:
    """Create a document unless there is one; whatever answers were lost, exactly one writer wins.

    Args:
        document: with a `write_id` if the writer may have to do this again in another process and shall know its own.

    Raises:
        StorageError: if it cannot be known who won, or nothing can be written; nobody has claimed to have won then.
        PublishError: if what is there is no document of this version.
    """
    write_id = document.get("write_id") or secrets.token_hex(16)
    ours = {**document, "write_id": write_id}
    failure: StorageError | None = None
    for attempt in range(_FAULTS + 1):
        try:
            if store.create(key, canonical(ours)):
                return Claim(True, ours)
        except StorageError as error:
            failure = error
        try:
            found = read_document(store.get(key), f"{store.ref.url}/{key}")
        except MissingObjectError:  # a conflict, or a write that never arrived: nothing has landed
            if failure and not failure.transient:
                raise failure from None
            _pause(attempt)
            continue
        return Claim(found.get("write_id") == write_id, found)
    raise failure or StorageError(
        f"{store.ref.url}/{key} is said to exist and to be missing, {_FAULTS + 1} times; try again", transient=True
    )


def commit(store: Store, key: str, document: Mapping[str, Any]) -> bool:
    """Create a document, or see that another writer has created the same one.

    Returns:
        True if this call made it, False if an equal one was there.

    Raises:
        StorageError: see `claim`.
        PublishError: if what is there differs in more than its write id; the message names what.
    """
    made = claim(store, key, document)
    if not made.won and (differences := _differences(document, made.document)):
        raise PublishError(
            f"{store.ref.url}/{key} was made by another writer and differs in {', '.join(differences)}; another version "
            "or program writes to this prefix: choose another `out`"
        )
    return made.won


def merge(store: Store, key: str, change: Callable[[bytes | None], bytes]) -> None:
    """Replace an object by `change(what is there)`, again whenever somebody else was faster.

    A write whose answer was lost is recognised by its content: `change` leaves what it has already changed as it is.

    Raises:
        StorageError: if other writers win every time, or the storage fails for good.
    """
    faults = 0
    for attempt in range(_TRIES):
        try:
            existing, etag = store.get_versioned(key)
        except MissingObjectError:
            existing, etag = None, ""
        changed = change(existing)
        if changed == existing:
            return
        try:
            if store.create(key, changed) if existing is None else store.replace(key, changed, etag):
                return
        except StorageError as error:
            faults += 1
            if not error.transient or faults > _FAULTS:
                raise
        _pause(attempt)
    raise StorageError(
        f"{store.ref.url}/{key} changed {_TRIES} times while it was being rewritten; try again", transient=True
    )


def json_object(existing: bytes | None, key: str) -> dict[str, Any] | None:
    """What a derived document that `merge` found says; None where there is none.

    Raises:
        PublishError: if it is no JSON object.
    """
    try:
        document = json.loads(existing) if existing else None
    except ValueError:
        document = existing
    if document is not None and not isinstance(document, dict):
        raise PublishError(f"{key} is no JSON object; delete it and run again: it is made from what is committed")
    return document


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    plain = json.loads(canonical(ours))
    fields = sorted({*plain, *theirs} - {"write_id"})
    return [name for name in fields if plain.get(name) != theirs.get(name)]


def _pause(attempt: int) -> None:
    time.sleep(random.uniform(0, 0.05 * (attempt + 1)))  # so that writers in step fall out of it
