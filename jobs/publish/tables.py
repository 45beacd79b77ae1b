"""What the shards of a result say that no pixel says, read back from the objects that hold their tiles.

Rows are far fewer than pixels, and those of a whole result are held together. Knows nothing of what they mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from earthloom.jobs.records.blocks import ShardRecord
from earthloom.jobs.records.markers import tiles_key
from earthloom.tiling.errors import DamagedPartError
from earthloom.tiling.storage.store import Store

_AT_ONCE = 8


def read_tables(store: Store, prefix: str, shards: Sequence[ShardRecord]) -> dict[str, bytes]:
    """The rows of all shards by the name of the table, in the order of the shards.

    Raises:
        DamagedPartError: if rows are not those that their marker vouches for.
    """
    having = [shard for shard in shards if shard.tables]
    found: dict[str, list[bytes]] = {}
    with ThreadPoolExecutor(_AT_ONCE, "tables") as pool:
        for shard, data in zip(having, pool.map(lambda shard: _rows_of(store, prefix, shard), having), strict=True):
            start = 0
            for name, index in shard.tables:
                found.setdefault(name, []).append(data[start : start + index.size_bytes])
                start += index.size_bytes
    return {name: b"".join(parts) for name, parts in found.items()}


def _rows_of(store: Store, prefix: str, shard: ShardRecord) -> bytes:
    """What lies behind a shard's tiles.

    Raises:
        DamagedPartError: if it is not what the marker vouches for.
    """
    key = tiles_key(prefix, shard.row, shard.col)
    size = sum(index.size_bytes for _, index in shard.tables)
    if not size:
        return b""
    data, start = store.get_range(key, sum(index.size_bytes for _, index in shard.files), size), 0
    for name, index in shard.tables:
        if zlib.crc32(data[start : start + index.size_bytes]) != index.crc32:
            raise DamagedPartError(f"{key} is damaged: the rows of {name} are not those that were written", key)
        start += index.size_bytes
    return data
