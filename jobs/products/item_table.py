"""The table of a product's items: a row per committed result, which readers of Parquet can filter and sum.

It holds the items as stac-geoparquet does, from which they come back as they were, and beside them flat columns that need
no unpacking: the scene, which of several results of it counts, and area, share and confidence of each class. The bytes
depend on the set of items and on when each was committed, and not on the order in which they came.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earthloom.jobs.products.legend import words
from earthloom.jobs.products.stac_item import utc
from earthloom.tiling.errors import PublishError

if TYPE_CHECKING:
    import pyarrow as pa

_COUNTS = frozenset(("count", "pixels", "value", "file:size", "proj:shape", "mlm:total_parameters"))
"""Fields of items whose numbers are whole, beside those in pixels. All others are real numbers in the table, so that the
type of a column does not depend on which items are in it."""
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
"""How STAC writes a nodata that JSON has no number for."""
_FLAT = {b"earthloom": b"derived"}
"""Marks a column that is no part of the items, so that reading them back leaves it out."""
_MEASURES = (("m2", "area_m2"), ("percent", "percent"), ("confidence", "mean_confidence"))
"""(ending of the column, field of a row of `earthloom:class_areas`)"""


def load_libraries() -> None:
    """Import what makes a table: most of a second, which nobody has to wait for while there is other work."""
    import stac_geoparquet.arrow  # noqa: F401


def items_parquet(items: Sequence[dict[str, Any]], published: Mapping[str, str | None] | None = None) -> bytes:
    """The items as one table, sorted by id; the same items give the same bytes in any order of entry.

    Columns beside those of stac-geoparquet: `scene` · `key` · `published`, when the result was committed, UTC ·
    `superseded`, false for exactly one result of each scene, the one committed last (of equals, the greatest key) · of each
    class `<class>_m2`, true area, `<class>_percent` of the valid area, and `<class>_confidence`, mean over its pixels; null
    where the result has no such class.

    Args:
        published: by id of the item, when its result was committed, RFC 3339; None or missing where nobody knows, which
            counts as before all others.

    Raises:
        PublishError: if there are none, or two of them hold values of different kinds in one field.
    """
    import pyarrow as pa
    from stac_geoparquet.arrow import parse_stac_items_to_arrow

    if not items:
        raise PublishError("a table of items needs at least one item")
    ordered = sorted((_spelled(item) for item in items), key=lambda item: str(item["id"]))
    try:
        table = parse_stac_items_to_arrow(ordered).read_all()
        for name, column in _flat_columns(ordered, published or {}).items():
            table = table.append_column(pa.field(name, column.type, metadata=_FLAT), column)
    except (pa.ArrowException, NotImplementedError) as error:
        raise PublishError(
            f"the items of collection {ordered[0].get('collection')} do not fit in one table ({error}); the scenes are "
            "published, only items.parquet is behind. One of their item.json was changed by another tool: "
            "`earthloom verify` names it"
        ) from error
    return _parquet(table)


def latest_parquet(table: bytes) -> bytes:
    """The rows of a table that no newer result of their scene supersedes, as a table of the same columns.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    return _parquet(_latest(_read(table)))


def _parquet(table: pa.Table) -> bytes:
    from stac_geoparquet.arrow import to_parquet

    try:
        with tempfile.TemporaryDirectory(prefix="earthloom-items-") as folder:
            path = Path(folder) / "items.parquet"
            to_parquet(table, path, compression="zstd")
            return path.read_bytes()
    except OSError as error:
        raise PublishError(
            f"a table of items cannot be written in {tempfile.gettempdir()} ({error.strerror or error}): free some space, "
            "or set TMPDIR to a folder with more, and run again; the scenes are published, only the table is behind"
        ) from error


def _flat_columns(items: Sequence[Mapping[str, Any]], published: Mapping[str, str | None]) -> dict[str, pa.Array]:
    import pyarrow as pa

    said = [item["properties"] for item in items]
    texts = (published.get(item["id"]) for item in items)
    moments = [datetime.fromisoformat(text) if text else None for text in texts]
    scenes, keys = ([str(one[f"earthloom:{name}"]) for one in said] for name in ("scene", "key"))
    last: dict[str, tuple[float, str]] = {}
    ranks = [(moment.timestamp() if moment else -math.inf, key) for moment, key in zip(moments, keys, strict=True)]
    for scene, rank in zip(scenes, ranks, strict=True):
        last[scene] = max(rank, last.get(scene, rank))
    columns = {
        "scene": pa.array(scenes, pa.string()),
        "key": pa.array(keys, pa.string()),
        "published": pa.array(moments, pa.timestamp("us", tz="UTC")),
        "superseded": pa.array([last[scene] != rank for scene, rank in zip(scenes, ranks, strict=True)], pa.bool_()),
    }
    measured = [_measures(one.get("earthloom:class_areas", ())) for one in said]
    names = dict.fromkeys(name for row in measured for name in row)
    return columns | {name: pa.array([row.get(name) for row in measured], pa.float64()) for name in names}


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """What is said of the classes of one result, by name of the column."""
    stems = words({int(row["value"]): row["name"] for row in rows}, hyphens=False)
    return {f"{stems[int(row['value'])]}_{ending}": row.get(field) for row in rows for ending, field in _MEASURES}


