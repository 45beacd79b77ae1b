"""What lies below `scenes/` of an OUT: results, committed or not, one after another and never all at once.

Reads listings and nothing else, so it knows sizes and times, and not what a result says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from earthloom.jobs.records.names import RESULT
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelvedScene:
    """One prefix `scenes/<scene_id>/<key>`."""

    scene_id: str
    key: str
    objects: Mapping[str, Head]
    """Objects by name below the prefix."""

    @property
    def prefix(self) -> str:
        return f"scenes/{self.scene_id}/{self.key}"

    @property
    def result(self) -> Head | None:
        """The commit; None if the scene is not committed."""
        return self.objects.get(RESULT)

    @property
    def size_bytes(self) -> int:
        return sum(head.size for head in self.objects.values())

    @property
    def modified_s(self) -> float:
        """When anything was last written here, POSIX time."""
        return max(head.modified_s for head in self.objects.values())


def shelved(store: Store, prefix: str = "scenes") -> Iterator[ShelvedScene]:
    """Every result below `prefix` (`scenes`, or one result's own), in the order of the listing."""

    def place(head: Head) -> tuple[str, ...]:
        return tuple(head.key.split("/")[1:3])

    whole = (head for head in store.list(prefix) if head.key.count("/") >= 3)
    for (scene_id, key), heads in groupby(whole, key=place):
        base = f"scenes/{scene_id}/{key}/"
        objects = {head.key.removeprefix(base): head for head in heads}
        yield ShelvedScene(scene_id=scene_id, key=key, objects=objects)
