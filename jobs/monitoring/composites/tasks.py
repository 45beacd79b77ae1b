"""The task of workers for composites: reduce one shard of a period. It may be done twice.

A shard is reduced window by window: all of its dates at once would be the largest thing here, however many there are. Which
windows these are changes no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from earthloom.jobs.monitoring.composites.composite import Composite
from earthloom.jobs.monitoring.composites.rules import reduce_dates, reducing_bytes_per_px
from earthloom.jobs.monitoring.cutting import LEAST_BYTES, part_name, reading_bytes, windows, writing_bytes
from earthloom.jobs.publish.shards import finish_shard
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ReduceTask:
    """One shard of a composite."""

    composite: Composite
    part: Window
    """Window of the shard on the grid."""

    @property
    def key(self) -> str:
        return f"{self.composite.prefix}/{part_name(self.part, self.composite.cube.shard_px)}"

    @property
    def memory_bytes(self) -> int:
        """Most that it takes beyond what a worker takes idle."""
        layers, n_dates = self.composite.cube.layers, len(self.composite.steps)
        out = self.part.size_px * self.composite.publication.stored_bytes
        window_px = max(window.size_px for window in self.windows())
        sizes = [np.dtype(layer.dtype).itemsize * window_px for layer in layers]
        reducing = window_px * reducing_bytes_per_px(layers, n_dates)
        return out + max(reading_bytes(n_dates, sizes), reducing, writing_bytes(out, self.part.width)) + LEAST_BYTES

    def windows(self) -> Iterator[Window]:
        """The windows that are reduced one after another, row-major."""
        px_bytes = reducing_bytes_per_px(self.composite.cube.layers, len(self.composite.steps))
        return windows(self.part, px_bytes)

    def do(self, store: Store) -> int:
        """Read, reduce, write, then mark as done. Returns how many pixels it made."""
        composite, cube = self.composite, self.composite.cube
        publication = composite.publication
        out = {
            layer.name: np.empty(self.part.shape, layer.dtype) for layer in publication.layout.layers
        }  # fmt: skip
        for window in self.windows():
            values = {layer.name: cube.read(store, layer.name, window, composite.positions) for layer in cube.layers}
            reduced = reduce_dates(
                composite.rule,
                cube.layers,
                values,
                composite.order,
                n_classes=len(cube.classes),
                count_dtype=composite.count_dtype,
            )
            del values
            for name, pixels in reduced.items():
                out[name][window.slices(self.part)] = pixels
        finish_shard(store, publication, self.part, out)
        return self.part.size_px