def _spelled(item: dict[str, Any]) -> dict[str, Any]:
    """A copy with its keys in one order and each field's values of one type: columns are laid out as keys come, and an
    Arrow column holds either numbers or words."""
    spelled: dict[str, Any] = _of_one_type(json.loads(json.dumps(item, sort_keys=True)), "")
    return spelled


def tabled_ids(table: bytes) -> frozenset[str]:
    """Ids of the items in a table; reads that column only.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    return _ids(_read(table, ["id"]))


def latest_ids(table: bytes) -> frozenset[str]:
    """Ids of the items that no newer result of their scene supersedes; reads two columns only.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    return _ids(_latest(_read(table, ["id", "superseded"])))


def _ids(found: pa.Table) -> frozenset[str]:
    return frozenset(str(name) for name in found.column("id").to_pylist())


def _of_one_type(value: Any, field: str) -> Any:
    if isinstance(value, dict):
        return {key: _of_one_type(part, key) for key, part in value.items() if part != {}}
    if isinstance(value, list):
        return [_of_one_type(part, field) for part in value]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    if isinstance(value, str):
        return _WORDS.get(value, value) if field == "nodata" else value
    return value if field in _COUNTS or field.endswith("_px") else float(value)


def read_items(table: bytes) -> list[dict[str, Any]]:
    """Inverse of `items_parquet`.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    return _items_of(_read(table))


def _items_of(found: pa.Table) -> list[dict[str, Any]]:
    import pyarrow as pa
    from stac_geoparquet.arrow import stac_table_to_items

    flat = [field.name for field in found.schema if (field.metadata or {}).get(b"earthloom")]
    try:
        return [_restored(item) for item in stac_table_to_items(found.drop_columns(flat))]
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _unreadable(error) from error


def linked_by_scenes(table: bytes, scenes: Collection[str]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(id, scene, links) of the items of some scenes; reads these columns only.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = _read(table, ["id", "scene", "links"])
    rows = found.filter(pc.is_in(found.column("scene"), pa.array(sorted(scenes), found.schema.field("scene").type)))
    return [(row["id"], row["scene"], row["links"]) for row in rows.to_pylist()]


def published_of(table: bytes) -> dict[str, str | None]:
    """When each result of a table was committed, by id of its item, as `items_parquet` takes it.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    found = _read(table, ["id", "published"])
    moments = found.column("published").to_pylist()
    return {
        str(name): None if moment is None else utc(moment.isoformat())
        for name, moment in zip(found.column("id").to_pylist(), moments, strict=True)
    }


def latest_items(table: bytes) -> list[dict[str, Any]]:
    """The items that no newer result of their scene supersedes.

    Raises:
        PublishError: if the bytes are not such a table.
    """
    return _items_of(_latest(_read(table)))


def _latest(found: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return found.filter(pc.invert(found.column("superseded")))


def _read(table: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(pa.BufferReader(table), columns=columns)
        found.schema.field("id" if columns else "superseded")
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise _unreadable(error) from error
    if columns and set(columns) - set(found.column_names):
        raise _unreadable(KeyError(*columns))
    return found


def _unreadable(error: Exception) -> PublishError:
    why = " ".join(str(error).split())
    return PublishError(f"items.parquet cannot be read ({why}); delete it: it is made again from the committed scenes")


def _restored(item: dict[str, Any]) -> dict[str, Any]:
    """A table has one schema for all rows: drop the nulls that it adds, keep the two that mean something."""
    restored: dict[str, Any] = _without_none(item)
    properties = restored["properties"]
    for name in ("datetime", "start_datetime", "end_datetime"):
        if name in properties:
            properties[name] = utc(properties[name])  # the table's timestamps come back with microseconds
    properties.setdefault("datetime", None)
    for asset in restored["assets"].values():
        if "proj:wkt2" in asset:
            asset.setdefault("proj:code", None)
        for band in asset.get("bands", []):
            if isinstance(nodata := band.get("nodata"), float) and not math.isfinite(nodata):
                band["nodata"] = "nan" if math.isnan(nodata) else f"{nodata:g}"
    return restored


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value
