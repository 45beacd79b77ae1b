"""The tasks of alerts: pixels of one shard through all new dates, the alerts of the whole grid, and their map tiles.

Each may be done twice, by the same worker or another, and leaves the same bytes: what is written under a name follows from
the name. Nothing here is visible to readers before `stage` points to it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts import ledger_file, packing
from earthloom.jobs.monitoring.alerts.components import Shard, join_pieces
from earthloom.jobs.monitoring.alerts.head import is_reached, read_head
from earthloom.jobs.monitoring.alerts.history import AlertSet, Places, is_kept
from earthloom.jobs.monitoring.alerts.item import alerts_item
from earthloom.jobs.monitoring.alerts.lives import Ledger, follow
from earthloom.jobs.monitoring.alerts.pieces import Pieces, describe, describing_bytes, find, pixel_area_units
from earthloom.jobs.monitoring.alerts.pixels import PixelStates, advance
from earthloom.jobs.monitoring.alerts.tables import alert_table, flatgeobuf, geoparquet, pmtiles
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import FORMAT, canonical
from earthloom.jobs.records.names import ITEM
from earthloom.tiling.errors import MissingObjectError, PublishError, StorageError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

TABLES = ("alerts.parquet", "alerts.fgb")
"""Names of a view's tables, which the join writes."""

_REQUESTS = 16
_PX_BYTES = 53
"""Memory per pixel: its state, its true area, its label, and what is read. Measured: bench `alerts`."""
_USUAL_BYTES = 8
"""Memory per pixel that the pieces of a usual map take. A map with more is planned anew."""
_SHARD_BYTES = 16 * 2**20
"""Memory of the libraries, and of small shards."""
_PIECES_FACTOR = 12
"""Times their stored size that pieces and ledger take as Python values, with the tables that are made of them."""
_JOIN_BYTES = 200 * 2**20
"""Memory of the libraries that write tables, and of small grids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTask:
    """Take one shard through dates: its pixels' lives, and on each date the pieces that they form."""

    alerts: AlertSet
    shard: Shard
    window: Window
    start: int
    """Dates that its stored pixels have seen; 0: it begins."""
    pieces_bytes: int
    """Memory that the pieces of one date may take (`usual_bytes`, `pieces.describing_bytes`)."""

    @property
    def key(self) -> str:
        place = f"{self.alerts.product}/alerts/{self.alerts.rule.name}/{self.shard[0]}_{self.shard[1]}"
        return f"{place} from date {self.start + 1} on, {self.pieces_bytes} bytes for pieces"

    @property
    def memory_bytes(self) -> int:
        observing = self.alerts.evidence.memory_bytes(self.window, len(self.alerts.cube.steps) - self.start)
        return _SHARD_BYTES + self.window.size_px * _PX_BYTES + self.pieces_bytes + observing

    def do(self, store: Store, cube_store: Store | None = None) -> int:
        """Write the pieces of every new date, and then the pixels, which say that the pieces are there.

        On a date whose pieces would take more memory than is planned it stops before they do, and says how much this date
        and the later ones need; it is planned again with that.

        Args:
            cube_store: holds the cube; None: the same store.

        Returns:
            Number of new dates.

        Raises:
            StorageError: if the pixels are gone, and not because another driver has come as far.
        """
        places, of = self.alerts.places(), self.alerts
        try:
            states, tracked = self._resumed(store, places)
        except MissingObjectError:
            return _unless_reached(store, places)
        areas = pixel_area_units(of.cube.grid, self.window)
        whole, min_area, total = of.cube.grid.window, of.min_area, len(of.cube.steps)
        steps = range(self.start, total)
        observed = zip(steps, of.evidence.observe(cube_store or store, of.cube, self.window, steps), strict=True)
        for step, observation in observed:
            advance(states, observation, of.day(step), of.rule)
            found = find(states, tracked, areas, self.window, whole, min_area)
            if (needed := describing_bytes(found)) > self.pieces_bytes:
                for later, seen in observed:
                    advance(states, seen, of.day(later), of.rule)
                    found = find(states, found.image(states.shape) > 0, areas, self.window, whole, min_area)
                    needed = max(needed, describing_bytes(found))
                store.put(places.need(total, self.shard), canonical({"format": FORMAT, "bytes": needed}))
                return step - self.start
            pieces, tracked = describe(found, states, tracked, areas, self.window, whole)
            store.put(places.pieces(step + 1, self.shard), pieces.encode())
            if is_kept(step + 1, total):
                store.put(places.pixels(step + 1, self.shard), encode_pixels(states, tracked))
        return total - self.start

    def _resumed(self, store: Store, places: Places) -> tuple[PixelStates, NDArray[np.bool_]]:
        if not self.start:
            return PixelStates.idle(self.window.shape), np.zeros(self.window.shape, np.bool_)
        key = places.pixels(self.start, self.shard)
        return decode_pixels(store.get(key), self.window.shape, f"{store.ref.url}/{key}")


def usual_bytes(window: Window) -> int:
    """Memory for the pieces of a shard of which nothing is known yet."""
    return window.size_px * _USUAL_BYTES


def encode_pixels(states: PixelStates, tracked: NDArray[np.bool_]) -> bytes:
    """The state of a shard as one object. All arrays (h, w)."""
    columns = {name: values.reshape(-1) for name, values in states.arrays().items()}
    return packing.pack([packing.table_of({**columns, "tracked": tracked.reshape(-1).view(np.uint8)})])


