"""What nobody needs any more, as `earthloom gc` names it; and the generations of cubes that have been replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from earthloom.jobs.records.canonical import read_document
from earthloom.tiling.errors import PublishError
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.store import Store

_DEPTH = 6
"""Parts of a key below `monitors` that name a generation: monitors/<aoi>/<product>/<key>/generations/<n>."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rubbish:
    """Something that may go."""

    kind: str
    """`scene`, `run`, `leftover`, `generation`, `derived`, `superseded`, `expired`, `record` or `weights`."""
    place: str
    """Prefix below OUT, or key of a leftover."""
    objects: int
    size_bytes: int
    age_s: float
    """Since it was last written; of a superseded result or generation: since the newer one took its place."""
    why: str


def replaced_generations(store: Store, before_s: float, now: float, notes: list[str]) -> Iterator[Rubbish]:
    """Generations of cubes that readers have not followed since `before_s`, POSIX time: `head.json` names a later one.

    Args:
        notes: gets what cannot be read, which is kept.
    """
    for base, heads in groupby(store.list("monitors"), key=lambda head: "/".join(head.key.split("/")[:4])):
        every = list(heads)
        head = next((one for one in every if one.key == f"{base}/head.json"), None)
        if head is None or head.modified_s > before_s:  # a reader may have begun a moment ago
            continue
        try:
            current = int(read_document(store.get(head.key), head.key)["generation"])
        except (PublishError, KeyError, TypeError, ValueError) as error:
            notes.append(f"{base} is kept: its head.json is damaged ({type(error).__name__}: {error})")
            continue
        held: dict[str, list[Head]] = {}
        for one in every:
            parts = one.key.split("/")
            if len(parts) > _DEPTH and parts[4] == "generations" and parts[5].isdigit() and int(parts[5]) < current:
                held.setdefault("/".join(parts[:_DEPTH]), []).append(one)
        for place, objects in held.items():
            if max(one.modified_s for one in objects) <= before_s:
                yield Rubbish(
                    kind="generation", place=place, objects=len(objects), size_bytes=sum(one.size for one in objects),
                    age_s=now - head.modified_s, why=f"generation {current} has taken its place",
                )  # fmt: skip
