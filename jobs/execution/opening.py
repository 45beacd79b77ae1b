"""What storage knows of the scenes of a run before their blocks are sent: asked for some scenes ahead, in order.

A distant store answers after tens of milliseconds, so several scenes are asked for at a time. Reads only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.layout import publication_of
from earthloom.jobs.publish.scene import committed
from earthloom.jobs.records.markers import finished_shards, missing_blocks
from earthloom.jobs.records.result import SceneSummary
from earthloom.tiling.background import Background
from earthloom.tiling.storage.store import Store

_AT_ONCE = 8
_AHEAD = 24
"""Scenes of which the answer is kept until it is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredScene:
    """What storage holds of one scene."""

    result: SceneSummary | None
    """If it is published."""
    shards: frozenset[tuple[int, int]]
    """(row, col) of those that are done, of a scene that is not published."""
    missing: int
    """Blocks that are still to be computed."""


class StoredScenes:
    """What storage holds of each scene, in order; some scenes ahead are asked for already."""

    def __init__(self, store: Store, plans: Iterable[ScenePlan]) -> None:
        self._store, self._plans = store, iter(plans)
        self._threads = Background(_AT_ONCE, "open")
        self._coming: deque[tuple[ScenePlan, Future[StoredScene]]] = deque()
        self._seen: deque[tuple[ScenePlan, Future[StoredScene]]] = deque()

    def all_published(self) -> bool:
        """Whether storage holds every scene; looks no further than the first that it does not hold."""
        while self._ask():
            self._seen.append(self._coming.popleft())
            _, future = self._seen[-1]
            if future.exception() or not future.result().result:
                return False
        return True

    def shares_missing(self) -> dict[str, float]:
        """The share of its blocks that is still to be computed, 0 to 1, for each scene that is not published.

        Raises:
            StorageError: if storage cannot tell.
        """
        return {plan.scene.id: share for plan, share in self.missing()}

    def missing(self) -> Iterator[tuple[ScenePlan, float]]:
        """What `shares_missing` gives, one by one, asking no further than is iterated; to be done before the first `next`.

        Raises:
            StorageError: if storage cannot tell.
        """
        seen = 0
        while seen < len(self._seen) or self._ask():
            if seen == len(self._seen):
                self._seen.append(self._coming.popleft())
            plan, future = self._seen[seen]
            seen += 1
            if not (stored := future.result()).result:
                yield plan, stored.missing / plan.n_blocks

    def next(self) -> tuple[ScenePlan, Future[StoredScene]] | None:
        """The next scene, with what storage answers or the error with which it failed; None after the last one."""
        if self._seen:
            return self._seen.popleft()
        return self._coming.popleft() if self._ask() else None

    def _ask(self) -> bool:
        """Ask for scenes as far ahead as is allowed; whether any is left."""
        while len(self._coming) < _AHEAD and (plan := next(self._plans, None)) is not None:
            self._coming.append((plan, self._threads.submit(stored_scene, self._store, plan)))
        return bool(self._coming)


def stored_scene(store: Store, plan: ScenePlan) -> StoredScene:
    """What storage holds of one scene."""
    if result := committed(store, plan):
        return StoredScene(result=result.summary, shards=frozenset(), missing=0)
    shards = finished_shards(store, plan.prefix, publication_of(plan).layout)
    missing = sum(1 for _ in missing_blocks(plan.blocks(), plan.shard_px, shards))
    return StoredScene(result=None, shards=frozenset(shards), missing=missing)
