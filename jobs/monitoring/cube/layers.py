"""One shard of one date: its scenes' published COGs are brought onto the grid, merged, written and vouched for.

A task for a worker. Classes and their confidence come by nearest neighbour, the bands of images as everywhere else
(`tiling.resampling`). Each file is warped as a whole and read in windows, so how the grid is cut changes no pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.marks import ShardMark
from earthloom.jobs.monitoring.cube.overlap import merge
from earthloom.jobs.monitoring.cube.sources import Source, SourceRaster
from earthloom.jobs.products.statistics import Counted, count_classes
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.tiling.counting import count
from earthloom.tiling.grid import Grid
from earthloom.tiling.outline import inside
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.resampling import resampling
from earthloom.tiling.scene import Asset, Band, Scene
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_cube import CubeLayout

_FIXED_BYTES = 48 * 2**20
"""A strip of true areas with its temporaries, and what zarr and its codecs hold of chunks; measured, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A scene of a date, and the map that masks it."""

    source: Source
    mask: Source | None = None
    masked: tuple[int, ...] = ()
    """Classes of the mask that take pixels away; where the mask has no data, the scene has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTask:
    """Make one shard of one step."""

    generation: str
    """Prefix of the generation, below which cube and marks lie."""
    layout: CubeLayout
    step: int
    row: int
    col: int
    members: tuple[Member, ...]
    """Members in the order in which ties are decided."""
    confident: bool
    """True if the most confident scene is taken, and not the first."""
    n_classes: int
    """0 for an image."""
    piece_bytes: int = 0
    """Most bytes of a file under one piece of a warp (`tiling.resampling`)."""
    outline: str | None = None
    """GeoJSON of the area, outside of which nothing has data."""

    @property
    def key(self) -> str:
        return f"{self.generation}/{self.step}/{self.row}_{self.col}"

    @property
    def window(self) -> Window:
        return self.layout.shard_window(self.row, self.col)

    @property
    def memory_bytes(self) -> int:
        px_bytes = sum(np.dtype(layer.dtype).itemsize for layer in self.layout.layers)
        # values and mask as read, reflected and merged; one layer encoded
        return self.window.size_px * (3 * px_bytes + 5) + self.piece_bytes + _FIXED_BYTES

    def do(self, store: Store) -> str:
        """Write the shard of each layer, then the mark that vouches for them; the mark's key."""
        window = self.window
        merged = merge(
            self._scenes(store, window), self.layout.layers, window.shape, by=CONFIDENCE if self.confident else None
        )
        objects: dict[str, StoredObject | None] = {}
        for layer in self.layout.layers:
            key = self.layout.shard_key(layer.name, self.step, self.row, self.col)
            data = self.layout.encode_shard(layer.name, merged[layer.name])
            objects[layer.name] = None
            if data is not None:
                store.put(f"{self.generation}/cube.zarr/{key}", data)
                objects[layer.name] = StoredObject.of(data)
        mark = ShardMark(row=self.row, col=self.col, objects=objects, counted=self._count(merged, window))
        mark.write(store, self.generation, self.step)
        return self.key

    def _scenes(self, store: Store, window: Window) -> Iterator[tuple[Mapping[str, NDArray[Any]], NDArray[np.bool_]]]:
        within = inside(self.outline, self.layout.grid, window) if self.outline else np.True_
        if not within.any():
            return
        for member in self.members:
            values, valid = read_onto(store, member.source, self.layout.grid, window)
            valid = valid & within
            if member.mask is not None and valid.any():
                clouds, known = read_onto(store, member.mask, self.layout.grid, window)
                valid = valid & known & ~np.isin(clouds[CLASSES], member.masked)
            yield values, valid

    def _count(self, merged: Mapping[str, NDArray[Any]], window: Window) -> Counted:
        sums = {
            layer.name: count(merged[layer.name], layer.nodata) for layer in self.layout.layers if layer.name != CLASSES
        }
        if not self.n_classes:
            return Counted(sums=sums)
        tally, _ = count_classes(self.layout.grid, window, merged[CLASSES], merged[CONFIDENCE], self.n_classes)
        return Counted(tally=tally, sums=sums)


def read_onto(
    store: Store, source: Source, grid: Grid, window: Window
) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
    """A committed result's layers in a window of any grid.

    Returns:
        (h, w) by layer of stored values, and where all of them are valid.

    Raises:
        SceneError: if a file is damaged, or is not the one that was committed.
        StorageError: if the storage failed.
    """
    categorical = bool(source.classes)
    assets = tuple(_asset(store, source.prefix, raster) for raster in source.rasters)
    bands = tuple(
        Band(
            name=layer.name, asset=number, index=index, dtype=layer.dtype, nodata=layer.nodata, categorical=categorical,
            resampling=resampling(raster.grid, grid, categorical=categorical) or "nearest",
        )
        for number, raster in enumerate(source.rasters)
        for index, layer in enumerate(raster.layers, 1)
    )  # fmt: skip
    scene = Scene(id=source.scene_id, grid=grid, assets=assets, bands=bands, quantity="dn")
    pixels = read_pixels(scene, bands, window, 0, decide=window)
    return {
        band.name: values.astype(band.dtype, copy=False) for band, values in zip(bands, pixels.values, strict=True)
    }, pixels.valid


def _asset(store: Store, prefix: str, raster: SourceRaster) -> Asset:
    """The file, pinned to the bytes that were committed: by their digest where they lie in a folder, else by the ETag."""
    ref = store.ref / f"{prefix}/{raster.name}"
    return Asset(ref=ref, identity=f"sha256:{raster.sha256}") if ref.scheme == "file" else pin(ref)
