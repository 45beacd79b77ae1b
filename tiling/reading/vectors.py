"""Features of a vector file, read whole: geometries, the values of one column, and their CRS.

Read are GeoPackage, FlatGeobuf, GeoJSON, Shapefile and GeoParquet, each told from its first bytes.
Knows nothing of what the values mean.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from earthloom.tiling.errors import SceneError, StorageError
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.vectors import pyogrio

_STARTS = {
    b"SQLite format 3\x00": "GeoPackage", b"fgb": "FlatGeobuf", b"PAR1": "GeoParquet", b"\x00\x00\x27\x0a": "Shapefile",
    b"{": "GeoJSON",
}  # fmt: skip


_TWO_TURNS, _BEYOND_POLES = (
    720.0,
    100.0,
)  # degrees; files that go around the Earth count on, and rounding passes the poles


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The features of one layer in the order of the file.

    Attributes:
        geometries: (n,) shapely geometries, x before y; features without one are left out.
        values: (n,) values of the column that was asked for; None where it was not, or is null.
        crs: CRS of the coordinates.
    """

    geometries: NDArray[np.object_]
    values: NDArray[np.object_]
    crs: CRS


def vector_format(asset: Asset) -> str | None:
    """The vector format that a file starts like, or None.

    Raises:
        StorageError: if it cannot be read.
    """
    start = open_store(asset.ref).get_range("", 0, 512).removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((name for head, name in _STARTS.items() if start.startswith(head)), None)


def read_features(asset: Asset, *, column: str | None, layer: str | None = None) -> Features:
    """Read all features of a vector file.

    Args:
        asset: the pinned file, of any storage.
        column: whose values are wanted.
        layer: layer of a file that has several.

    Raises:
        SceneError: if the file is of another format, damaged, without a CRS, has no degrees where its CRS does, or lacks
            the column or the layer; the message lists what it has.
        StorageError: if it cannot be read.
    """
    name = asset.ref.name
    form = vector_format(asset)
    if form is None:
        raise SceneError(f"{name} is none of {', '.join(_STARTS.values())}; convert it: ogr2ogr labels.gpkg {name}")
    try:
        if form == "GeoParquet":
            found = _parquet(asset, column)
        elif form == "GeoJSON":
            found = _geojson(asset, column)
        else:
            found = _by_pyogrio(asset, column, layer)
    except (SceneError, StorageError):
        raise
    except Exception as error:  # of json, pyogrio, pyarrow and shapely, which share no class
        cause = " ".join(str(error).split())[:200]
        raise SceneError(f"cannot read {name}: {cause}; the file is damaged or no {form}: fetch it again") from error
    there = np.array([geometry is not None and not geometry.is_empty for geometry in found.geometries], np.bool_)
    found = Features(geometries=found.geometries[there], values=found.values[there], crs=found.crs)
    _check_degrees(name, found)
    if strange := [value for value in found.values if isinstance(value, list | dict)]:
        raise SceneError(f"{name}: {column} of a feature is {strange[0]!r:.80}, and not one value; take another column")
    return found


def _check_degrees(name: str, found: Features) -> None:
    """Metres that pass for degrees lie nowhere, so that nothing would be found there, without a word."""
    import shapely

    if not found.crs.is_geographic or not len(found.geometries):
        return
    west, south, east, north = shapely.total_bounds(found.geometries)
    if max(abs(west), abs(east)) > _TWO_TURNS or max(abs(south), abs(north)) > _BEYOND_POLES:
        raise SceneError(
            f"{name} has coordinates from {west:.10g}, {south:.10g} to {east:.10g}, {north:.10g}, which are no degrees, and "
            f"its CRS is {found.crs.name}, as GeoJSON's is where it names none. The longitude comes first; or say which CRS "
            f"they are in: ogr2ogr -s_srs EPSG:<code> -t_srs EPSG:4326 degrees.gpkg {name}"
        )


def _by_pyogrio(asset: Asset, column: str | None, layer: str | None) -> Features:
    import shapely

    module = pyogrio()
    from pyogrio import raw

    source = str(asset.ref.path) if asset.ref.scheme == "file" else open_store(asset.ref).get()
    layers = [str(name) for name, kind in module.list_layers(source) if kind is not None]
    if layer is not None and layer not in layers:
        raise SceneError(f"{asset.ref.name} has no layer {layer!r}; it has {', '.join(layers)}")
    if layer is None and len(layers) != 1:
        raise SceneError(
            f"{asset.ref.name} has {len(layers)} layers ({', '.join(layers)}); name one of them (`label_layer`, "
            f"`footprints_layer`), or write one into a file of its own: ogr2ogr one.gpkg {asset.ref.name} LAYER"
        )
    layer = layer or layers[0]
    _check_column(asset, column, module.read_info(source, layer=layer)["fields"])
    meta, _, wkb, fields = raw.read(source, layer=layer, columns=[column] if column else [], force_2d=True)
    values = fields[0] if column else [None] * len(wkb)
    return Features(geometries=_objects(shapely.from_wkb(wkb)), values=_objects(values), crs=_crs(asset, meta["crs"]))


def _geojson(asset: Asset, column: str | None) -> Features:
    """RFC 7946, whose coordinates are WGS 84; also with the `crs` member of its forerunner, which GDAL still writes."""
    import shapely
    from shapely.geometry import shape

    document = json.loads(open_store(asset.ref).get())
    features = document["features"] if document.get("type") == "FeatureCollection" else [document]
    properties = [feature.get("properties") or {} for feature in features]
    _check_column(asset, column, sorted({name for each in properties for name in each}))
    made = [shape(each["geometry"]) if each.get("geometry") else None for each in features]
    named = (document.get("crs") or {}).get("properties", {}).get("name", "EPSG:4326")
    values = [each.get(column) for each in properties]
    return Features(geometries=shapely.force_2d(_objects(made)), values=_objects(values), crs=_crs(asset, named))


def _parquet(asset: Asset, column: str | None) -> Features:
    import geopandas
    import shapely

    frame = geopandas.read_parquet(io.BytesIO(open_store(asset.ref).get()))
    _check_column(asset, column, [name for name in frame.columns if name != frame.geometry.name])
    values = frame[column].to_numpy() if column else [None] * len(frame)
    made = shapely.force_2d(frame.geometry.to_numpy())
    return Features(geometries=_objects(made), values=_objects(values), crs=_crs(asset, frame.crs))


def _check_column(asset: Asset, column: str | None, there: Iterable[object]) -> None:
    if column is not None and column not in (names := [str(name) for name in there]):
        raise SceneError(f"{asset.ref.name} has no column {column!r}; it has {', '.join(names) or 'none'}")


def _crs(asset: Asset, found: object) -> CRS:
    if found is None:
        name = asset.ref.name
        placed = f"ogr2ogr -a_srs EPSG:<code> {asset.ref.stem}-placed.gpkg {name}"
        raise SceneError(f"{name} does not say its CRS; write it into a copy: {placed}")
    return CRS.from_user_input(found)


def _objects(values: Iterable[Any]) -> NDArray[np.object_]:
    """Values as Python's own types, None where they are null or NaN."""
    items = [value.item() if isinstance(value, np.generic) else value for value in values]
    out = np.empty(len(items), object)
    out[:] = [None if isinstance(item, float) and math.isnan(item) else item for item in items]
    return out
