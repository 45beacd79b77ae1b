"""Alerts as tables of polygons: GeoParquet, FlatGeobuf and PMTiles, the same bytes for the same alerts.

Knows nothing of how alerts come about, nor of storage.
"""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earthloom.jobs.monitoring.alerts.history import AlertSet
from earthloom.jobs.monitoring.alerts.lives import Alert
from earthloom.jobs.monitoring.alerts.outlines import to_lonlat
from earthloom.jobs.monitoring.alerts.pieces import area_unit_m2
from earthloom.jobs.monitoring.alerts.pixels import MAGNITUDE_STEPS
from earthloom.tiling.encoding import CONFIDENCE_STEPS
from earthloom.tiling.grid import Grid
from earthloom.tiling.vectors import pyogrio, writing_tiles

_LAYER = "alerts"
_BOX = ("xmin", "ymin", "xmax", "ymax")
_COLUMNS = (
    "id", "rule", "from", "to", "state", "first_date", "last_date", "grown_date", "confirmed_date", "closed_date",
    "count", "confidence", "magnitude", "area_m2", "area_px", "merged_into", "split_from", "geometry", "bbox",
)  # fmt: skip
_DIGITS = 6  # of a mean
_EARTH_M = 2 * math.pi * 6_378_137  # around the equator, as Web Mercator has it
_TILE_UNITS = 4096  # of a vector tile, across
_UNITS_PER_PX = 4  # at the largest zoom, at least, so that corners of pixels stay corners
_ZOOMS = 8  # below the largest; from further away an alert is less than a dot
_MOST_ZOOM = 22
_ROWS_PER_GROUP = 10_000


def alert_table(alerts: Sequence[Alert], of: AlertSet) -> Any:
    """A table with a row per alert, near ones near each other; the same columns if there are none."""
    import pyarrow as pa
    import shapely

    places = _along_curve([alert.born_col for alert in alerts], [alert.born_row for alert in alerts])
    order = sorted(range(len(alerts)), key=lambda position: (places[position], alerts[position].id))
    alerts = [alerts[position] for position in order]
    geometries = to_lonlat(shapely.from_wkb([alert.now.outline for alert in alerts]), of.cube.grid)
    bounds = shapely.bounds(geometries).reshape(-1, len(_BOX))
    columns = _columns(alerts, of)
    columns["geometry"] = pa.array(shapely.to_wkb(geometries, byte_order=1), pa.binary())
    columns["bbox"] = pa.StructArray.from_arrays([pa.array(edge) for edge in bounds.T], _BOX)
    return pa.table({name: columns[name] for name in _COLUMNS})


def _columns(alerts: Sequence[Alert], of: AlertSet) -> dict[str, Any]:
    import pyarrow as pa

    unit, extents = area_unit_m2(of.cube.grid), [alert.now for alert in alerts]
    text, date, real = pa.string(), pa.date32(), pa.float64()
    has_confidence = of.evidence.has_confidence()
    confidence = [
        round(extent.confidence / extent.observations / CONFIDENCE_STEPS, _DIGITS) if has_confidence else None
        for extent in extents
    ]
    magnitude = [
        extent.observations / extent.px if has_confidence else extent.magnitude / extent.observations / MAGNITUDE_STEPS
        for extent in extents
    ]
    return {
        "id": pa.array([alert.id for alert in alerts], text),
        "rule": pa.array([of.rule.name] * len(alerts), text),
        "from": pa.array([of.rule.before] * len(alerts), text),
        "to": pa.array([of.rule.after] * len(alerts), text),
        "state": pa.array([alert.state for alert in alerts], text),
        "first_date": pa.array([alert.first_day for alert in alerts], pa.int32()).cast(date),
        "last_date": pa.array([alert.last_day for alert in alerts], pa.int32()).cast(date),
        "grown_date": pa.array([alert.grown_day for alert in alerts], pa.int32()).cast(date),
        "confirmed_date": pa.array([alert.confirmed_day for alert in alerts], pa.int32()).cast(date),
        "closed_date": pa.array([alert.closed_day for alert in alerts], pa.int32()).cast(date),
        "count": pa.array([alert.count for alert in alerts], pa.int32()),
        "confidence": pa.array(confidence, real),
        "magnitude": pa.array([round(value, _DIGITS) for value in magnitude], real),
        "area_m2": pa.array([extent.area * unit for extent in extents], real),
        "area_px": pa.array([extent.px for extent in extents], pa.int64()),
        "merged_into": pa.array([alert.merged_into for alert in alerts], text),
        "split_from": pa.array([alert.split_from for alert in alerts], text),
    }


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
            TYPE="overlay",
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
