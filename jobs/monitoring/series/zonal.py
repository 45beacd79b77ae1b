"""Areas of classes in polygons: how much of each zone is what, on each date, to the part of a pixel.

Coverage of pixels at a zone's edge is exact (exactextract) and pixels count with their true areas. Maps are read in strips
of a shard, so memory does not grow with the grid. Knows nothing of where zones and maps come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.change.transitions import exact_areas_m2, pixel_m2
from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.tiling.counting import summable
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from earthloom.tiling.turn import cut_at_180, met, polygonal, turn_of, unbroken
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

_STRIP_ROWS = 512  # a row of Zarr chunks, so that none is decoded twice
_EARTH_RADIUS_M = 6.371e6
_SAGITTA_PX = 0.05
"""Edges of zones are straight in the zones' own CRS; they are split so finely that on the grid they err by less than that."""

COLUMNS = (
    "zone", "name", "map", "start", "end", "value", "class", "area_m2", "percent", "confidence", "nodata_m2",
    "covered_percent",
)  # fmt: skip


def zonal(store: Store, maps: Sequence[ClassMap], zones: gpd.GeoDataFrame, name: str | None = None) -> pd.DataFrame:
    """Areas per class, zone and map.

    Args:
        store: on OUT.
        maps: maps of any grids; those of one grid must have the same classes.
        zones: polygons with a CRS, any.
        name: column of `zones` that names them; None: they are numbered only.

    Returns:
        One row per class, for each zone in its order and each map in the given order, with the columns

        - `zone`: position in `zones`, from 0; `name`: text, empty without a column;
        - `map`, `start`, `end`: the map's name and days;
        - `value`, `class`, `area_m2`; `percent` of the zone's known area; `confidence`, the mean by area, 0 to 1;
        - `nodata_m2`: part of the zone that lies on the grid and is not known;
        - `covered_percent`: share of the zone that lies on the grid, to 0.1.

    Raises:
        ConfigError: if zones have no CRS, are no polygons, or have no such column.
    """
    import pandas as pd

    named = _names(zones, name)
    frames = []
    for grid in dict.fromkeys(class_map.grid for class_map in maps):
        some = [class_map for class_map in maps if class_map.grid == grid]
        if others := [class_map for class_map in some if class_map.classes != some[0].classes]:
            raise ConfigError(f"{some[0].name} and {others[0].name} have other classes; zone maps of one product")
        placed = place(zones, grid)
        frames.append(_table(some, placed, _count(store, some, placed), named))
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    order = {class_map.made_of: position for position, class_map in enumerate(maps)}
    table = pd.concat(frames, ignore_index=True)
    table["order"] = table["order"].map(order)
    return table.sort_values(["zone", "order", "value"], kind="stable", ignore_index=True)[list(COLUMNS)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Zones:
    """Zones in pixel coordinates of a grid: x is the column, y the row."""

    grid: Grid
    polygons: NDArray[Any]
    """shapely polygons and multipolygons, empty where a zone does not meet the grid."""
    areas_m2: NDArray[np.float64]
    """True area of each whole zone, on and off the grid."""

    def parts(self, window: Window) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Parts of a window that zones cover: (position of the zone, flat pixel in the window, share of the pixel, 0 to 1)."""
        import shapely
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource

        box = shapely.box(window.col_off, window.row_off, window.col_end, window.row_end)
        near = np.sort(shapely.STRtree(self.polygons).query(box))
        source = NumPyRasterSource(
            np.zeros(window.shape, np.uint8), xmin=0, ymin=0, xmax=window.width, ymax=window.height
        )

        def flipped(points: NDArray[np.float64]) -> NDArray[np.float64]:  # exactextract has y upwards
            return np.column_stack([points[:, 0] - window.col_off, window.row_end - points[:, 1]])

        zones, cells, shares = [], [], []
        for position in near:
            local = shapely.transform(shapely.clip_by_rect(self.polygons[position], *box.bounds), flipped)
            if not shapely.area(local):
                continue
            feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(local)}
            (covered,) = exact_extract(source, [feature], ["cell_id", "coverage"])
            cells.append(covered["properties"]["cell_id"])
            shares.append(covered["properties"]["coverage"])
            zones.append(np.full(cells[-1].size, position))
        if not zones:
            return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0)
        return np.concatenate(zones), np.concatenate(cells), np.concatenate(shares)


def place(zones: gpd.GeoDataFrame, grid: Grid) -> Zones:
    """Zones onto a grid.

    Raises:
        ConfigError: if they have no CRS or are no polygons.
    """
    import geopandas as gpd
    import shapely
    from pyproj import CRS

    fine, crs = polygons_for(zones, grid), CRS.from_user_input(zones.crs)
    onto = gpd.GeoSeries(_near(fine, crs, grid), crs=zones.crs).to_crs(grid.crs).to_numpy()
    turn = turn_of(grid.crs)
    if turn is not None and crs != CRS.from_user_input(grid.crs):
        onto = unbroken(onto, turn)
    a, _, c, _, e, f = grid.transform
    pixels = met(shapely.transform(onto, lambda points: (points - (c, f)) / (a, e)), grid, go_on=True)
    return Zones(grid=grid, polygons=polygonal(pixels), areas_m2=true_areas_m2(fine, zones.crs, grid))


def _near(fine: NDArray[Any], crs: Any, grid: Grid) -> NDArray[Any]:
    """The parts of polygons around a grid, in their own CRS: what is far away may have no place on the grid's projection.

    Where their CRS goes once around the Earth they may count longitudes otherwise than PROJ, from 0 to 360 or past 180: what
    lies a turn away is moved onto the grid's side.
    """
    import shapely
    from pyproj import CRS, Transformer

    to_zones = Transformer.from_crs(CRS.from_user_input(grid.crs), crs, always_xy=True)
    west, south, east, north = to_zones.transform_bounds(*grid.bounds, densify_pts=64)
    turn = turn_of(crs.to_wkt())
    if turn is not None and east <= west:  # over the antimeridian
        east += turn
    span = max(east - west, north - south)
    if not math.isfinite(span):
        return fine
    left, right = west - span, east + span
    if turn is None:
        return np.asarray(shapely.clip_by_rect(fine, left, south - span, right, north + span))
    if right - left > turn:
        left, right = ((west + east + sign * turn) / 2 for sign in (-1, 1))
    moved = [
        shapely.transform(
            shapely.clip_by_rect(fine, left + step, south - span, right + step, north + span),
            lambda points, step=step: points - np.array([step, 0.0]),
        )
        for step in (-turn, 0.0, turn)
    ]  # fmt: skip
    return np.asarray(shapely.union_all(moved, axis=0))


def polygons_for(zones: gpd.GeoDataFrame, grid: Grid) -> NDArray[Any]:
    """Polygons in their own CRS, made valid, with edges so short that they stay in place when they are brought onto a grid.
    (n,) shapely polygons and multipolygons, empty where a zone has no geometry.

    Raises:
        ConfigError: if they have no CRS or are no polygons.
    """
    import shapely

    if zones.crs is None:
        raise ConfigError(
            "the polygons have no CRS, so nobody knows where they are; write it into a copy: "
            "ogr2ogr -a_srs EPSG:<code> placed.gpkg FILE"
        )
    shapes = np.asarray(zones.geometry.array)
    shapes = np.where(shapely.is_missing(shapes), shapely.Polygon(), shapes)
    kinds = shapely.get_type_id(shapes)
    if (strange := np.flatnonzero(~np.isin(kinds, (3, 6)))).size:
        kind = shapes[strange[0]].geom_type
        raise ConfigError(f"feature {strange[0]} is a {kind}; polygons are wanted: buffer lines and points first")
    return _fine(polygonal(shapes), zones.crs, grid)


def true_areas_m2(shapes: NDArray[Any], crs: Any, grid: Grid) -> NDArray[np.float64]:
    """(n,) areas of polygons on the ellipsoid of a grid's CRS, as those of its pixels are. Their edges are straight in their
    own CRS, where geodesics are curves: they are split as finely as for a grid.

    Args:
        shapes: (n,) shapely polygons and multipolygons.
        crs: theirs.
    """
    import geopandas as gpd
    from pyproj import CRS

    of_grid = CRS.from_user_input(grid.crs)
    lonlat = gpd.GeoSeries(_fine(shapes, crs, grid), crs=crs).to_crs(of_grid.geodetic_crs)
    geod, degrees = of_grid.get_geod(), math.degrees(lonlat.crs.axis_info[0].unit_conversion_factor)
    if abs(degrees - 1) > 1e-9:  # France has grads
        lonlat = lonlat.scale(degrees, degrees, origin=(0, 0))
    return np.array([_geodesic_m2(geod, polygon) for polygon in lonlat], np.float64)


def in_degrees(shapes: NDArray[Any], crs: Any, grid: Grid) -> NDArray[Any]:
    """(n,) polygons and multipolygons in longitude and latitude (WGS 84), cut at 180 degrees. Their edges are straight in their
    own CRS and stay in place, as for a grid."""
    import geopandas as gpd
    import shapely

    outlines = unbroken(gpd.GeoSeries(_fine(shapes, crs, grid), crs=crs).to_crs("EPSG:4326").to_numpy(), 360.0)
    west, _, east, _ = shapely.bounds(outlines).T
    beyond = (west < -180) | (east > 180)
    return np.array(
        [cut_at_180(outline) if cut else outline for outline, cut in zip(outlines, beyond, strict=True)], object
    )


def _fine(shapes: NDArray[Any], crs: Any, grid: Grid) -> NDArray[Any]:
    """Shapes with edges so short that they stay in place when they are brought onto a grid."""
    import shapely
    from pyproj import CRS

    return np.asarray(shapely.segmentize(shapes, _longest_edge(CRS.from_user_input(crs), grid)))


def _longest_edge(crs: Any, grid: Grid) -> float:
    """Length of an edge, in units of the CRS, whose middle strays less than `_SAGITTA_PX` from the straight line."""
    longest_m = math.sqrt(8 * _EARTH_RADIUS_M * _SAGITTA_PX * math.sqrt(pixel_m2(grid)))
    unit_m = crs.axis_info[0].unit_conversion_factor  # in radians for a geographic CRS
    return float(longest_m / (unit_m * _EARTH_RADIUS_M if crs.is_geographic else unit_m))


def _geodesic_m2(geod: Any, shape: Any) -> float:
    """Area on the ellipsoid, edges as geodesics; whichever way the rings run."""
    total = 0.0
    for polygon in getattr(shape, "geoms", [shape]):
        if not polygon.is_empty:
            total += abs(geod.geometry_area_perimeter(polygon.exterior)[0])
            total -= sum(abs(geod.geometry_area_perimeter(ring)[0]) for ring in polygon.interiors)
    return total


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sums:
    """Sums by map, zone and class, nodata last: (maps, zones, classes + 1)."""

    areas_m2: NDArray[np.float64]
    trust: NDArray[np.float64]
    """Stored confidence times area."""


def _count(store: Store, maps: Sequence[ClassMap], zones: Zones) -> _Sums:
    n_classes = len(maps[0].classes)
    shape = (len(maps), zones.polygons.size, n_classes + 1)
    areas, trust = np.zeros(shape), np.zeros(shape)
    for window in _strips(zones, maps[0].shard_px):
        zone, cell, share = zones.parts(window)
        if not zone.size:
            continue
        weights = summable(exact_areas_m2(zones.grid, window).ravel()[cell] * share, pixel_m2(zones.grid))
        for position, class_map in enumerate(maps):
            classes, confidence = (values.ravel()[cell] for values in class_map.read(store, window))
            slot = zone * (n_classes + 1) + np.where(classes == NODATA, n_classes, classes)
            size = shape[1] * shape[2]
            areas[position] += np.bincount(slot, weights, minlength=size).reshape(shape[1:])
            trust[position] += np.bincount(slot, weights * confidence, minlength=size).reshape(shape[1:])
    return _Sums(areas_m2=areas, trust=trust)


def _strips(zones: Zones, shard_px: int) -> Iterator[Window]:
    """Windows of the grid that a zone may meet, each within one shard."""
    import shapely

    tree = shapely.STRtree(zones.polygons)
    for shard in zones.grid.window.split(shard_px):
        for row in range(shard.row_off, shard.row_end, _STRIP_ROWS):
            strip = Window(shard.col_off, row, shard.width, min(_STRIP_ROWS, shard.row_end - row))
            if tree.query(shapely.box(strip.col_off, strip.row_off, strip.col_end, strip.row_end)).size:
                yield strip


def _table(maps: Sequence[ClassMap], zones: Zones, sums: _Sums, names: Sequence[str]) -> pd.DataFrame:
    """Rows by map, then zone, then class."""
    import pandas as pd

    classes = maps[0].classes
    n_maps, n_zones, n = len(maps), len(names), len(classes)
    areas, trust = sums.areas_m2[..., :n], sums.trust[..., :n]
    known = areas.sum(axis=2, keepdims=True)
    covered = 100 * sums.areas_m2.sum(axis=2) / np.where(zones.areas_m2 > 0, zones.areas_m2, math.inf)

    def of_zone(values: NDArray[Any]) -> NDArray[Any]:  # (n_maps, n_zones) for each class
        return np.repeat(values, n)

    def of_map(values: Sequence[Any]) -> list[Any]:
        return [value for value in values for _ in range(n_zones * n)]

    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "order": of_map([one.made_of for one in maps]),
                "zone": of_zone(np.tile(np.arange(n_zones), n_maps)),
                "name": of_zone(np.tile(np.array(names, object), n_maps)),
                "map": of_map([one.name for one in maps]),
                "start": of_map([one.start for one in maps]),
                "end": of_map([one.end for one in maps]),
                "value": np.tile(np.array([one.value for one in classes], np.uint8), n_maps * n_zones),
                "class": [one.name for one in classes] * (n_maps * n_zones),
                "area_m2": np.round(areas, 3).ravel(),
                "percent": np.round(100 * areas / np.where(known > 0, known, 1), 6).ravel(),
                "confidence": np.round(trust / areas * CONFIDENCE_SCALE, 6).ravel(),
                "nodata_m2": of_zone(np.round(sums.areas_m2[..., n], 3)),
                "covered_percent": of_zone(np.round(np.minimum(covered, 100), 1)),
            }
        )


def _names(zones: gpd.GeoDataFrame, column: str | None) -> list[str]:
    if column is None:
        return [""] * len(zones)
    if column not in zones.columns or column == zones.geometry.name:
        others = [str(column) for column in zones.columns if column != zones.geometry.name]
        raise ConfigError(f"the zones have no column `name={column}`; they have {', '.join(others) or 'none at all'}")
    return ["" if value is None else str(value) for value in zones[column]]


def read_zones(path: str) -> gpd.GeoDataFrame:
    """Polygons of a file that GDAL reads: GeoJSON, GeoPackage, Shapefile, FlatGeobuf; or GeoParquet.

    Raises:
        ConfigError: if it cannot be read, holds nothing, or has several layers.
    """
    import geopandas as gpd

    module = pyogrio()
    try:
        if path.endswith((".parquet", ".geoparquet")):
            zones = gpd.read_parquet(path)
        else:
            layers = [str(name) for name, kind in module.list_layers(path) if kind is not None]
            if len(layers) > 1:
                raise ConfigError(
                    f"{path} has {len(layers)} layers ({', '.join(layers)}), and nothing says which is meant; write one into "
                    f"a file of its own: ogr2ogr one.gpkg {path} LAYER"
                )
            zones = gpd.read_file(path, layer=layers[0] if layers else None)  # a table without geometries is no layer
    except ConfigError:
        raise
    except Exception as error:  # pyogrio, pyarrow and fsspec each have errors of their own
        raise ConfigError(f"{path} cannot be read as polygons ({error})") from error
    if not len(zones):
        raise ConfigError(f"{path} holds no polygon")
    return zones
