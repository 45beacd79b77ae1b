"""What workers do for composites: reduce one shard of a period, publish a period. Each may be done twice.

A shard is reduced window by window: all of its dates at once would be the largest thing here, however many there are. Which
windows these are changes no pixel.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from earthloom.jobs.monitoring.composites.composite import Composite
from earthloom.jobs.monitoring.composites.rules import reduce_dates, reducing_bytes_per_px
from earthloom.jobs.monitoring.cube.cube import READS_AT_ONCE_BYTES
from earthloom.jobs.planning.memory import publishing_bytes
from earthloom.jobs.publish.files import committed_document, publish_files
from earthloom.jobs.publish.shards import finish_shard
from earthloom.jobs.records.markers import finished_shards
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import CHUNK_PX

_STACK_BYTES = 192 * 2**20
"""Of all dates of a window, as far as a strip of a chunk allows; more is not faster, as the reducers work in small strips."""
_LEAST_ROWS = 32
"""Of a window that is lower than a chunk, which is then decoded again for the next one."""
_WRITTEN = 3.5
"""Times a shard's layers: a copy with its overviews (4 / 3), and as tiles and in the Zarr, where nothing can be compressed."""
_AREA_STRIP_BYTES = 256 * 8 * 4
"""Per column: a strip of areas with temporaries, when classes are counted."""
_DECODED = 3
"""Times what is read of a layer at once: what zarr holds beside what it returns."""
_LEAST_BYTES = 12 * 2**20
"""Buffers of strips, metadata, threads that write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceTask:
    """One shard of a composite."""

    composite: Composite
    part: Window
    """Of the shard on the grid."""

    @property
    def key(self) -> str:
        shard_px = self.composite.cube.shard_px
        return f"{self.composite.prefix}/{self.part.row_off // shard_px}_{self.part.col_off // shard_px}"

    @property
    def memory_bytes(self) -> int:
        """Most that it takes beyond what a worker takes idle."""
        layers, n_dates = self.composite.cube.layers, len(self.composite.steps)
        out = self.part.size_px * self.composite.publication.stored_bytes
        window_px = max(window.size_px for window in self.windows())
        sizes = [np.dtype(layer.dtype).itemsize * window_px for layer in layers]
        reading = n_dates * sum(sizes) + _DECODED * max(
            min(max(READS_AT_ONCE_BYTES, size), n_dates * size) for size in sizes
        )
        reducing = window_px * reducing_bytes_per_px(layers, n_dates)
        writing = int(_WRITTEN * out) + _AREA_STRIP_BYTES * self.part.width
        return out + max(reading, reducing, writing) + _LEAST_BYTES

    def windows(self) -> Iterator[Window]:
        """What is reduced at once, row-major."""
        part, px_bytes = self.part, reducing_bytes_per_px(self.composite.cube.layers, len(self.composite.steps))
        most_px = max(1, _STACK_BYTES // px_bytes)
        across = part.width if most_px >= CHUNK_PX * part.width else min(part.width, CHUNK_PX)
        down = most_px // across // CHUNK_PX * CHUNK_PX or max(_LEAST_ROWS, most_px // across)
        for row in range(part.row_off, part.row_end, down):
            for col in range(part.col_off, part.col_end, across):
                yield Window(col, row, across, down) & part

    def do(self, store: Store) -> int:
        """Read, reduce, write, then mark as done. Returns how many pixels it made."""
        made, cube = self.composite, self.composite.cube
        publication = made.publication
        out = {
            layer.name: np.empty(self.part.shape, layer.dtype) for layer in publication.layout.layers
        }  # fmt: skip
        for window in self.windows():
            values = {layer.name: cube.read(store, layer.name, window, made.positions) for layer in cube.layers}
            reduced = reduce_dates(
                made.rule, cube.layers, values, made.order, n_classes=len(cube.classes), count_dtype=made.count_dtype
            )
            del values
            for name, pixels in reduced.items():
                out[name][window.slices(self.part)] = pixels
        finish_shard(store, publication, self.part, out)
        return self.part.size_px


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishCompositeTask:
    """A composite whose shards are all done."""

    composite: Composite
    write_id: str = field(default_factory=lambda: secrets.token_hex(16))
    """By which a repetition knows a commit that is this task's own."""

    @property
    def key(self) -> str:
        return f"{self.composite.prefix}/publish"

    @property
    def memory_bytes(self) -> int:
        made = self.composite
        return publishing_bytes(made.cube.grid.window, made.cube.shard_px, made.publication.stored_bytes)

    def do(self, store: Store) -> bool:
        """Whether this task committed it; False if another writer was faster and made the same."""
        return publish_files(store, self.composite.publication, self.write_id)[1]


def is_committed(store: Store, composite: Composite) -> bool:
    """Whether a composite is published; one request."""
    return committed_document(store, composite.prefix) is not None


def missing_shards(store: Store, composite: Composite) -> list[ReduceTask]:
    """The tasks of all shards that no marker vouches for yet, row-major."""
    publication = composite.publication
    done = finished_shards(store, composite.prefix, publication.layout)
    return [
        ReduceTask(composite=composite, part=part)
        for row, col, part in composite.cube.shards()
        if (row, col) not in done
    ]
