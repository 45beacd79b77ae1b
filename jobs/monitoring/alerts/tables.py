"""Alerts as tables of polygons: GeoParquet, FlatGeobuf and PMTiles, the same bytes for the same alerts.

Knows nothing of how alerts come about, nor of storage.
"""

from __future__ import annotations

import datetime
import json
import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earthloom.jobs.monitoring.alerts.history import EPOCH, AlertSet
from earthloom.jobs.monitoring.alerts.lives import Alert
from earthloom.jobs.monitoring.alerts.outlines import to_lonlat
from earthloom.jobs.monitoring.alerts.pieces import area_unit_m2
from earthloom.jobs.monitoring.alerts.pixels import MAGNITUDE_STEPS
from earthloom.tiling.encoding import CONFIDENCE_STEPS
from earthloom.tiling.grid import Grid
from earthloom.tiling.vectors import pyogrio, writing_tiles

_LAYER = "alerts"
_BOX = ("xmin", "ymin", "xmax", "ymax")
_EARTH_M = 2 * math.pi * 6_378_137  # around the equator, as Web Mercator has it
_TILE_UNITS = 4096  # of a vector tile, across
_UNITS_PER_PX = 4  # at the largest zoom, at least, so that corners of pixels stay corners
_ZOOMS = 8  # below the largest; from further away an alert is less than a dot
_MOST_ZOOM = 22
_MOST_TILE_BYTES = 2_000_000  # of a crowded tile, before GDAL draws it more coarsely
_ROWS_PER_GROUP = 10_000


def alert_table(alerts: Sequence[Alert], of: AlertSet) -> Any:
    """A table with a row per alert, near ones near each other; the same columns if there are none."""
    import pyarrow as pa
    import shapely

    unit = area_unit_m2(of.cube.grid)
    geometries = to_lonlat(shapely.from_wkb([alert.now.outline for alert in alerts]), of.cube.grid)
    rows = [_row(alert, of, unit) for alert in alerts]
    bounds = shapely.bounds(geometries) if len(alerts) else np.empty((0, 4))
    for row, geometry, box in zip(rows, shapely.to_wkb(geometries, byte_order=1), bounds.tolist(), strict=True):
        row["geometry"] = geometry
        row["bbox"] = dict(zip(_BOX, box, strict=True))
    places = _along_curve([alert.born_col for alert in alerts], [alert.born_row for alert in alerts])
    order = sorted(range(len(rows)), key=lambda position: (places[position], rows[position]["id"]))
    return pa.Table.from_pylist([rows[position] for position in order], schema=_schema())


def _schema() -> Any:
    import pyarrow as pa

    text, date, real = pa.string(), pa.date32(), pa.float64()
    box = pa.struct([(name, real) for name in _BOX])
    return pa.schema(
        [
            ("id", text), ("rule", text), ("from", text), ("to", text), ("state", text), ("first_date", date),
            ("last_date", date), ("confirmed_date", date), ("closed_date", date), ("count", pa.int32()),
            ("confidence", real), ("magnitude", real), ("area_m2", real), ("area_px", pa.int64()), ("merged_into", text),
            ("split_from", text), ("geometry", pa.binary()), ("bbox", box),
        ]
    )  # fmt: skip


def _row(alert: Alert, of: AlertSet, unit: float) -> dict[str, Any]:
    extent = alert.now
    measured = of.evidence.has_magnitude()
    return {
        "id": alert.id, "rule": of.rule.name, "from": of.rule.before, "to": of.rule.after, "state": alert.state,
        "first_date": _date(alert.first_day), "last_date": _date(alert.last_day),
        "confirmed_date": _date(alert.confirmed_day), "closed_date": _date(alert.closed_day), "count": alert.count,
        "confidence": round(extent.confidence / extent.observations / CONFIDENCE_STEPS, 6) if of.evidence.has_confidence()
        else None,
        "magnitude": round(extent.magnitude / extent.observations / MAGNITUDE_STEPS, 6) if measured
        else round(extent.observations / extent.px, 6),
        "area_m2": extent.area * unit, "area_px": extent.px, "merged_into": alert.merged_into,
        "split_from": alert.split_from,
    }  # fmt: skip


def _date(day: int | None) -> Any:
    return None if day is None else EPOCH + datetime.timedelta(days=day)


def _along_curve(cols: Sequence[int], rows: Sequence[int]) -> list[int]:
    """Place of pixels along a Z-order curve, so that rows of a table that are near each other are so on Earth."""

    def spread(value: int) -> int:
        return int(f"{value:b}", 4)  # a zero between any two binary digits

    return [spread(col) | spread(row) << 1 for col, row in zip(cols, rows, strict=True)]


def geoparquet(table: Any) -> bytes:
    """GeoParquet 1.1 with a covering bounding box, so that readers fetch only what lies in view."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    covering = {"bbox": {name: ["bbox", name] for name in _BOX}}
    column = {"encoding": "WKB", "geometry_types": ["MultiPolygon"] if len(table) else [], "covering": covering}
    if len(table):
        column["bbox"] = shapely.total_bounds(shapely.from_wkb(table.column("geometry").to_pylist())).tolist()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({"geo": json.dumps(geo, sort_keys=True)}), sink, compression="zstd",
        row_group_size=_ROWS_PER_GROUP,
    )  # fmt: skip
    return bytes(sink.getvalue())


def flatgeobuf(table: Any) -> bytes:
    """FlatGeobuf with its spatial index: web maps and QGIS read what lies in view."""
    pyogrio()
    return _written(table, "FlatGeobuf", "alerts.fgb")


def pmtiles(table: Any, grid: Grid) -> bytes | None:
    """Vector tiles of one layer, `alerts`, in one file; None if there are no alerts, because no tiles are no such file.

    Args:
        table: of `alert_table`.
        grid: says at which zoom a pixel is drawn as the square that it is.
    """
    if not len(table):
        return None
    largest = math.ceil(math.log2(_EARTH_M * _UNITS_PER_PX / (_TILE_UNITS * grid.gsd_m())))
    largest = min(max(0, largest), _MOST_ZOOM)
    with writing_tiles():
        return _written(
            table, "PMTiles", "alerts.pmtiles", MINZOOM=max(0, largest - _ZOOMS), MAXZOOM=largest, NAME=_LAYER,
            TYPE="overlay", MAX_SIZE=_MOST_TILE_BYTES,
        )  # fmt: skip


def _written(table: Any, driver: str, name: str, **options: Any) -> bytes:
    from pyogrio.raw import write_arrow

    with tempfile.TemporaryDirectory(prefix="earthloom-alerts-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # tiles that are full are drawn more coarsely: so it shall be
        path = Path(folder) / name
        write_arrow(
            table.drop_columns(["bbox"]), path, driver=driver, layer=_LAYER, geometry_name="geometry",
            geometry_type="MultiPolygon", crs="OGC:CRS84", **options,
        )  # fmt: skip
        return path.read_bytes()
