"""Objects, footprints and chips with their place and size on Earth, as GeoParquet 1.1 and as FlatGeobuf.

The same input gives the same bytes. Knows nothing of models or storage.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earthloom.jobs.products.legend import words
from earthloom.models.inference.boxes import Found, corners, scores
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.vectors import pyogrio

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

PARQUET = "application/vnd.apache.parquet"
"""Media type of a table."""
FLATGEOBUF = "application/vnd.flatgeobuf"
"""Media type of features for maps."""

_DECIMALS = 7  # of degrees: 1 cm
_PROBABILITY_DECIMALS = 4


def object_frame(
    found: Found, grid: Grid, *, classes: Mapping[int, str], scene_id: str, key: str, shard_px: int
) -> GeoDataFrame:
    """One row per object, in the order of `found`.

    Args:
        found: merged objects, in pixels of the grid.
        classes: name by value.
        scene_id, key: of the result.
        shard_px: side of a shard.

    Returns:
        geometry (the box as a polygon in longitude and latitude; across the antimeridian longitudes go on beyond 180);
        class; score from 0 to 1; length_m and width_m, the longer and the shorter side along the ellipsoid through the
        middle of the box; area_m2, their product; left_px, top_px, width_px and height_px of the box in the result's pixels;
        row and col of the pixel at its centre; the shard that has it; scene and key.
    """
    from geopandas import GeoDataFrame

    edges = corners(found)
    left, top, right, bottom = edges.T
    across, along = sides_m(grid, edges)
    columns = {
        "class": [classes[int(value)] for value in found["class"]],
        "score": np.round(scores(found), 4),
        "length_m": np.round(np.maximum(across, along), 2),
        "width_m": np.round(np.minimum(across, along), 2),
        "area_m2": np.round(across * along, 1),
        "left_px": np.round(left, 2),
        "top_px": np.round(top, 2),
        "width_px": np.round(right - left, 2),
        "height_px": np.round(bottom - top, 2),
        "row": found["row"].astype(np.int32),
        "col": found["col"].astype(np.int32),
        "shard": [f"{row // shard_px}_{col // shard_px}" for row, col in zip(found["row"], found["col"], strict=True)],
        "scene": [scene_id] * len(found),
        "key": [key] * len(found),
    }
    return GeoDataFrame(columns, geometry=footprints(grid, edges), crs="OGC:CRS84").astype(
        dict.fromkeys(("class", "shard", "scene", "key"), "str")
    )


def footprint_frame(
    found: NDArray[np.void], outlines: NDArray[np.object_], grid: Grid, *, classes: Mapping[int, str], scene_id: str,
    key: str,
) -> GeoDataFrame:  # fmt: skip
    """One row per footprint that got a class.

    Args:
        found: (n,) of `jobs.products.footprints.row_type`.
        outlines: (n,) polygons in pixels of the grid.
        classes: name by value.
        scene_id, key: of the result.

    Returns:
        geometry (the polygon in longitude and latitude; across the antimeridian longitudes go on beyond 180); class;
        probability of that class; `probability_<name>` of every class; area_m2 on the ellipsoid; feature, its number in the
        file of polygons from 0; row and col of the pixel in its middle; scene and key.
    """
    import shapely

    def to_lonlat(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.round(_lonlat(grid, xy[:, 0][None], xy[:, 1][None])[0], _DECIMALS))

    geometry = [shapely.transform(outline, to_lonlat) for outline in outlines]  # each on one side of 180 degrees
    areas_m2 = [round(_area_m2(each), 1) for each in geometry]
    return _classed(found, geometry, areas_m2, {"feature": found["number"]}, classes, scene_id, key)


def label_frame(
    chips: NDArray[np.void], grid: Grid, *, classes: Mapping[int, str], scene_id: str, key: str
) -> GeoDataFrame:
    """One row per decided chip, in the order of `chips`.

    Args:
        chips: (n,) of `jobs.products.labels.row_type`.
        grid: grid of the result, one pixel per chip.
        classes: name by value.
        scene_id, key: of the result.

    Returns:
        geometry (the core as a polygon in longitude and latitude; across the antimeridian longitudes go on beyond 180);
        class; probability of that class; `probability_<name>` of every class; area_m2 on the ellipsoid; row and col of the
        result's pixel; scene and key.
    """
    rows, cols = chips["row"].astype(np.float64), chips["col"].astype(np.float64)
    geometry = footprints(grid, np.stack([cols, rows, cols + 1, rows + 1], axis=1))
    areas_m2 = np.round(pixel_areas_m2(grid, grid.window)[chips["row"], chips["col"]], 1)
    return _classed(chips, geometry, areas_m2, {}, classes, scene_id, key)


def _classed(
    found: NDArray[np.void], geometry: Sequence[Any], areas_m2: ArrayLike, more: Mapping[str, object],
    classes: Mapping[int, str], scene_id: str, key: str,
) -> GeoDataFrame:  # fmt: skip
    """The table of what got a class: `found` has the fields row, col, class and probabilities."""
    from geopandas import GeoDataFrame

    columns = {
        "class": [classes[int(value)] for value in found["class"]],
        **_probability_columns(found["probabilities"], found["class"], classes),
        "area_m2": areas_m2, **more, "row": found["row"], "col": found["col"],
        "scene": [scene_id] * len(found), "key": [key] * len(found),
    }  # fmt: skip
    return GeoDataFrame(columns, geometry=geometry, crs="OGC:CRS84").astype(
        dict.fromkeys(("class", "scene", "key"), "str")
    )


def _area_m2(geometry: Any) -> float:
    """Area of one or several polygons in longitude and latitude, on the ellipsoid, without their holes."""
    from pyproj import Geod

    geod = Geod(ellps="WGS84")

    def of_ring(ring: Any) -> float:
        return abs(float(geod.polygon_area_perimeter(*ring.xy)[0]))

    parts = getattr(geometry, "geoms", [geometry])
    return sum(of_ring(part.exterior) - sum(of_ring(hole) for hole in part.interiors) for part in parts)


def _probability_columns(
    values: NDArray[np.float32], likeliest: NDArray[np.int32], classes: Mapping[int, str]
) -> dict[str, NDArray[np.floating[Any]]]:
    """`probability` of the likeliest class, and `probability_<name>` of every class.

    Args:
        values: (n, K).
        likeliest: (n,) of 0 to K - 1.
        classes: name by value.
    """
    rounded = np.round(values.astype(np.float64), _PROBABILITY_DECIMALS).reshape(len(values), len(classes))
    every = {f"probability_{name}": rounded[:, value] for value, name in words(classes).items()}
    return {"probability": rounded[np.arange(len(values)), likeliest], **every}


def sides_m(grid: Grid, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lengths of boxes across columns and along rows, in metres along the ellipsoid: (n,) each, of edges (n, 4) in pixels."""
    return _length_m(grid, edges, 0), _length_m(grid, edges, 1)


