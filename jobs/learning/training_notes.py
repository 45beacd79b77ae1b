"""Notes for readers of scores: whether a model was trained on the scenes that it is judged by, as its training record says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.records.canonical import read_document
from earthloom.models.cards.file import RECORD
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store


def training_notes(plans: Sequence[ScenePlan]) -> list[str]:
    """Notes on each model's training, for readers of its scores.

    Files are compared by their digests, so a copy under another name is found, and the same place on another date is not.

    Raises:
        StorageError: if a card's folder cannot be read.
    """
    folders: dict[str, tuple[str, ObjectRef]] = {}
    for plan in plans:
        where = dict(plan.chain.folders)
        folders |= {card.label: (card.weights or "", where[card.digest()]) for card in plan.cards}
    notes = []
    for name, (weights, folder) in sorted(folders.items()):
        if not weights:  # a formula, which learned from nothing
            continue
        record = _record(folder)
        if record is None:
            notes.append(
                f"there is no record of how {name} was trained, so it may have been trained on these very scenes; "
                "`earthloom models show` tells what its card says"
            )
            continue
        for plan in plans:
            if said := _known_pixels(record, plan):
                notes.append(f"{name} knows {plan.scene.id} from its training: {said}")
    return notes


def _record(folder: ObjectRef) -> Mapping[str, Any] | None:
    where = f"{folder.url.rstrip('/')}/{RECORD}"
    try:
        return read_document(open_store(folder).get(RECORD), where)
    except (MissingObjectError, PublishError):
        return None


def _known_pixels(record: Mapping[str, Any], plan: ScenePlan) -> str:
    """The numbers of a scene's labelled pixels in each part of a training; empty if it has none."""
    files = {asset.identity for asset in plan.scene.assets}
    used: dict[str, int] = {}
    for scene in record.get("data", {}).get("scenes", ()):
        if files & {file.get("identity") for file in scene.get("files", ())}:
            for part, pixels in scene.get("pixels", {}).items():
                used[part] = used.get(part, 0) + int(pixels)
    return ", ".join(f"{pixels} px in the {part} part" for part, pixels in used.items() if pixels)
