"""What a policy no longer wants: all but the last results of each product, and the records of all but its last runs.

A result that a cube of dates was made of stays whatever the policy says, because the cube, its changes and its alerts are
functions of it; so does one that a living run works on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from earthloom.jobs.upkeep.rubbish import Rubbish, Search
from earthloom.tiling.storage.store import Store

EXPIRED, RECORD = "expired", "record"
"""Kinds of such rubbish: a committed result, and the record of a committed run."""

_MADE_OF = re.compile(rb'"(scenes/[^"/]+/[0-9a-f]{64})"')
_STEPS = re.compile(r"monitors/[^/]+/[^/]+/[^/]+/generations/\d+/(log/\d+\.json|cube\.zarr/zarr\.json)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is kept."""

    keep_last: int
    """Results, and records of runs, of each product."""
    product: str | None = None
    """The one that it holds for; None for each."""


class Result(Protocol):
    """A committed result as `jobs.upkeep.gc` remembers it."""

    @property
    def prefix(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def acquired(self) -> str | None:
        """RFC 3339."""

    @property
    def committed_s(self) -> float: ...
    @property
    def objects(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...


class Run(Protocol):
    """A run as `jobs.upkeep.gc` remembers it."""

    @property
    def run_id(self) -> str: ...
    @property
    def product(self) -> str: ...
    @property
    def objects(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def modified_s(self) -> float: ...
    @property
    def living(self) -> bool: ...
    @property
    def results(self) -> frozenset[str] | None: ...


def expired(search: Search, policy: Policy, results: Iterable[Result], in_use: Collection[str]) -> Iterator[Rubbish]:
    """Results beyond the last ones of their product by acquisition, that were committed before `search.before_s`.

    Of unknown date, when a result was committed counts in place of when its scene was acquired.

    Args:
        in_use: prefixes that living runs work on.
    """
    seen: Counter[str] = Counter()
    members: frozenset[bytes] | None = None
    n_members = n_expired = 0
    for result in sorted(results, key=_moment, reverse=True):
        if policy.product not in (None, result.model):
            continue
        seen[result.model] += 1
        is_young = result.committed_s > search.before_s
        if seen[result.model] <= policy.keep_last or is_young or result.prefix in in_use:
            continue
        if members is None:
            members = cube_members(search.store)
        if result.prefix.encode() in members:
            n_members += 1
            continue
        n_expired += 1
        yield Rubbish(
            kind=EXPIRED, place=result.prefix, objects=result.objects, size_bytes=result.size_bytes,
            age_s=search.now_s - result.committed_s,
            why=f"only the last {policy.keep_last} of {result.model} are kept",
        )  # fmt: skip
    if n_members:
        search.notes.append(f"{n_members} older results are kept: cubes below monitors/ are made of them")
    if n_expired:
        search.notes.append(
            "a run that still names the scene of an expired result computes it again; let it name only newer scenes"
        )


def old_records(search: Search, policy: Policy, runs: Iterable[Run]) -> Iterator[Rubbish]:
    """Records of committed runs beyond the last ones of their product, that nobody has written to since `search.still_s`."""
    seen: Counter[str] = Counter()
    for run in sorted(runs, key=lambda run: run.modified_s, reverse=True):
        if run.results is None or policy.product not in (None, run.product):
            continue
        seen[run.product] += 1
        if seen[run.product] > policy.keep_last and not run.living and run.modified_s <= search.still_s:
            yield Rubbish(
                kind=RECORD, place=f"runs/{run.run_id}", objects=run.objects, size_bytes=run.size_bytes,
                age_s=search.now_s - run.modified_s, why=f"only the last {policy.keep_last} runs of {run.product} are kept",
            )  # fmt: skip


def cube_members(store: Store) -> frozenset[bytes]:
    """Prefixes of the results that any generation of any cube was made of, or is about to be.

    Raises:
        StorageError: if one of the documents cannot be read; nothing may be removed then.
    """
    found: set[bytes] = set()
    for head in store.list("monitors"):
        if _STEPS.match(head.key):
            found.update(_MADE_OF.findall(store.get(head.key)))
    return frozenset(found)


def _moment(result: Result) -> float:
    """POSIX time of acquisition; of commit where that is unknown."""
    return datetime.fromisoformat(result.acquired).timestamp() if result.acquired else result.committed_s
