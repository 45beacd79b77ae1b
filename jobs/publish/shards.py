"""What the owner of a shard writes of a publication: its levels in the Zarr, its tiles of all files, and then its marker.

Knows nothing of where the pixels came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.publication import Publication
from earthloom.jobs.records.blocks import ShardRecord, StoredObject, TableIndex, shard_marker
from earthloom.jobs.records.markers import marker_key, shard_keys, tiles_key
from earthloom.jobs.records.names import DATA
from earthloom.tiling.background import Background
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Block, Window
from earthloom.tiling.writing.cog_parts import TileIndex, pack

_PUTS = 8
"""Objects that are written at once: from far away one after another would take longer than computing."""

Put: TypeAlias = Callable[[str, bytes], Future[StoredObject]]
"""Key below OUT and bytes of an object to the future of what was written."""


class Puts:
    """Writes objects to a store while the caller goes on; from any number of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = Background(_PUTS, "put")

    def __call__(self, key: str, data: bytes) -> Future[StoredObject]:
        def write() -> StoredObject:
            self._store.put(key, data)
            return StoredObject.of(data)

        return self._threads.submit(write)


def finish_shard(
    store: Store, publication: Publication, part: Window, layers: Mapping[str, NDArray[Any]]
) -> ShardRecord:
    """Write one shard and, when all of it is in storage, the marker that vouches for it. Twice leaves the same bytes.

    Args and errors are those of `write_shard`.
    """
    shard = write_shard(publication, part, layers, Puts(store), {})
    block = Block(shard.row, shard.col, part)
    store.put(marker_key(publication.prefix, block, publication.shard_px), shard_marker(shard))
    return shard


def write_shard(
    publication: Publication, part: Window, layers: Mapping[str, NDArray[Any]], put: Put, tables: Mapping[str, bytes]
) -> ShardRecord:
    """Write one shard and count what it holds; returns when all of it is in storage. The marker is its caller's to write.

    Args:
        part: the shard's window in the grid.
        layers: (h, w) of `part` by the name of the layer, of all layers of the publication, in their stored dtypes.
        tables: of products with rows, those of `part` by the name of the table (`StageProduct.rows`).
    """
    layout, products = publication.layout, publication.products
    row, col = part.row_off // publication.shard_px, part.col_off // publication.shard_px
    keys = shard_keys(layout, row, col)
    counts = [product.count(layers, part) for product in products]
    record = ShardRecord(
        row=row, col=col, objects=tuple((key, None) for _, _, key in keys),
        tally=next((counted.tally for counted in counts if counted.tally), None),
        sums=tuple(pair for counted in counts for pair in counted.sums.items()),
    )  # fmt: skip
    if not any(total.valid for _, total in record.sums):
        return record  # a reader sees the fill value where nothing is stored
    levels: dict[tuple[int, str], NDArray[Any]] = {}
    packed: list[bytes] = []
    files: list[tuple[str, TileIndex]] = []
    for raster in publication.rasters:
        made = layout.pyramid.levels_of(np.stack([layers[layer] for layer in raster.layers]), raster.reduce)
        data, index = pack(raster.profile, layout.pyramid, made)
        packed.append(data)
        files.append((raster.file, index))
        levels |= {
            (level, layer): band
            for level, pixels in enumerate(made[: layout.pyramid.own + 1])
            for layer, band in zip(raster.layers, pixels, strict=True)
        }
    tiles = put(tiles_key(publication.prefix, row, col), b"".join([*packed, *tables.values()]))
    packed.clear()  # not beside what was joined
    puts = [
        (key, put(f"{publication.prefix}/{DATA}/{key}", encoded) if encoded is not None else None)
        for level, layer, key in keys
        for encoded in [layout.encode_shard(level, layer, levels[level, layer])]
    ]
    return replace(
        record, objects=tuple((key, put.result() if put else None) for key, put in puts), tiles=tiles.result(),
        files=tuple(files), tables=tuple((name, TableIndex.of(rows)) for name, rows in tables.items()),
    )  # fmt: skip
