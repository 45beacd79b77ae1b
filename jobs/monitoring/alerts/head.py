"""`head.json`: which alerts are current. It only ever goes forward, whoever writes, and vouches for all that readers need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from earthloom.jobs.monitoring.alerts.history import Places
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.documents import merge
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The current alerts of one rule."""

    generation: int
    """Generation of the cube."""
    view: str
    """Folder of the view, below the folder of the alerts."""
    files: Mapping[str, StoredObject]
    """Files of the view, by name."""
    updates: Mapping[str, StoredObject]
    """Partitions of `updates/<generation>/`, by name without its ending, ascending by date."""

    @property
    def order(self) -> tuple[int, int]:
        """The newer of two heads has the greater order: first by the cube's generation, then by its dates."""
        return self.generation, len(self.updates)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.updates))

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def parse(cls, data: bytes, where: str) -> Head:
        """Inverse of `to_json`, of bytes.

        Raises:
            PublishError: if it is not a head of this version.
        """
        document = read_document(data, where)
        try:
            files, updates = (
                {str(name): StoredObject.from_dict(entry) for name, entry in document[part].items()}
                for part in ("files", "updates")
            )
            return cls(
                generation=int(document["generation"]), view=str(document["view"]), files=files, updates=updates
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PublishError(
                f"{where} is damaged ({type(error).__name__}: {error}); remove it and run again: it is made from the cube"
            ) from error


def read_head(store: Store, places: Places) -> Head | None:
    """Read the head; None if nothing has been published.

    Raises:
        PublishError: if it is damaged.
    """
    try:
        return Head.parse(store.get(places.head), f"{store.ref.url}/{places.head}")
    except MissingObjectError:
        return None


def is_reached(head: Head | None, places: Places) -> bool:
    """True if what is current is made from these steps, or from newer ones."""
    if head is None:
        return False
    if head.view == view_name(places):
        return head.generation >= places.generation
    return head.order > (places.generation, len(places.names))


def view_name(places: Places) -> str:
    """The view's folder as a head names it."""
    return places.view.removeprefix(f"{places.folder}/")


def point(store: Store, places: Places, head: Head) -> Head | None:
    """Make `head` current, unless a newer one is.

    Returns:
        What was current before; None if nothing was, or if this changed nothing.
    """
    replaced: list[Head | None] = []

    def change(existing: bytes | None) -> bytes:
        before = None if existing is None else Head.parse(existing, f"{store.ref.url}/{places.head}")
        if existing is not None and is_reached(before, places):
            return existing
        replaced[:] = [before]
        return canonical(head.to_json())

    merge(store, places.head, change)
    return replaced[0] if replaced else None
