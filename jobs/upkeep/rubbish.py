"""What nobody needs any more, as `earthloom gc` names it; and the generations of cubes that have been replaced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
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
    """Time since it was last written; for a superseded result or generation, since the newer one took its place."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One search for rubbish below an OUT: where it looks, what is old enough for it, and what it tells besides.

    Attributes:
        now_s: POSIX time when the search began.
        before_s: POSIX time; what was written to since then, or replaced since then, is too young to go.
        still_s: POSIX time, at most `before_s`; what looks unfinished and was written to since then may be in the middle of
            being written, also by a run that has not yet said that it lives.
        notes: gets what is kept though it looks like rubbish, such as what cannot be read.
    """

    store: Store
    now_s: float
    before_s: float
    still_s: float
    notes: list[str] = field(default_factory=list)


def replaced_generations(search: Search) -> Iterator[Rubbish]:
    """Generations of cubes that readers have not followed since `search.before_s`: `head.json` names a later one."""
    store, before_s = search.store, search.before_s
    for base, heads in groupby(store.list("monitors"), key=lambda head: "/".join(head.key.split("/")[:4])):
        objects = list(heads)
        head = next((item for item in objects if item.key == f"{base}/head.json"), None)
        if head is None or head.modified_s > before_s:  # a reader may have begun a moment ago
            continue
        try:
            current = int(read_document(store.get(head.key), head.key)["generation"])
        except (PublishError, KeyError, TypeError, ValueError) as error:
            search.notes.append(f"{base} is kept: its head.json is damaged ({type(error).__name__}: {error})")
            continue
        replaced: dict[str, list[Head]] = {}
        for item in objects:
            parts = item.key.split("/")
            if len(parts) > _DEPTH and parts[4] == "generations" and parts[5].isdigit() and int(parts[5]) < current:
                replaced.setdefault("/".join(parts[:_DEPTH]), []).append(item)
        for place, items in replaced.items():
            if max(item.modified_s for item in items) <= before_s:
                yield Rubbish(
                    kind="generation", place=place, objects=len(items), size_bytes=sum(item.size for item in items),
                    age_s=search.now_s - head.modified_s, why=f"generation {current} has taken its place",
                )  # fmt: skip
