"""What storage knows of a scene: which shards are done, and whether the scene is committed.

A block's marker is written after its pixels and carries the digest of every shard, which lets a later run, with any
block size, compute only what is missing. A marker is believed as far as storage holds the shards that it names. Nothing
here decides what to compute.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from earthloom.jobs.records.blocks import ShardRecord, shard_records
from earthloom.jobs.records.canonical import of_this_format
from earthloom.jobs.records.names import DATA
from earthloom.tiling.errors import PublishError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Block, Window
from earthloom.tiling.writing.zarr_sink import ZarrLayout

TILES = ".tiles"
"""Ending of the objects that hold a shard's tiles until its scene is committed."""

_AT_ONCE = 16

log = logging.getLogger(__name__)


def marker_key(prefix: str, block: Block, shard_px: int) -> str:
    """Key below OUT of a block's marker: its first shard and, if it has more, its last.

    Blocks of other sizes have markers of their own. Two runs at once, one of which cuts smaller blocks, would else replace
    a marker that vouches for several shards by one that vouches for the first of them.
    """
    shards = shards_of(block.core, shard_px)
    ends = dict.fromkeys(f"{row}_{col}" for row, col in (shards[0], shards[-1]))
    return f"{prefix}/blocks/{'-'.join(ends)}.json"


def tiles_key(prefix: str, row: int, col: int) -> str:
    """Key below OUT of a shard's tiles, which are there until the scene is committed."""
    return f"{prefix}/blocks/{row}_{col}{TILES}"


def shard_keys(layout: ZarrLayout, row: int, col: int) -> list[tuple[int, str, str]]:
    """(level, layer, key below the Zarr) of everything that the owner of a shard writes."""
    return [
        (level, layer.name, layout.shard_key(level, layer.name, row, col))
        for level in range(layout.pyramid.own + 1)
        for layer in layout.layers
    ]


def parse_marker(data: bytes, where: str) -> list[ShardRecord]:
    """The shards that a marker vouches for; none, with a warning, if it is damaged.

    Raises:
        PublishError: if its format is not this version's.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        return _damaged(where, error)
    document = of_this_format(document, where)
    try:
        return shard_records(document)
    except (ValueError, KeyError, TypeError, AttributeError, PublishError) as error:
        return _damaged(where, error)


def _damaged(where: str, error: Exception) -> list[ShardRecord]:
    log.warning("%s is damaged (%s: %s); its block is computed again", where, type(error).__name__, error)
    return []


def finished_shards(store: Store, prefix: str, layout: ZarrLayout) -> dict[tuple[int, int], ShardRecord]:
    """Every shard of a scene that a marker vouches for and storage holds, by (row, col).

    Costs two listings and one GET per marker; no pixel is read.
    """
    sizes = {head.key: head.size for head in store.list(f"{prefix}/blocks")}
    if not any(key.endswith(".json") for key in sizes):
        return {}
    sizes |= {head.key: head.size for head in store.list(f"{prefix}/{DATA}")}
    done, lost = vouched_shards(store, prefix, layout, sizes)
    for place, why in lost.items():
        if place not in done:
            log.warning("%s; its block is computed again", why)
    return done


def vouched_shards(
    store: Store, prefix: str, layout: ZarrLayout, sizes: Mapping[str, int]
) -> tuple[dict[tuple[int, int], ShardRecord], dict[tuple[int, int], str]]:
    """What the markers of a scene say, as far as storage agrees.

    Args:
        sizes: sizes of all objects below the prefix, by key.

    Returns:
        The shards that storage holds, and of those that it does not hold as a marker says, what is wrong, in words.
    """
    done: dict[tuple[int, int], ShardRecord] = {}
    lost: dict[tuple[int, int], str] = {}
    markers = [key for key in sizes if key.startswith(f"{prefix}/blocks/") and key.endswith(".json")]
    for marker, data in _read(markers, store):
        for record in parse_marker(data, marker):
            if wrong := _lost(record, prefix, layout, sizes):
                lost[record.row, record.col] = f"{marker} vouches for {wrong}"
            else:
                done[record.row, record.col] = record
    return done, lost


def _read(keys: Sequence[str], store: Store) -> Iterator[tuple[str, bytes]]:
    """Small objects with their keys, in order; several requests are on their way at a time."""
    if len(keys) == 1:
        yield keys[0], store.get(keys[0])
        return
    with ThreadPoolExecutor(_AT_ONCE, "markers") as pool:
        for start in range(0, len(keys), 8 * _AT_ONCE):
            some = keys[start : start + 8 * _AT_ONCE]
            yield from zip(some, pool.map(store.get, some), strict=True)


def _lost(record: ShardRecord, prefix: str, layout: ZarrLayout, sizes: Mapping[str, int]) -> str | None:
    """What of a shard is not as its marker says, in words; None if all is."""
    wanted = [key for _, _, key in shard_keys(layout, record.row, record.col)]
    if sorted(wanted) != sorted(key for key, _ in record.objects):
        return f"other layers than the scene has, in shard {record.row}_{record.col}"
    objects = [(f"{prefix}/{DATA}/{key}", stored) for key, stored in record.objects]
    for key, stored in (*objects, (tiles_key(prefix, record.row, record.col), record.tiles)):
        found, recorded = sizes.get(key), stored.size if stored else None
        if found != recorded:
            return f"{key} with {recorded} bytes, storage has {found} (None: no such object)"
    return None


def missing_blocks(blocks: Iterable[Block], shard_px: int, done: Collection[tuple[int, int]]) -> Iterator[Block]:
    """Blocks of which any shard is not done; looks at the blocks one by one, as many as there are."""
    return (block for block in blocks if not all(shard in done for shard in shards_of(block.core, shard_px)))


def shards_of(core: Window, shard_px: int) -> list[tuple[int, int]]:
    """(row, col) of the shards of a block's core, row-major."""
    return [(part.row_off // shard_px, part.col_off // shard_px) for part in core.split(shard_px)]
