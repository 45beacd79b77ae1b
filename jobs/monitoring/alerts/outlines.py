"""Outlines of connected pixels: polygons in pixel coordinates, the same however the pixels were cut, then on Earth.

In pixel coordinates x is the column and y the row of a pixel's upper-left corner, counted from the grid's corner: whole
numbers, in which shared edges cancel exactly. Knows nothing of alerts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.rings import trace_rings
from earthloom.tiling.grid import Grid
from earthloom.tiling.ground import to_wgs84
from earthloom.tiling.turn import cut_at_180, unbroken
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon

_LONGEST_EDGE_PX = 64
"""A straight edge on the grid is a curve in longitude and latitude: at 45 degrees in UTM the chord of 2048 px of 30 m errs by
74 m in the middle, that of 64 px by 7 cm."""

_DECIMALS = 7  # 1 cm, as in footprints


def trace(labels: NDArray[np.int32], window: Window, n: int) -> NDArray[Any]:
    """The outlines of labelled pixels.

    Args:
        labels: (h, w), from 1; 0 is outside. Neighbours that share an edge have one label.
        window: where they lie on the grid.
        n: number of labels.

    Returns:
        (n,) MultiPolygons, canonical. Pixels that meet at corners only are polygons of their own.
    """
    import shapely

    found = np.empty(n, dtype=object)
    if n:
        rings = trace_rings(labels)
        rings.points[:] += (window.col_off, window.row_off)
        parts = (rings.ring_ends, rings.polygon_ends, rings.outline_ends)
        found[:] = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, rings.points, parts)
        del rings, parts
        found = shapely.normalize(found)
    return found


def unite(outlines: Sequence[Any] | NDArray[Any]) -> MultiPolygon:
    """One outline of parts that do not overlap, canonical: edges that parts share are gone, and what lay on them."""
    import shapely

    united = shapely.union_all(np.array(outlines, dtype=object))
    whole = united if isinstance(united, shapely.MultiPolygon) else shapely.MultiPolygon([united])
    outline: MultiPolygon = _canonical(np.array([whole], dtype=object))[0]
    return outline


def _canonical(outlines: NDArray[Any]) -> NDArray[Any]:
    """Equal areas become equal geometries: no vertex within a straight edge, and one order of vertices, rings and parts."""
    import shapely

    kind, points, (ring_ends, polygon_ends, outline_ends) = shapely.to_ragged_array(outlines)
    assert kind == shapely.GeometryType.MULTIPOLYGON
    sizes = np.diff(ring_ends)
    ring = np.repeat(np.arange(sizes.size), sizes - 1)  # the last point of a ring repeats its first
    keep = np.ones(len(points), bool)
    keep[ring_ends[1:] - 1] = False
    points = points[keep]
    starts = ring_ends[:-1] - np.arange(sizes.size)
    place = np.arange(len(points)) - starts[ring]
    n = (sizes - 1)[ring]
    before = points[starts[ring] + (place - 1) % n]
    after = points[starts[ring] + (place + 1) % n]
    first, second = points - before, after - points
    corner = first[:, 0] * second[:, 1] != first[:, 1] * second[:, 0]
    points, ring = points[corner], ring[corner]
    sizes = np.bincount(ring, minlength=sizes.size)
    ends = np.concatenate([[0], np.cumsum(sizes + 1)])
    closed = np.empty((ends[-1], 2))
    at = np.arange(len(points)) + ring
    closed[at] = points
    closed[ends[1:] - 1] = closed[ends[:-1]]
    return np.asarray(shapely.normalize(shapely.from_ragged_array(kind, closed, (ends, polygon_ends, outline_ends))))


def to_lonlat(outlines: Sequence[Any], grid: Grid) -> NDArray[Any]:
    """Outlines in pixel coordinates as MultiPolygons of longitude and latitude (WGS 84), cut at the antimeridian.

    Returns:
        (n,) MultiPolygons, in degrees, rounded to 1 cm.
    """
    import shapely

    if not len(outlines):
        return np.empty(0, dtype=object)
    a, _, c, _, e, f = grid.transform
    transformer = to_wgs84(grid.crs)
    centre = transformer.transform(c + a * grid.width / 2, f + e * grid.height / 2)[0]
    middle = centre if math.isfinite(centre) else 0.0

    def onto_earth(points: NDArray[np.float64]) -> NDArray[np.float64]:
        lon, lat = transformer.transform(a * points[:, 0] + c, e * points[:, 1] + f)
        lon = np.asarray(lon)
        lon = lon - 360 * np.rint((lon - middle) / 360)  # within half a turn of the grid's centre
        return np.round(np.column_stack([lon, lat]), _DECIMALS)

    def has_pole(lat: float) -> bool:
        x, y = transformer.transform(0.0, lat, direction="INVERSE")
        return bool(0 < (x - c) / a < grid.width and 0 < (y - f) / e < grid.height)

    longest_px = 1.0 if has_pole(90.0) or has_pole(-90.0) else _LONGEST_EDGE_PX  # near a pole straight edges are curves
    split = shapely.segmentize(np.array(outlines, dtype=object), longest_px)
    found = unbroken(np.asarray(shapely.transform(split, onto_earth)), 360.0)  # on a polar grid all longitudes meet
    west, _, east, _ = shapely.bounds(found).T
    for position in np.flatnonzero((west < -180) | (east > 180)):
        found[position] = cut_at_180(found[position])
    for position in np.flatnonzero(shapely.get_type_id(found) == shapely.GeometryType.POLYGON):
        found[position] = shapely.MultiPolygon([found[position]])  # GEOS unpacks a single part
    return found
