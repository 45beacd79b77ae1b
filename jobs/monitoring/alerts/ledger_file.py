"""A ledger as one object in storage, and back. Knows nothing of how alerts live."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from earthloom.jobs.monitoring.alerts import packing
from earthloom.jobs.monitoring.alerts.lives import Alert, Extent, Ledger

_EXTENTS = ("now", "largest")


def encode(ledger: Ledger) -> bytes:
    """The ledger's bytes; equal ledgers give equal bytes."""
    import pyarrow as pa

    rows = pa.Table.from_pylist([_row(alert) for alert in ledger.alerts], schema=_schema())
    shards = sorted(ledger.pieces)
    places = {
        "row": np.array([row for row, _ in shards], np.int64), "col": np.array([col for _, col in shards], np.int64),
        "n": np.array([ledger.pieces[shard].size for shard in shards], np.int64),
    }  # fmt: skip
    owners = np.concatenate([np.empty(0, np.int64), *(ledger.pieces[shard] for shard in shards)])
    return packing.pack([rows, packing.table_of(places), packing.table_of({"alert": owners})])


def decode(data: bytes, where: str) -> Ledger:
    """Inverse of `encode`.

    Raises:
        PublishError: if the bytes are damaged.
    """
    rows, places, owners = packing.unpack(data, 3, where)
    column = packing.arrays_of(owners)["alert"]
    pieces, start = {}, 0
    for place in places.to_pylist():
        pieces[place["row"], place["col"]] = column[start : start + place["n"]]
        start += place["n"]
    return Ledger(alerts=tuple(_alert(row) for row in rows.to_pylist()), pieces=pieces)


def _schema() -> Any:
    import pyarrow as pa

    kinds = {"int": pa.int64(), "str": pa.string(), "State": pa.string(), "bytes": pa.binary()}
    extent = pa.struct([(entry.name, kinds[str(entry.type)]) for entry in fields(Extent)])
    return pa.schema(
        [
            (entry.name, extent if entry.name in _EXTENTS else kinds[str(entry.type).removesuffix(" | None")])
            for entry in fields(Alert)
        ]
    )


def _row(alert: Alert) -> dict[str, Any]:
    row = {entry.name: getattr(alert, entry.name) for entry in fields(Alert)}
    for name in _EXTENTS:
        row[name] = {entry.name: getattr(row[name], entry.name) for entry in fields(Extent)}
    if row["largest"] == row["now"]:  # mostly so: stored once
        row["largest"] = None
    return row


def _alert(row: dict[str, Any]) -> Alert:
    now = Extent(**row.pop("now"))
    largest = row.pop("largest")
    return Alert(**row, now=now, largest=Extent(**largest) if largest else now)
