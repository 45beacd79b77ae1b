"""What workers do for a change: compare one shard, then join the shards and publish. Each may be done twice.

A shard leaves what it counted and the pieces of polygons that it saw as one object, and its part of the map; the marker of
the map comes last and so vouches for both.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from earthloom.jobs.monitoring.change.map import Change
from earthloom.jobs.monitoring.change.polygons import Pieces, decode_pieces, find_pieces, unite
from earthloom.jobs.monitoring.change.transitions import (
    Sides,
    Transition,
    change_layers,
    count_transitions,
    exact_areas_m2,
    merge_transitions,
    pixel_m2,
    transitions_from_json,
    transitions_to_json,
)
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.planning.memory import publishing_bytes
from earthloom.jobs.publish.files import committed_document, publish_files
from earthloom.jobs.publish.shards import finish_shard
from earthloom.jobs.records.markers import finished_shards
from earthloom.tiling.errors import StorageError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

_BYTES_PER_PX, _BYTES_PER_PX_OF_SPECKS = 100, 370
"""Measured: 26 on a map of few changes, 46 where every other pixel changes at random and 97 where all that change hang
together in one ragged polygon, from a minimum mapping unit of four pixels on; 365 where each single pixel is a polygon."""
_LEAST_PX = 4
_PIECE_BYTES = 6
"""What pieces take in memory while they are united, for each byte that they have in storage; measured: 3 to 5.5."""
_STRIP_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareTask:
    """One shard of a change."""

    change: Change
    part: Window
    """Of the shard on the grid."""

    @property
    def key(self) -> str:
        return f"{self.change.prefix}/{self.name}"

    @property
    def name(self) -> str:
        """Row and column of the shard."""
        shard_px = self.change.before.shard_px
        return f"{self.part.row_off // shard_px}_{self.part.col_off // shard_px}"

    @property
    def memory_bytes(self) -> int:
        specks = self.change.least_m2 < _LEAST_PX * pixel_m2(self.change.grid)
        return self.part.size_px * (_BYTES_PER_PX_OF_SPECKS if specks else _BYTES_PER_PX)

    def do(self, store: Store) -> int:
        """Read both maps, compare, write, then mark as done. Returns how many pixels changed."""
        change, part = self.change, self.part
        (before, trust), (after, trust_after) = (
            side.read(store, part) for side in (change.before, change.after)
        )  # fmt: skip
        sides = Sides(before=before, after=after, before_confidence=trust, after_confidence=trust_after)
        counted = merge_transitions(self._count(sides))
        pieces = find_pieces(sides, change.grid, part, change.least_m2)
        store.put(part_key(change, self.name), pieces.encode({"transitions": transitions_to_json(counted)}))
        finish_shard(store, change.publication(), part, change_layers(sides, len(change.before.classes)))
        return sum(one.pixels for one in counted if one.changed)

    def _count(self, sides: Sides) -> Iterator[Sequence[Transition]]:
        """Strip by strip: true areas of a whole shard would be the largest array here."""
        for row in range(0, self.part.height, _STRIP_ROWS):
            strip = sides.rows(row, _STRIP_ROWS)
            where = Window(self.part.col_off, self.part.row_off + row, self.part.width, strip.shape[0])
            yield count_transitions(strip, exact_areas_m2(self.change.grid, where), len(self.change.before.classes))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishChangeTask:
    """A change whose shards are all done."""

    change: Change
    parts_bytes: int
    """Of the objects that the shards have left."""
    write_id: str = field(default_factory=lambda: secrets.token_hex(16))
    """By which a repetition knows a commit that is this task's own."""

    @property
    def key(self) -> str:
        return f"{self.change.prefix}/publish"

    @property
    def memory_bytes(self) -> int:
        before = self.change.before
        stored = self.change.publication().stored_bytes
        return publishing_bytes(before.grid.window, before.shard_px, stored) + _PIECE_BYTES * self.parts_bytes

    def do(self, store: Store) -> bool:
        """Whether this task committed it; False if another writer was faster and made the same."""
        change = self.change
        if committed_document(store, change.prefix) is not None:
            return False
        counted: list[Sequence[Transition]] = []
        pieces: list[Pieces] = []
        for part in change.grid.window.split(change.before.shard_px):
            key = part_key(change, CompareTask(change=change, part=part).name)
            found, notes = decode_pieces(store.get(key), f"{store.ref.url}/{key}")
            counted.append(transitions_from_json(notes["transitions"]))
            pieces.append(found)
        tables = change.tables(merge_transitions(counted), unite(pieces, change.least_m2))
        _, won = publish_files(store, change.publication(tables), self.write_id)
        with suppress(StorageError):  # they are in the tables now; gc removes what stays
            store.delete_all(_parts(change))
        return won


def plan_change(store: Store, change: Change) -> Sequence[MonitorTask]:
    """What is to be done next for a change; nothing once it is committed."""
    if committed_document(store, change.prefix) is not None:
        return []
    sizes = {head.key: head.size for head in store.list(_parts(change))}
    done = finished_shards(store, change.prefix, change.publication().layout)
    shard_px = change.before.shard_px
    missing = [
        task
        for part in change.grid.window.split(shard_px)
        for task in [CompareTask(change=change, part=part)]
        if (part.row_off // shard_px, part.col_off // shard_px) not in done or part_key(change, task.name) not in sizes
    ]
    return missing or [PublishChangeTask(change=change, parts_bytes=sum(sizes.values()))]


def part_key(change: Change, name: str) -> str:
    """Key below OUT of what a shard leaves for the join."""
    return f"{_parts(change)}/{name}.parquet"


def _parts(change: Change) -> str:
    return f"{change.prefix}/parts"
