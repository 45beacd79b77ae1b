"""What a worker reports of a block that it has written: its shards, their objects, and how long it took."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

from earthloom.jobs.records.canonical import FORMAT, canonical
from earthloom.tiling.counting import BandSum, Tally
from earthloom.tiling.writing.cog_parts import TileIndex


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Size and sha256 of one object that was written."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> StoredObject:
        return cls(len(data), hashlib.sha256(data).hexdigest())

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> StoredObject:
        """Inverse of `asdict`."""
        return cls(int(entry["size"]), str(entry["sha256"]))


@dataclass(frozen=True, slots=True)
class TableIndex:
    """Size and crc32 of one table's rows in a shard's object."""

    size_bytes: int
    crc32: int

    @classmethod
    def of(cls, rows: bytes) -> TableIndex:
        return cls(len(rows), zlib.crc32(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """One finished shard. A layer without an object is all nodata, and a reader sees the fill value."""

    row: int
    col: int
    objects: tuple[tuple[str, StoredObject | None], ...]
    """(key below the Zarr, object) of what its owner writes of each level and layer, in the order of `shard_keys`."""
    tiles: StoredObject | None = None
    """Its tiles of all files of the scene, one after another, then its rows of all tables; None where all of it is nodata."""
    files: tuple[tuple[str, TileIndex], ...] = ()
    """(file, what lies where in `tiles`), in that order."""
    tables: tuple[tuple[str, TableIndex], ...] = ()
    """(table, how much of the rest of `tiles` is its rows), in that order."""
    tally: Tally | None = None
    """Tally of the class map, if there is one."""
    sums: tuple[tuple[str, BandSum], ...] = ()
    """(layer, what it holds) of everything but the class map."""

    @property
    def size_px(self) -> int:
        return next((total.valid + total.nodata for _, total in self.sums), 0)

    @property
    def size_bytes(self) -> int:
        """Bytes that were written."""
        return sum(stored.size for _, stored in (*self.objects, ("", self.tiles)) if stored)


PHASES = ("read", "wait", "compute", "write")
"""Phases in the order in which a block goes through them; in `wait` it waits for a place among the computed blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCost:
    """What a finished block took: all that the driver hears of it."""

    block: str
    chips: int
    """Chips computed."""
    skipped: int
    """Chips not computed because their core holds no valid pixel."""
    chip_px: int
    """Pixels of the chips that were computed."""
    computed_px: int
    """Pixels of the block's core."""
    worker: str
    """Machine and process."""
    lane: int
    """Number of the worker's lane, from 0."""
    started_s: float
    """POSIX time. The block was read, waited for the device, was computed and was written, without a gap."""
    read_s: float
    wait_s: float
    compute_s: float
    write_s: float
    read_bytes: int
    """Compressed bytes of the source's tiles that were decoded."""
    written_bytes: int
    """Bytes of its shards and their tiles."""
    decoded_px: int
    """Pixels of all bands in the source's tiles that were decoded."""
    source_px: int
    """Pixels of all bands that the block itself stands for; the rest of what was decoded is halo and tiles' edges."""

    @property
    def ended_s(self) -> float:
        return self.started_s + self.read_s + self.wait_s + self.compute_s + self.write_s

    def phases(self) -> Iterator[tuple[str, float, float]]:
        """(name, start, end) of each phase, POSIX seconds, without gaps."""
        start = self.started_s
        for name, seconds in zip(PHASES, (self.read_s, self.wait_s, self.compute_s, self.write_s), strict=True):
            yield name, start, start + seconds
            start += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRecord:
    """What a block's marker holds."""

    attempt: int
    """Number of the run's attempt in which it was computed."""
    shards: tuple[ShardRecord, ...]
    cost: BlockCost

    def to_json(self) -> bytes:
        cost = self.cost
        return canonical(
            {
                "format": FORMAT, "block": cost.block, "attempt": self.attempt, **_shards_to_json(self.shards),
                "chips": cost.chips, "skipped": cost.skipped, "chip_px": cost.chip_px, "worker": cost.worker,
                "lane": cost.lane, "started_s": round(cost.started_s, 3), "read_s": round(cost.read_s, 4),
                "wait_s": round(cost.wait_s, 4), "compute_s": round(cost.compute_s, 4),
                "write_s": round(cost.write_s, 4), "read_bytes": cost.read_bytes, "decoded_px": cost.decoded_px,
                "source_px": cost.source_px,
            }
        )  # fmt: skip


def shard_marker(shard: ShardRecord) -> bytes:
    """The marker of one shard that no run's block has written: what vouches for it, and nothing of how it was made."""
    return canonical({"format": FORMAT, "block": f"{shard.row}_{shard.col}", **_shards_to_json((shard,))})


def _shards_to_json(shards: Sequence[ShardRecord]) -> dict[str, Any]:
    return {
        "shards": {
            f"{shard.row}_{shard.col}": {
                "objects": {key: stored and asdict(stored) for key, stored in shard.objects},
                "tiles": shard.tiles and asdict(shard.tiles),
                "files": [[file, index.to_json()] for file, index in shard.files],  # in the order of their bytes
                **({"tables": [[name, *astuple(index)] for name, index in shard.tables]} if shard.tables else {}),
                "tally": shard.tally.to_json() if shard.tally else None,
                "sums": {layer: total.to_json() for layer, total in shard.sums},
            }
            for shard in shards
        },
        "empty": all(stored is None for shard in shards for _, stored in shard.objects),
    }


def shard_records(document: dict[str, Any]) -> list[ShardRecord]:
    """The shards that a marker's document vouches for."""
    records = []
    for name, shard in document["shards"].items():
        row, _, col = name.partition("_")
        records.append(
            ShardRecord(
                row=int(row), col=int(col),
                objects=tuple((key, entry and StoredObject.from_dict(entry)) for key, entry in shard["objects"].items()),
                tiles=shard["tiles"] and StoredObject.from_dict(shard["tiles"]),
                files=tuple((file, TileIndex.from_json(entry)) for file, entry in shard["files"]),
                tables=tuple((table, TableIndex(int(size), int(crc))) for table, size, crc in shard.get("tables", ())),
                tally=Tally.from_json(shard["tally"]) if shard["tally"] is not None else None,
                sums=tuple((layer, BandSum.from_json(entry)) for layer, entry in shard["sums"].items()),
            )
        )  # fmt: skip
    return records