def footprints(grid: Grid, edges: NDArray[np.float64]) -> list[Any]:
    """Polygons in longitude and latitude of rectangles (n, 4) left, top, right, bottom in pixels from the grid's corner."""
    from shapely import polygons

    left, top, right, bottom = edges.T
    rings = _lonlat(grid, np.stack([left, left, right, right, left], 1), np.stack([top, bottom, bottom, top, top], 1))
    return list(polygons(np.round(rings, _DECIMALS)))


def geoparquet(frame: GeoDataFrame) -> bytes:
    """The table as GeoParquet 1.1, each row with its bounding box, by which readers skip what lies elsewhere."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd", schema_version="1.1.0", write_covering_bbox=True)
    return buffer.getvalue()


def flatgeobuf(frame: GeoDataFrame, name: str) -> bytes:
    """The table as one FlatGeobuf layer of polygons with its spatial index."""
    buffer, several = io.BytesIO(), bool((frame.geometry.geom_type == "MultiPolygon").any())
    pyogrio().write_dataframe(
        frame, buffer, driver="FlatGeobuf", layer=name, geometry_type="MultiPolygon" if several else "Polygon",
        promote_to_multi=several,
    )  # fmt: skip
    return buffer.getvalue()


def _lonlat(grid: Grid, cols: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, k, 2) longitude and latitude of places (n, k) given in pixels from the grid's corner."""
    from pyproj import Transformer

    a, _, c, _, e, f = grid.transform
    lon, lat = Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True).transform(c + a * cols, f + e * rows)
    near = lon - 360 * np.round((lon - lon[:, :1]) / 360)  # one side of the antimeridian
    return np.stack([near, lat], axis=-1)


def _length_m(grid: Grid, edges: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """(n,) from the middle of one edge of each box to that of the opposite one: 0 is across columns, 1 along rows."""
    from pyproj import Geod

    middle = (edges[:, :2] + edges[:, 2:]) / 2
    ends = np.repeat(middle[:, None], 2, axis=1)
    ends[:, :, axis] = edges[:, [axis, axis + 2]]
    places = _lonlat(grid, ends[..., 0], ends[..., 1])
    lengths: NDArray[np.float64] = Geod(ellps="WGS84").inv(
        places[:, 0, 0], places[:, 0, 1], places[:, 1, 0], places[:, 1, 1]
    )[2]
    return np.asarray(lengths)