def decode_pixels(data: bytes, shape: tuple[int, int], where: str) -> tuple[PixelStates, NDArray[np.bool_]]:
    """Inverse of `encode_pixels`.

    Raises:
        PublishError: if the bytes are damaged, or of another shape.
    """
    columns = packing.arrays_of(packing.unpack(data, 1, where)[0])
    if any(values.size != shape[0] * shape[1] for values in columns.values()):
        raise PublishError(f"{where} does not hold {shape[0]} x {shape[1]} px; remove the folder 'state' and run again")
    arrays = {name: values.reshape(shape) for name, values in columns.items()}
    tracked: NDArray[np.bool_] = arrays.pop("tracked").view(np.bool_)
    return PixelStates(**arrays), tracked


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTask:
    """Put the shards together, date by date: who goes on, begins and ends; a partition for each date, and the view."""

    alerts: AlertSet
    base: int
    """Dates that the stored ledger has seen; 0: it begins."""
    borrowed: tuple[tuple[str, str], ...]
    """(from, to) keys of partitions that another history of the cube shares with this one."""
    stored_bytes: int
    """Stored size of the ledger and of the pieces of the date that has most."""

    @property
    def key(self) -> str:
        return f"{self.alerts.product}/alerts/{self.alerts.rule.name}/join"

    @property
    def memory_bytes(self) -> int:
        return _JOIN_BYTES + self.stored_bytes * _PIECES_FACTOR

    def do(self, store: Store) -> int:
        """Write partitions, the ledger, and then the tables of the view.

        Returns:
            Number of alerts that there have been.

        Raises:
            StorageError: if what the shards have written is gone, and not because another driver has come as far.
        """
        places = self.alerts.places()
        try:
            return self._join(store, places)
        except MissingObjectError:
            return _unless_reached(store, places)

    def _join(self, store: Store, places: Places) -> int:
        of, total = self.alerts, len(self.alerts.cube.steps)
        for source, target in self.borrowed:
            store.copy(source, target)
        ledger = self._resumed(store, places)
        shards = [(row, col) for row, col, _ in of.cube.shards()]
        naming, min_area = of.naming, of.min_area
        with ThreadPoolExecutor(_REQUESTS, "pieces") as pool:
            for n in range(self.base + 1, total + 1):
                read = pool.map(lambda shard, n=n: _pieces(store, places.pieces(n, shard)), shards)
                components = join_pieces(dict(zip(shards, read, strict=True)), ledger.pieces)
                ledger, changed = follow(ledger, components, of.day(n - 1), min_area, of.rule.settling, naming)
                rows = alert_table([ledger.alerts[position] for position in changed], of)
                store.put(places.update(n), geoparquet(rows))
                if is_kept(n, total):
                    store.put(places.ledger(n), ledger_file.encode(ledger))
        table = alert_table(ledger.alerts, of)
        for name, data in zip(TABLES, (geoparquet(table), flatgeobuf(table)), strict=True):
            store.put(f"{places.view}/{name}", data)
        return len(ledger.alerts)

    def _resumed(self, store: Store, places: Places) -> Ledger:
        if not self.base:
            return Ledger()
        key = places.ledger(self.base)
        return ledger_file.decode(store.get(key), f"{store.ref.url}/{key}")


def _pieces(store: Store, key: str) -> Pieces:
    return Pieces.decode(store.get(key), f"{store.ref.url}/{key}")


def _unless_reached(store: Store, places: Places) -> int:
    """Working state is gone: so it is when another driver has come as far, and has cleaned up.

    Raises:
        StorageError: if none has.
    """
    if is_reached(read_head(store, places), places):
        return 0
    raise StorageError(
        f"working state below {places.folder}/state was removed while it was needed; run again: it is made from the cube"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TilesTask:
    """Draw the view's map tiles, and finish it by its item. Apart from the join, of which it would take most of the time."""

    alerts: AlertSet
    stored_bytes: int
    """Stored size of the ledger."""

    @property
    def key(self) -> str:
        return f"{self.alerts.product}/alerts/{self.alerts.rule.name}/tiles"

    @property
    def memory_bytes(self) -> int:
        return _JOIN_BYTES + self.stored_bytes * _PIECES_FACTOR

    def do(self, store: Store) -> int:
        """Write the tiles, if there are alerts, and then the item.

        Returns:
            Number of alerts that there have been.

        Raises:
            StorageError: if what the join has written is gone, and not because another driver has come as far.
        """
        of, places = self.alerts, self.alerts.places()
        key = places.ledger(len(places.names))
        try:
            ledger = ledger_file.decode(store.get(key), f"{store.ref.url}/{key}")
            made = {name: store.get(f"{places.view}/{name}") for name in TABLES}
        except MissingObjectError:
            return _unless_reached(store, places)
        tiles = pmtiles(alert_table(ledger.alerts, of), of.cube.grid)
        if tiles is not None:
            made["alerts.pmtiles"] = tiles
            store.put(f"{places.view}/alerts.pmtiles", tiles)
        files = {name: StoredObject.of(data) for name, data in made.items()}
        store.put(f"{places.view}/{ITEM}", canonical(alerts_item(of, places, ledger.alerts, files)))
        return len(ledger.alerts)
