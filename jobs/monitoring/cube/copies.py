"""Taking a step over from one generation of a cube into the next, on the server: no pixel is decoded.

A task for a worker. What the older generation does not vouch for is left to be computed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from earthloom.jobs.monitoring.cube.marks import ShardMark, vouched
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_cube import CubeLayout

_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTask:
    """Copy all shards of one step, each with its mark after it."""

    source: str
    """Prefix of a generation."""
    source_step: int
    target: str
    target_step: int
    layout: CubeLayout

    @property
    def key(self) -> str:
        return f"{self.target}/{self.target_step}/copy"

    @property
    def memory_bytes(self) -> int:
        return 32 * 2**20  # of a folder, parts of the shards that are copied at once

    def do(self, store: Store) -> int:
        """Returns the number of shards that were copied."""
        marks = vouched(store, self.source, self.layout, self.source_step)

        def copy(mark: ShardMark) -> bool:
            try:
                for layer, stored in mark.objects.items():
                    if stored is not None:
                        store.copy(self._key(self.source, layer, self.source_step, mark),
                                   self._key(self.target, layer, self.target_step, mark))  # fmt: skip
            except MissingObjectError:  # it was there a moment ago
                return False
            mark.write(store, self.target, self.target_step)
            return True

        with ThreadPoolExecutor(_AT_ONCE, "copies") as pool:
            return sum(pool.map(copy, marks.values()))

    def _key(self, generation: str, layer: str, step: int, mark: ShardMark) -> str:
        return f"{generation}/cube.zarr/{self.layout.shard_key(layer, step, mark.row, mark.col)}"
