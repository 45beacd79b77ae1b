"""What storage knows of a scene: which shards are done, and whether the scene is committed.

A block's marker is written after its pixels and carries the digest of every shard, which lets a later run, with any
block size, compute only what is missing. A marker is believed as far as storage holds the shards that it names. Nothing
here decides what to compute.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.planning.key import FORMAT, canonical
from earthloom.jobs.products.image_statistics import BandSum
from earthloom.jobs.products.layout import DATA
from earthloom.jobs.products.statistics import Tally
from earthloom.tiling.errors import PublishError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Block, Window
from earthloom.tiling.writing.cog_parts import TileIndex
from earthloom.tiling.writing.zarr_sink import ZarrLayout

TILES = ".tiles"
"""Ending of the objects that hold a shard's tiles until its scene is committed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Size and sha256 of one object that was written."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """One finished shard. A layer without an object is all nodata, and a reader sees the fill value."""

    row: int
    col: int
    objects: tuple[tuple[str, StoredObject | None], ...]
    """(key below the Zarr, object) of what its owner writes of each level and layer, in the order of `shard_keys`."""
    tiles: StoredObject | None = None
    """Its tiles of all files of the scene, one after another; None where all of it is nodata."""
    files: tuple[tuple[str, TileIndex], ...] = ()
    """(file, what lies where in `tiles`), in that order."""
    tally: Tally | None = None
    """Of the class map, if there is one."""
    sums: tuple[tuple[str, BandSum], ...] = ()
    """(layer, what it holds) of everything but the class map."""

    @property
    def size_px(self) -> int:
        return next((total.valid + total.nodata for _, total in self.sums), 0)

    @property
    def size_bytes(self) -> int:
        """That were written."""
        return sum(stored.size for _, stored in (*self.objects, ("", self.tiles)) if stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """What a worker says of a finished block, and what its marker holds."""

    block: str
    attempt: int
    """Number of the run's attempt in which it was computed."""
    shards: tuple[ShardRecord, ...]
    chips: int
    """Chips computed."""
    skipped: int
    """Chips not computed because their core holds no valid pixel."""
    chip_px: int
    """Pixels of the chips that were computed."""
    worker: str
    """Machine and process."""
    lane: int
    """Of the worker, from 0."""
    started_s: float
    """POSIX time. The block was read, waited for the device, was computed and was written, without a gap."""
    read_s: float
    wait_s: float
    compute_s: float
    write_s: float
    read_bytes: int
    """Compressed bytes of the source's tiles that were decoded."""
    decoded_px: int
    """Pixels of all bands in those tiles."""
    source_px: int
    """Pixels of all bands that the block itself stands for; the rest of what was decoded is halo and tiles' edges."""

    def to_json(self) -> bytes:
        shards = {
            f"{shard.row}_{shard.col}": {
                "objects": {key: _told(stored) for key, stored in shard.objects},
                "tiles": _told(shard.tiles),
                "files": [[file, index.to_json()] for file, index in shard.files],  # in the order of their bytes
                "tally": shard.tally.to_json() if shard.tally else None,
                "sums": {layer: total.to_json() for layer, total in shard.sums},
            }
            for shard in self.shards
        }
        empty = all(stored is None for shard in self.shards for _, stored in shard.objects)
        return canonical(
            {
                "format": FORMAT, "block": self.block, "attempt": self.attempt, "empty": empty, "shards": shards,
                "chips": self.chips, "skipped": self.skipped, "chip_px": self.chip_px, "worker": self.worker,
                "lane": self.lane, "started_s": round(self.started_s, 3), "read_s": round(self.read_s, 4),
                "wait_s": round(self.wait_s, 4), "compute_s": round(self.compute_s, 4),
                "write_s": round(self.write_s, 4), "read_bytes": self.read_bytes, "decoded_px": self.decoded_px,
                "source_px": self.source_px,
            }
        )  # fmt: skip


def _told(stored: StoredObject | None) -> dict[str, Any] | None:
    return {"size": stored.size, "sha256": stored.sha256} if stored else None


def _stored(told: dict[str, Any] | None) -> StoredObject | None:
    return StoredObject(told["size"], told["sha256"]) if told else None


def marker_key(prefix: str, block: Block) -> str:
    """Key below OUT of a block's marker."""
    return f"{prefix}/blocks/{block.name}.json"


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
    document = _known(document, where)
    try:
        return _shard_records(document)
    except (ValueError, KeyError, TypeError, AttributeError, PublishError) as error:
        return _damaged(where, error)


def _damaged(where: str, error: Exception) -> list[ShardRecord]:
    log.warning("%s is damaged (%s: %s); its block is computed again", where, type(error).__name__, error)
    return []


def _shard_records(document: dict[str, Any]) -> list[ShardRecord]:
    records = []
    for name, shard in document["shards"].items():
        row, _, col = name.partition("_")
        objects = tuple((key, _stored(told)) for key, told in shard["objects"].items())
        files = tuple((file, TileIndex.from_json(told)) for file, told in shard["files"])
        counted = Tally.from_json(shard["tally"]) if shard["tally"] is not None else None
        sums = tuple((layer, BandSum.from_json(told)) for layer, told in shard["sums"].items())
        records.append(
            ShardRecord(
                row=int(row), col=int(col), objects=objects, tiles=_stored(shard["tiles"]), files=files, tally=counted,
                sums=sums,
            )
        )  # fmt: skip
    return records


def read_document(data: bytes, where: str) -> dict[str, Any]:
    """A JSON document of our own, refused when its version is unknown."""
    try:
        return _known(json.loads(data), where)
    except ValueError as error:
        raise PublishError(f"{where} is not JSON ({error}); it was not written by Earthloom, or is damaged") from error


def _known(document: Any, where: str) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise PublishError(f"{where} has format {found!r}, this version reads {FORMAT}; use the version that wrote it")
    return document


def finished_shards(store: Store, prefix: str, layout: ZarrLayout) -> dict[tuple[int, int], ShardRecord]:
    """Every shard of a scene that a marker vouches for and storage holds, by (row, col).

    Costs two listings and one GET per marker; no pixel is read.
    """
    sizes = {head.key: head.size for head in store.list(f"{prefix}/blocks")}
    markers = [key for key in sizes if key.endswith(".json")]
    if not markers:
        return {}
    sizes |= {head.key: head.size for head in store.list(f"{prefix}/{DATA}")}
    done: dict[tuple[int, int], ShardRecord] = {}
    for marker in markers:
        for record in parse_marker(store.get(marker), marker):
            if lost := _lost(record, prefix, layout, sizes):
                log.warning("%s vouches for %s; its block is computed again", marker, lost)
            else:
                done[record.row, record.col] = record
    return done


def _lost(record: ShardRecord, prefix: str, layout: ZarrLayout, sizes: Mapping[str, int]) -> str | None:
    """What of a shard is not as its marker says, in words; None if all is."""
    wanted = [key for _, _, key in shard_keys(layout, record.row, record.col)]
    if sorted(wanted) != sorted(key for key, _ in record.objects):
        return f"other layers than the scene has, in shard {record.row}_{record.col}"
    objects = [(f"{prefix}/{DATA}/{key}", stored) for key, stored in record.objects]
    for key, stored in (*objects, (tiles_key(prefix, record.row, record.col), record.tiles)):
        found, told = sizes.get(key), stored.size if stored else None
        if found != told:
            return f"{key} with {told} bytes, storage has {found} (None: no such object)"
    return None


def missing_blocks(blocks: Iterable[Block], shard_px: int, done: Collection[tuple[int, int]]) -> Iterator[Block]:
    """Blocks of which any shard is not done; looks at the blocks one by one, as many as there are."""
    return (block for block in blocks if not all(shard in done for shard in shards_of(block.core, shard_px)))


def shards_of(core: Window, shard_px: int) -> list[tuple[int, int]]:
    """(row, col) of the shards of a block's core, row-major."""
    return [(part.row_off // shard_px, part.col_off // shard_px) for part in core.split(shard_px)]
