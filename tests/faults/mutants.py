"""The protocol, broken in one place at a time: if no test notices, the tests prove nothing.

Each mutant is a mistake that somebody could make in an afternoon. `MUTANTS` names for each the scenario that catches it.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import earthloom.jobs.execution.worker
import earthloom.jobs.planning.plan
import earthloom.jobs.records.documents
from earthloom.jobs.planning.key import scene_key
from earthloom.jobs.publish.shards import Puts
from earthloom.jobs.records.canonical import canonical
from earthloom.jobs.records.documents import Claim
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.chain import Stage
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.local import LocalObjects
from tests.faults import scenarios
from tests.faults.scenarios import Scenario


@contextmanager
def marker_before_data() -> Iterator[None]:
    """A block's marker is written, then its shards."""
    real = earthloom.jobs.execution.worker.BlockWorker.__init__

    def init(self: Any, setup: Any) -> None:
        real(self, setup)
        self._store = _MarkerFirst(self._store)
        self._puts = Puts(self._store)

    with mock.patch.object(earthloom.jobs.execution.worker.BlockWorker, "__init__", init):
        yield


class _MarkerFirst:
    def __init__(self, inner: Any) -> None:
        self._inner, self._held = inner, threading.local()

    def put(self, key: str, data: bytes) -> None:
        held = vars(self._held).setdefault("puts", [])
        if not ("/blocks/" in key and key.endswith(".json")):
            held.append((key, data))
            return
        self._inner.put(key, data)
        while held:
            self._inner.put(*held.pop(0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def key_without_model() -> Iterator[None]:
    """The scene key forgets which model it is for."""

    def plain(card: ModelCard) -> ModelCard:
        return dataclasses.replace(card, mean=(0.0,) * len(card.mean), std=(1.0,) * len(card.std))

    def changed(scene: Any, bands: Any, stages: Sequence[Stage], *rest: Any, **options: Any) -> str:
        heedless = [dataclasses.replace(stage, cards=tuple(map(plain, stage.cards))) for stage in stages]
        return scene_key(scene, bands, heedless, *rest, **options)

    with mock.patch("earthloom.jobs.planning.plan.scene_key", changed):
        yield


@contextmanager
def commit_without_check() -> Iterator[None]:
    """A scene is committed when its last block has answered, whatever storage holds by then."""
    with mock.patch("earthloom.jobs.publish.files._check_complete"):
        yield


@contextmanager
def tiles_without_check() -> Iterator[None]:
    """Tiles go into the file as storage gives them."""
    with mock.patch("earthloom.tiling.writing.cog_parts._check"):
        yield


@contextmanager
def no_read_back() -> Iterator[None]:
    """Whoever is told that the object exists has lost."""

    def claim(store: Any, key: str, document: Any) -> Claim:
        ours = {**document, "write_id": "0" * 32}
        return Claim(bool(store.create(key, canonical(ours))), ours)

    with mock.patch("earthloom.jobs.records.documents.claim", claim):
        yield


@contextmanager
def exists_means_done() -> Iterator[None]:
    """A shard that exists is not written."""
    real = LocalObjects.put

    def put(self: Any, key: str, data: bytes) -> None:
        if not ("/c/" in key and self._path(key).exists()):
            real(self, key, data)

    with mock.patch.object(LocalObjects, "put", put):
        yield


@contextmanager
def commit_by_plain_put() -> Iterator[None]:
    """The commit is an unconditional PUT."""

    def claim(store: Any, key: str, document: Any) -> Claim:
        ours = {**document, "write_id": "0" * 32}
        store.put(key, canonical(ours))
        return Claim(True, ours)

    with mock.patch("earthloom.jobs.records.documents.claim", claim):
        yield


@contextmanager
def merge_by_plain_put() -> Iterator[None]:
    """Catalogues are rewritten without If-Match."""

    def merge(store: Any, key: str, change: Callable[[bytes | None], bytes]) -> None:
        try:
            existing = store.get(key)
        except MissingObjectError:
            existing = None
        changed = change(existing)
        if not store.create(key, changed):
            store.put(key, changed)

    with ExitStack() as stack:
        for name in (
            "earthloom.jobs.publish.catalog.merge",
            "earthloom.jobs.records.documents.merge",
            "tests.faults.scenarios.merge",
        ):
            stack.enter_context(mock.patch(name, merge))
        yield


@contextmanager
def store_ignores_if_none_match() -> Iterator[None]:
    """The store overwrites what exists."""

    def create(self: Any, key: str, data: bytes) -> bool:
        self.put(key, data)
        return True

    with mock.patch.object(LocalObjects, "create", create):
        yield


@contextmanager
def store_ignores_if_match() -> Iterator[None]:
    """The store replaces what has changed."""

    def replace(self: Any, key: str, data: bytes, etag: str) -> bool:
        self.put(key, data)
        return True

    with mock.patch.object(LocalObjects, "replace", replace):
        yield


MUTANTS: dict[Callable[[], Any], tuple[Scenario, ...]] = {
    marker_before_data: (scenarios.a_marker_is_proof,),
    key_without_model: (scenarios.a_new_model_is_a_new_result,),
    commit_without_check: (scenarios.a_lost_shard_is_not_published,),
    tiles_without_check: (scenarios.damaged_tiles_are_not_published,),
    no_read_back: (scenarios.an_own_commit_is_known,),
    exists_means_done: (scenarios.garbage_is_overwritten,),
    commit_by_plain_put: (scenarios.one_driver_wins,),
    merge_by_plain_put: (scenarios.nobodys_item_is_lost, scenarios.stale_writers_do_not_win),
    store_ignores_if_none_match: (scenarios.a_store_without_conditions_is_refused,),
    store_ignores_if_match: (scenarios.a_store_without_conditions_is_refused,),
}
