"""What a worker does for a derived map whose shards are all done, a composite's or a monitor's alike. It may be done twice."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Protocol

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.planning.memory import publishing_bytes
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.publish.files import publish_files
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
        """Whether this task committed it; False if another writer was faster and made the same."""
        return publish_files(store, self.made.publication, self.write_id)[1]
