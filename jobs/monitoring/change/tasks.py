"""The tasks of workers for a change: compare one shard, then join the shards and publish. Each may be done twice.

A shard leaves what it counted and the pieces of polygons that it saw as one object, and its part of the map; the marker of
the map comes last and so vouches for both.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from earthloom.jobs.monitoring.change.map import Change
from earthloom.jobs.monitoring.change.polygons import Pieces, decode_pieces, find_changed, labelling_bytes, unite
from earthloom.jobs.monitoring.change.transitions import (
    Sides,
    Transition,
    change_layers,
    count_transitions,
    exact_areas_m2,
    merge_transitions,
    transitions_from_json,
    transitions_to_json,
)
from earthloom.jobs.monitoring.cutting import part_name
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.jobs.planning.memory import publishing_bytes
from earthloom.jobs.publish.files import committed_document, publish_files
from earthloom.jobs.publish.shards import finish_shard
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.jobs.records.markers import finished_shards
from earthloom.tiling.errors import MissingObjectError, StorageError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

_PX_BYTES = 28
"""Memory per pixel: both maps, labels, the map of changes as it is written. Measured on maps of few changes: 22 to 27."""
_USUAL_BYTES = 3
"""Memory per pixel that the changes of a usual map take. A map with more is planned anew."""
_PIECE_BYTES = 6
"""Memory that pieces take while they are united, for each byte that they have in storage; measured: 3 to 5.5."""
_STRIP_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareTask:
    """One shard of a change."""

    change: Change
    part: Window
    """Window of the shard on the grid."""
    pieces_bytes: int
    """Memory that the changes may take beside arrays of the pixels."""

    @property
    def key(self) -> str:
        name = part_name(self.part, self.change.before.shard_px)
        return f"{self.change.prefix}/{name}, {self.pieces_bytes} bytes for polygons"

    @property
    def memory_bytes(self) -> int:
        return self.part.size_px * _PX_BYTES + self.pieces_bytes

    def do(self, store: Store) -> int:
        """Read both maps, compare, write, then mark as done. Returns how many pixels changed.

        Where the changes would take more memory than is planned it stops before they do, and says how much they need; it is
        planned again with that. Then it returns 0.
        """
        change, part = self.change, self.part
        (before, trust), (after, trust_after) = (
            side.read(store, part) for side in (change.before, change.after)
        )  # fmt: skip
        sides = Sides(before=before, after=after, before_confidence=trust, after_confidence=trust_after)
        name, labelling = part_name(part, change.before.shard_px), labelling_bytes(sides)
        if labelling > self.pieces_bytes:
            return self._ask(store, name, labelling)
        changed = find_changed(sides, change.grid, part, change.least_m2)
        if (needed := changed.bytes(labelling)) > self.pieces_bytes:
            return self._ask(store, name, needed)
        counted = merge_transitions(self._count(sides))
        pieces = changed.draw()
        del changed
        store.put(part_key(change, name), pieces.encode({"transitions": transitions_to_json(counted)}))
        finish_shard(store, change.publication(), part, change_layers(sides, len(change.before.classes)))
        return sum(one.pixels for one in counted if one.changed)

    def _ask(self, store: Store, name: str, needed: int) -> int:
        store.put(_need_key(self.change, name), canonical({"format": FORMAT, "bytes": needed}))
        return 0

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
    """Stored size of the objects that the shards have left."""
    write_id: str = field(default_factory=lambda: secrets.token_hex(16))
    """Id by which a repetition knows a commit that is this task's own."""

    @property
    def key(self) -> str:
        return f"{self.change.prefix}/publish"

    @property
    def memory_bytes(self) -> int:
        before = self.change.before
        stored = self.change.publication().stored_bytes
        return publishing_bytes(before.grid.window, before.shard_px, stored) + _PIECE_BYTES * self.parts_bytes

    def do(self, store: Store) -> bool:
        """Returns True if this task committed it, False if another writer was faster and made the same."""
        change = self.change
        if committed_document(store, change.prefix) is not None:
            return False
        counted: list[Sequence[Transition]] = []
        pieces: list[Pieces] = []
        for part in change.grid.window.split(change.before.shard_px):
            key = part_key(change, part_name(part, change.before.shard_px))
            found, notes = decode_pieces(store.get(key), f"{store.ref.url}/{key}")
            counted.append(transitions_from_json(notes["transitions"]))
            pieces.append(found)
        tables = change.tables(merge_transitions(counted), unite(pieces, change.least_m2))
        _, won = publish_files(store, change.publication(tables), self.write_id)
        with suppress(StorageError):  # they are in the tables now; gc removes what stays
            store.delete_all(_parts(change))
        return won


def plan_change(store: Store, change: Change) -> Sequence[MonitorTask]:
    """The tasks that can be done now for a change; none once it is committed."""
    if committed_document(store, change.prefix) is not None:
        return []
    sizes = {head.key: head.size for head in store.list(_parts(change))}
    done = finished_shards(store, change.prefix, change.publication().layout)
    shard_px = change.before.shard_px
    missing = [
        CompareTask(change=change, part=part, pieces_bytes=_need(store, change, part, sizes))
        for part in change.grid.window.split(shard_px)
        for name in [part_name(part, shard_px)]
        if (part.row_off // shard_px, part.col_off // shard_px) not in done or part_key(change, name) not in sizes
    ]
    return missing or [PublishChangeTask(change=change, parts_bytes=sum(sizes.values()))]


def _need(store: Store, change: Change, part: Window, present: Collection[str]) -> int:
    """Bytes for the changes of a shard: what a task that stopped has found, or what is usual."""
    key, usual = _need_key(change, part_name(part, change.before.shard_px)), part.size_px * _USUAL_BYTES
    if key not in present:
        return usual
    try:
        return max(usual, int(read_document(store.get(key), key)["bytes"]))
    except MissingObjectError:  # another driver has published the change meanwhile, and has cleaned up
        return usual


def part_key(change: Change, name: str) -> str:
    """Key below OUT of what a shard leaves for the join."""
    return f"{_parts(change)}/{name}.parquet"


def _need_key(change: Change, name: str) -> str:
    return f"{_parts(change)}/{name}.need"


def _parts(change: Change) -> str:
    return f"{change.prefix}/parts"
