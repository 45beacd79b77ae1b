"""Layout of a stack of dates as one Zarr v3: arrays (time, y, x) whose shards hold one date each, and a CF time axis.

Pure: it makes metadata documents and the bytes of shards. A date is added by shards of its own, then its place in the
time coordinate, then the root document, which alone says how many dates there are.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.grid import Grid
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import (
    Layer,
    cf_attributes,
    check_shard,
    consolidated,
    create_coordinates,
    create_layer,
    declared,
    encode_shard,
    geo_attributes,
)

if TYPE_CHECKING:
    import zarr
    from zarr.core.buffer import Buffer

ROOT = "zarr.json"
"""The document that says all: array metadata, and so the number of dates, is inlined in it."""

TIME_CHUNK = 1024
"""Dates per object of the time coordinate. It never changes, so that an object with further dates reads as before."""

EPOCH = datetime.date(1970, 1, 1)
_TIME_DTYPE = "<i4"


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeLayout:
    """What lies where in a cube.

    Raises:
        TilingError: if the shard is not a multiple of the 512 px chunk.
    """

    grid: Grid
    layers: tuple[Layer, ...]
    shard_px: int
    title: str = ""

    def __post_init__(self) -> None:
        check_shard(self.shard_px)

    @property
    def shard_grid(self) -> tuple[int, int]:
        """(rows, columns) of shards."""
        return ceil_div(self.grid.height, self.shard_px), ceil_div(self.grid.width, self.shard_px)

    def shard_window(self, row: int, col: int) -> Window:
        """What a shard covers of the grid."""
        side = self.shard_px
        return Window(col * side, row * side, side, side) & self.grid.window

    def shard_key(self, layer: str, step: int, row: int, col: int) -> str:
        """Object key of one shard below the cube's prefix."""
        return f"{layer}/c/{step}/{row}/{col}"

    def layer(self, name: str) -> Layer:
        """The layer of this name.

        Raises:
            KeyError: if there is none.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def encode_shard(self, layer: str, pixels: NDArray[Any]) -> bytes | None:
        """One date's shard. `pixels` is (h, w) of the layer's dtype, smaller than the shard only at the far edges.

        Returns:
            The bytes to PUT at `shard_key`, or None when every pixel is nodata: such a shard is not stored.

        Raises:
            TilingError: if the array is larger than a shard or not of the layer's dtype.
        """
        return encode_shard(self.layer(layer), pixels, self.shard_px)

    def metadata(self, n_steps: int, attributes: Mapping[str, Any]) -> dict[str, bytes]:
        """Every document except shards and dates, by key: a pure function of its arguments.

        Args:
            n_steps: dates that are there.
            attributes: of the root group, beside those of CF and the Zarr conventions.
        """
        import zarr
        from zarr.storage import MemoryStore

        documents: dict[str, Buffer] = {}
        root = zarr.create_group(
            MemoryStore(documents), zarr_format=3,
            attributes={
                **cf_attributes(self.title), "coordinates": "spatial_ref", **declared("proj", "spatial"),
                **geo_attributes(self.grid), **attributes,
            },
        )  # fmt: skip
        for layer in self.layers:
            create_layer(root, layer, (n_steps, *self.grid.shape), self.shard_px, geo_attributes(self.grid))
        _create_time(root, n_steps)
        create_coordinates(root, self.grid)
        return consolidated({key: value.to_bytes() for key, value in sorted(documents.items())})

    def array(self, store: Any, layer: str, n_steps: int) -> zarr.Array[Any]:
        """A layer for reading, (n_steps, y, x), without a request: its metadata follow from the layout.

        Args:
            store: a zarr-python store on the cube's prefix.
        """
        import zarr
        from zarr.core.array import AsyncArray
        from zarr.storage import MemoryStore, StorePath

        group = zarr.create_group(MemoryStore(), zarr_format=3)
        made = create_layer(group, self.layer(layer), (n_steps, *self.grid.shape), self.shard_px)
        return zarr.Array(AsyncArray(metadata=made.metadata, store_path=StorePath(store, layer)))


def time_keys(dates: Sequence[datetime.date]) -> list[str]:
    """Keys of the objects of the time coordinate that hold so many dates."""
    return [f"time/c/{number}" for number in range(ceil_div(len(dates), TIME_CHUNK))]


def encode_times(dates: Sequence[datetime.date], number: int, existing: bytes | None = None) -> bytes:
    """One object of the time coordinate: days since 1970-01-01, int32, little-endian, not compressed.

    Args:
        dates: all of the cube, from the first.
        number: number of the object.
        existing: what is there; what it holds beyond `dates` is kept, as another writer may be ahead.
    """
    values = np.frombuffer(existing, _TIME_DTYPE).copy() if existing else np.zeros(TIME_CHUNK, _TIME_DTYPE)
    own = dates[number * TIME_CHUNK : (number + 1) * TIME_CHUNK]
    values[: len(own)] = [(date - EPOCH).days for date in own]
    return values.tobytes()


def _create_time(group: zarr.Group, n_steps: int) -> None:
    group.create_array(
        "time", shape=(n_steps,), dtype="int32", chunks=(TIME_CHUNK,), fill_value=0, compressors=None,
        dimension_names=("time",),
        attributes={
            "standard_name": "time", "long_name": "day of acquisition, UTC", "axis": "T",
            "units": "days since 1970-01-01", "calendar": "standard",
        },
    )  # fmt: skip
