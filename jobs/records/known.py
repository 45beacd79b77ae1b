"""Scenes that cannot be mapped and that an earlier run named already: `runs/known.json`.

A scene is known by its id, its bytes, the product, and the reason, so that a file that was replaced, another model or
another cause is news again. Only what follows from the bytes counts: an outage of today is not excused by one of yesterday.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.records.attempt import now
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.jobs.records.documents import merge
from earthloom.tiling.errors import EarthloomError, MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store

log = logging.getLogger(__name__)

KNOWN = "runs/known.json"
_LASTING = ("SceneError", "NoEarlierSceneError", "OffGridError", "TilingError")
_MESSAGE = 300  # characters that are kept; the digest is of all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why one scene has no result."""

    scene: str
    product: str
    bytes: tuple[str, ...]
    """What pins the bytes that were looked at; of a scene that failed while it was computed, its key."""
    kind: str
    """Class of the error."""
    message: str

    @property
    def lasts(self) -> bool:
        """Whether the same bytes will come to the same end tomorrow."""
        return bool(self.bytes) and self.kind in _LASTING

    @property
    def digest(self) -> str:
        return digest([self.scene, self.product, self.bytes, self.kind, self.message])


def read_known(store: Store) -> frozenset[str]:
    """Digests of the troubles that earlier runs below this OUT have ended with; none where that cannot be read."""
    try:
        return frozenset(_troubles(store.get(KNOWN)))
    except MissingObjectError:
        return frozenset()
    except EarthloomError as error:
        log.warning("every refusal counts as new: %s", error)
        return frozenset()


def remember(store: Store, product: str, scenes: Collection[str], troubles: Collection[Trouble]) -> None:
    """Keep what a run has ended with: of its scenes these troubles and no others. What cannot be kept is new tomorrow."""
    asked = set(scenes)
    found = {one.digest: one for one in troubles if one.lasts}

    def changed(existing: bytes | None) -> bytes:
        before = _troubles(existing) if existing else {}
        kept = {
            name: entry for name, entry in before.items()
            if entry["product"] != product or entry["scene"] not in asked or name in found
        }  # fmt: skip
        new = {
            name: {"scene": one.scene, "product": product, "message": one.message[:_MESSAGE], "since": now()}
            for name, one in found.items() if name not in kept
        }  # fmt: skip
        if existing is not None and not new and kept.keys() == before.keys():
            return existing
        return canonical({"format": FORMAT, "troubles": {**kept, **new}})

    try:
        if found or store.head(KNOWN):
            merge(store, KNOWN, changed)
    except EarthloomError as error:
        log.warning("refusals of this run will count as new: %s", error)


def _troubles(data: bytes) -> Mapping[str, Mapping[str, Any]]:
    """Troubles by digest; none if the document is damaged, for it can be made again."""
    try:
        found = read_document(data, KNOWN)["troubles"]
        return {name: entry for name, entry in found.items() if {"product", "scene"} <= entry.keys()}
    except (PublishError, KeyError, AttributeError):
        return {}
