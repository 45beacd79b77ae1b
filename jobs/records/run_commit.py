"""A run's `commit.json`: which results stand for the scenes that were asked for.

It only gains scenes, except for results that `earthloom gc` removed, by a policy or as superseded, which it then names as such.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import claim, merge
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.store import Store


def commit_key(run_id: str) -> str:
    """Key below OUT of a run's commit."""
    return f"runs/{run_id}/commit.json"


def commit_run(store: Store, run_id: str, *, scenes: Mapping[str, str], missing: Collection[str]) -> None:
    """Commit a run, or add what an earlier commit of it did not have.

    Args:
        scenes: prefix of the committed result by scene id.
        missing: ids of scenes that were asked for and are not published.

    Raises:
        StorageError: if it cannot be known whether it was written.
        PublishError: if what is there is no commit of this version.
    """
    document = {
        "format": FORMAT, "run_id": run_id, "scenes": dict(sorted(scenes.items())), "missing": sorted(missing),
        "superseded": {},
    }  # fmt: skip
    made = claim(store, commit_key(run_id), document)
    if made.won or scenes.items() <= made.document["scenes"].items():
        return

    def grow(found: dict[str, Any]) -> None:
        found["scenes"] |= scenes
        found["missing"] = sorted(set(found["missing"]) - set(scenes))
        found["superseded"] = {name: prefix for name, prefix in found["superseded"].items() if name not in scenes}

    _change(store, run_id, grow)


def note_superseded(store: Store, run_id: str, prefix: str) -> None:
    """Say in a run's commit that one of its results is about to be removed, because a newer one has taken its place."""

    def move(found: dict[str, Any]) -> None:
        gone = {name: one for name, one in found["scenes"].items() if one == prefix}
        found["scenes"] = {name: one for name, one in found["scenes"].items() if one != prefix}
        found["superseded"] |= gone

    _change(store, run_id, move)


def _change(store: Store, run_id: str, edit: Callable[[dict[str, Any]], None]) -> None:
    key = commit_key(run_id)

    def changed(existing: bytes | None) -> bytes:
        if existing is None:
            raise MissingObjectError(f"{store.ref.url}/{key} is gone; run again")
        found = read_document(existing, key)
        edit(found)
        return canonical(found)

    merge(store, key, changed)
