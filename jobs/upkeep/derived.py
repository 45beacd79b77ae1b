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
from earthloom.jobs.upkeep.rubbish import Rubbish
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
        return max(one.modified_s for one in self.objects)

    @property
    def committed_s(self) -> float:
        return self._commit.modified_s if self._commit else self.modified_s

    @property
    def _commit(self) -> Head | None:
        return next((one for one in self.objects if one.key == f"{self.prefix}/{_commit_name(self.prefix)}"), None)

    def rubbish(self, age_s: float, why: str) -> Rubbish:
        size = sum(one.size for one in self.objects)
        return Rubbish(
            kind=DERIVED, place=self.prefix, objects=len(self.objects), size_bytes=size, age_s=age_s, why=why
        )


def spent_results(
    store: Store, before_s: float, still_s: float, now: float, notes: list[str], *, superseded: bool
) -> Iterator[Rubbish]:
    """What is not finished and that nobody has written to since `still_s`; and, if `superseded`, what newer results replace.

    Args:
        before_s, still_s, now: POSIX times.
        notes: gets what cannot be read, which is kept.
        superseded: also committed results of which a newer one was committed before `before_s`.
    """
    for base, heads in groupby(store.list("monitors"), key=lambda head: "/".join(head.key.split("/")[:4])):
        results = _results(heads)
        try:
            named = frozenset(_named(store, base, results))
        except (PublishError, KeyError, TypeError, ValueError, AttributeError) as error:
            notes.append(f"what is derived below {base} is kept: a head is damaged ({type(error).__name__}: {error})")
            continue
        for one in results.values():
            if not one.is_committed and one.modified_s <= still_s and one.prefix not in named:
                yield one.rubbish(now - one.modified_s, "not committed, and nobody works on it")
        if superseded:
            yield from _replaced(store, base, results, named, before_s, now, notes)


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
    """By prefix, what lies below one monitored product: results, views of alerts, and the heads."""
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


def _replaced(
    store: Store,
    base: str,
    results: Mapping[str, _Result],
    named: frozenset[str],
    before_s: float,
    now: float,
    notes: list[str],
) -> Iterator[Rubbish]:
    groups: dict[str, list[_Result]] = {}
    for one in results.values():
        if one.is_committed and not one.prefix.endswith(f"/{_HEAD}"):
            try:
                groups.setdefault(_making(store, base, one), []).append(one)
            except (PublishError, MissingObjectError) as error:
                notes.append(f"{one.prefix} is kept: {error}")
    for group in groups.values():
        current = max([one for one in group if one.prefix in named] or group, key=lambda one: one.committed_s)
        for one in group:
            is_older = one.committed_s < current.committed_s <= before_s
            if is_older and one.modified_s <= before_s and one.prefix not in named:
                yield one.rubbish(now - current.committed_s, f"{current.prefix} has taken its place")


def _commit_name(prefix: str) -> str:
    return ITEM if prefix.split("/")[4] == "alerts" else RESULT


def _making(store: Store, base: str, one: _Result) -> str:
    """What two results share that are old and new of one another: the place, and all that was asked for."""
    shelf = one.prefix.rpartition("/")[0]
    asked: Any = None
    if not shelf.removeprefix(f"{base}/").startswith("alerts/"):
        document = read_document(store.get(f"{one.prefix}/{RESULT}"), RESULT)
        asked = {name: document.get(name) for name in ("kind", "rule", "layer", "min_area_m2")}
    return digest({"shelf": shelf, "asked": asked})
