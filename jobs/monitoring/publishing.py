"""The way of a map that is derived from a cube, a composite or that of a monitor: its shards, then its publication."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.planning.memory import publishing_bytes
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.publish.files import committed_document, publish_files
from earthloom.jobs.records.markers import finished_shards
from earthloom.tiling.storage.store import Store


class Derived(Protocol):
    """A map that is made of a cube's dates."""

    @property
    def cube(self) -> Cube: ...

    @property
    def prefix(self) -> str:
        """Its folder below OUT."""

    @property
    def publication(self) -> Publication: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTask:
    """A derived map whose shards are all done."""

    made: Derived
    write_id: str = field(default_factory=lambda: secrets.token_hex(16))
    """Id by which a repetition knows a commit that is this task's own."""

    @property
    def key(self) -> str:
        return f"{self.made.prefix}/publish"

    @property
    def memory_bytes(self) -> int:
        """Most that it takes beyond what a worker takes idle."""
        cube = self.made.cube
        return publishing_bytes(cube.grid.window, cube.shard_px, self.made.publication.stored_bytes)

    def do(self, store: Store) -> bool:
        """Returns True if this task committed it, False if another writer was faster and made the same."""
        return publish_files(store, self.made.publication, self.write_id)[1]


def plan_derived(store: Store, made: Derived, shard_task: Callable[..., MonitorTask]) -> list[MonitorTask]:
    """Tasks that can be done now: shards that no marker vouches for yet, row-major, else the publication; none once it is
    committed.

    Args:
        shard_task: makes the task of a shard, given its window as `part`.
    """
    if committed_document(store, made.prefix) is not None:
        return []
    done = finished_shards(store, made.prefix, made.publication.layout)
    missing = [shard_task(part=part) for row, col, part in made.cube.shards() if (row, col) not in done]
    return missing or [PublishTask(made=made)]
