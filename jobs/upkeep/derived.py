"""What is derived from cubes and has been superseded, or was never finished: composites, changes, trends, views of alerts.

It reads heads and commits alone, and knows nothing of how results are made. A result goes only where a newer one of the same
making has been committed for as long as was asked, and no head leads to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from earthloom.jobs.records.canonical import digest, read_document
from earthloom.jobs.records.names import ITEM, RESULT
from earthloom.jobs.upkeep.rubbish import Rubbish, Search
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.storage.objects import Head
from earthloom.tiling.storage.store import Store

DERIVED = "derived"
"""Kind of such rubbish."""

_DEPTHS = {"composites": 8, "change": 7, "trends": 7}
"""Parts of a key that name a result: monitors/<aoi>/<product>/<key>/composites/<rule>-<every>/<period>/<result>, and so on."""

_HEAD = "head.json"


@dataclass(slots=True)
class _Result:
    prefix: str
    objects: list[Head] = field(default_factory=list)

    @property
    def is_committed(self) -> bool:
        """Partitions of alerts are so one by one."""
        return self._commit is not None or "/updates/" in self.prefix

    @property
    def modified_s(self) -> float:
        return max(head.modified_s for head in self.objects)

    @property
    def committed_s(self) -> float:
        return self._commit.modified_s if self._commit else self.modified_s

    @property
    def _commit(self) -> Head | None:
        return next((head for head in self.objects if head.key == f"{self.prefix}/{_commit_name(self.prefix)}"), None)

    def rubbish(self, age_s: float, why: str) -> Rubbish:
        size = sum(head.size for head in self.objects)
        return Rubbish(
            kind=DERIVED, place=self.prefix, objects=len(self.objects), size_bytes=size, age_s=age_s, why=why
        )


def spent_results(search: Search, *, superseded: bool) -> Iterator[Rubbish]:
    """Unfinished results that nobody has written to since `search.still_s`.

    Args:
        superseded: also committed results of which a newer one was committed before `search.before_s`.
    """
    store = search.store
    for base, heads in groupby(store.list("monitors"), key=lambda head: "/".join(head.key.split("/")[:4])):
        results = _results(heads)
        try:
            named = frozenset(_named(store, base, results))
        except (PublishError, KeyError, TypeError, ValueError, AttributeError) as error:
            search.notes.append(
                f"what is derived below {base} is kept: a head is damaged ({type(error).__name__}: {error})"
            )
            continue
        for result in results.values():
            if not result.is_committed and result.modified_s <= search.still_s and result.prefix not in named:
                yield result.rubbish(search.now_s - result.modified_s, "not committed, and nobody works on it")
        if superseded:
            yield from _replaced(search, base, results, named)


def remove_result(store: Store, place: str, before_s: float) -> bool:
    """Remove one, its commit first; False if it has come to life meanwhile: a head leads to it, or somebody writes there."""
    base = "/".join(place.split("/")[:4])
    results = _results(store.list(base))
    if place not in results or results[place].modified_s > before_s or place in _named(store, base, results):
        return False
    if results[place].is_committed:
        store.delete(f"{place}/{_commit_name(place)}")
    store.delete_all(f"{place}/blocks")
    store.delete_all(place)
    return True


def _results(heads: Iterator[Head]) -> dict[str, _Result]:
    """What lies below one monitored product, by prefix: results, views of alerts, and the heads."""
    found: dict[str, _Result] = {}
    for head in heads:
        parts = head.key.split("/")
        kind = parts[4] if len(parts) > 5 else ""
        depth = 8 if kind == "alerts" and len(parts) > 8 and parts[6] in ("views", "updates") else _DEPTHS.get(kind, 0)
        if depth and len(parts) > depth:
            prefix = "/".join(parts[:depth])
        elif parts[-1] == _HEAD and kind:
            prefix = head.key
        else:
            continue
        found.setdefault(prefix, _Result(prefix)).objects.append(head)
    return found


def _named(store: Store, base: str, results: Mapping[str, _Result]) -> Iterator[str]:
    """Prefixes that a head leads to, and of alerts the partitions beside the view; heads themselves, which always stay."""
    for key in [prefix for prefix in results if prefix.endswith(f"/{_HEAD}")]:
        yield key
        try:
            head = read_document(store.get(key), key)
        except MissingObjectError:
            continue
        folder = key.removesuffix(f"/{_HEAD}")
        if folder.removeprefix(f"{base}/").startswith("alerts/"):
            yield f"{folder}/{head['view']}"
            yield f"{folder}/updates/{int(head['generation'])}"
        for entry in [head] if "prefix" in head else (head.get("periods") or head.get("changes") or {}).values():
            yield str(entry["prefix"])


def _replaced(search: Search, base: str, results: Mapping[str, _Result], named: frozenset[str]) -> Iterator[Rubbish]:
    """Committed results with a newer one of the same making: the one that a head names, else the last to be committed."""
    same_making: dict[str, list[_Result]] = {}
    for result in results.values():
        if result.is_committed and not result.prefix.endswith(f"/{_HEAD}"):
            try:
                same_making.setdefault(_making(search.store, base, result), []).append(result)
            except (PublishError, MissingObjectError) as error:
                search.notes.append(f"{result.prefix} is kept: {error}")
    for group in same_making.values():
        current = max([result for result in group if result.prefix in named] or group, key=lambda it: it.committed_s)
        for result in group:
            is_older = result.committed_s < current.committed_s <= search.before_s
            if is_older and result.modified_s <= search.before_s and result.prefix not in named:
                yield result.rubbish(search.now_s - current.committed_s, f"{current.prefix} has taken its place")


def _commit_name(prefix: str) -> str:
    return ITEM if prefix.split("/")[4] == "alerts" else RESULT


def _making(store: Store, base: str, result: _Result) -> str:
    """A digest that two results share if one is the newer version of the other: of their place, and of all that was asked."""
    shelf = result.prefix.rpartition("/")[0]
    asked: Any = None
    if not shelf.removeprefix(f"{base}/").startswith("alerts/"):
        document = read_document(store.get(f"{result.prefix}/{RESULT}"), RESULT)
        asked = {name: document.get(name) for name in ("kind", "rule", "layer", "min_area_m2")}
    return digest({"shelf": shelf, "asked": asked})
