"""Features of any CRS in pixels of a grid, so placed that no window of it sees them otherwise than another one.

Areas go by way of longitude and latitude, where they are whole however their own CRS counts longitudes and wherever a pole
lies; of them the surroundings of the grid are taken, where its CRS has coordinates. Knows nothing of files or of what the
features stand for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.surroundings import Box, on_plane, surroundings
from earthloom.tiling.turn import joined, met, polygonal, turn_of, unbroken

_SNAP = 256
"""Vertices are rounded to 1/256 px of the grid. Offsets of windows are whole pixels, so all sums with them are exact and
a pixel's centre lies on the same side of an edge from whatever window it is looked at."""
_EDGE_PX, _LEAST_EDGE_PX = 64, 1 / 8
"""Edges of another CRS are curves on the grid; they are followed in steps of such lengths, so short that what is straight in
one CRS and bends like the Earth, or like a parallel near a pole, in the other strays by less than `_SAGITTA_PX`."""
_SAGITTA_PX = 1 / 16
_EARTH_RADIUS_M = 6.371e6

_Move = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def onto_grid(
    geometries: NDArray[np.object_], crs: CRS, grid: Grid, name: str
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """The features that may lie on a grid, in its pixels.

    Args:
        geometries: (n,) shapely geometries, x before y. Longitudes may be counted from 0 to 360, or on beyond 180.
        crs: CRS of their coordinates.
        name: name of their file, for messages.

    Returns:
        (k,) their positions among `geometries`, rising, and (k,) the geometries in pixels from the grid's corner, columns
        before rows. Of polygons of another CRS, as much as lies on the grid and around it.

    Raises:
        SceneError: if a feature reaches to where the grid's CRS has no coordinates.
    """
    import shapely

    target = CRS.from_user_input(grid.crs)
    moved = np.full(len(geometries), None, object)
    if crs == target:
        moved[:] = met(shapely.transform(geometries, _to_px(grid)), grid, snap_px=1 / _SNAP, go_on=True)
    else:
        lonlat = _lonlat(crs)
        boxes = surroundings(grid, lonlat)
        to_px = _by_lonlat(lonlat, grid)
        is_area = np.isin(shapely.get_type_id(geometries), (3, 6))
        moved[is_area] = _areas(geometries[is_area], crs, lonlat, boxes, grid, to_px)
        moved[~is_area] = met(
            _places(geometries[~is_area], crs, lonlat, boxes, to_px), grid, snap_px=1 / _SNAP, go_on=True
        )
    there = ~(shapely.is_missing(moved) | shapely.is_empty(moved))
    if not (finite := np.isfinite(shapely.bounds(moved[there])).all(axis=1)).all():
        number = int(np.flatnonzero(there)[np.argmin(finite)])
        raise SceneError(
            f"{name}: feature {number} reaches to where {grid.crs} has no coordinates, so its pixels are unknown; "
            "cut it to the surroundings of the scene"
        )
    left, top, right, bottom = shapely.bounds(moved).reshape(-1, 4).T
    near = np.flatnonzero((left <= grid.width) & (right >= 0) & (top <= grid.height) & (bottom >= 0))
    return near, moved[near]


def _lonlat(crs: CRS) -> CRS:
    """The CRS of longitude and latitude, in degrees, on the datum of another one."""
    own = crs.geodetic_crs
    if own is None or turn_of(own.to_wkt()) is None or (own.prime_meridian and own.prime_meridian.longitude):
        return CRS.from_epsg(4326)
    return own.to_2d()


def _to_px(grid: Grid) -> _Move:
    a, _, c, _, e, f = grid.transform

    def to_px(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((points - (c, f)) / (a, e))

    return to_px


def _by_lonlat(lonlat: CRS, grid: Grid) -> _Move:
    """From longitude and latitude to pixels. Where the grid's CRS knows turns, x goes on as the longitudes do."""
    transformer = Transformer.from_crs(lonlat, CRS.from_user_input(grid.crs), always_xy=True)
    to_px, turn = _to_px(grid), turn_of(grid.crs)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = (np.asarray(axis) for axis in transformer.transform(*points.T))
        if turn is not None:
            with np.errstate(invalid="ignore"):
                x = x + turn * np.round(points[:, 0] / 360 - x / turn)
        return to_px(np.column_stack([x, y]))

    return move


def _areas(
    shapes: NDArray[np.object_], crs: CRS, lonlat: CRS, boxes: Sequence[Box], grid: Grid, to_px: _Move
) -> NDArray[np.object_]:
    """(n,) polygons in pixels, as far as they lie in the boxes of longitude and latitude; empty where none does."""
    import shapely

    if crs != lonlat:
        shapes = shapely.segmentize(on_plane(shapes, crs, grid), _step(crs, boxes, grid))
        to_lonlat = Transformer.from_crs(crs, lonlat, always_xy=True)
        shapes = shapely.transform(shapes, lambda points: np.column_stack(to_lonlat.transform(*points.T)))
        known = shapely.is_empty(shapes) | np.isfinite(shapely.bounds(shapes)).all(axis=1)
        if not known.all():
            return np.asarray(shapes)  # nobody knows where they are
        shapes = unbroken(shapes, 360.0)
    parts, owner = shapely.get_parts(shapes, return_index=True)
    left, bottom, right, top = shapely.bounds(parts).reshape(-1, 4).T
    pieces, owners = [], []
    for west, south, east, north in boxes:
        for turn in (-720.0, -360.0, 0.0, 360.0, 720.0):
            there = np.flatnonzero((left + turn < east) & (right + turn > west) & (bottom < north) & (top > south))
            beyond = (left + turn < west) | (right + turn > east) | (bottom < south) | (top > north)
            turned = parts[there]
            if turn:
                turned = shapely.transform(turned, lambda points, turn=turn: points + np.array([turn, 0.0]))
            cut = beyond[there]
            turned[cut] = polygonal(
                shapely.intersection(shapely.make_valid(turned[cut]), shapely.box(west, south, east, north))
            )
            pieces.append(turned)
            owners.append(owner[there])
    every = shapely.segmentize(np.concatenate(pieces), _step(lonlat, boxes, grid))
    every = shapely.transform(every, lambda points: np.round(to_px(points) * _SNAP) / _SNAP)
    return joined(every, np.concatenate(owners), len(shapes), snap_px=1 / _SNAP)


def _places(
    shapes: NDArray[np.object_], crs: CRS, lonlat: CRS, boxes: Sequence[Box], to_px: _Move
) -> NDArray[np.object_]:
    """(n,) points and lines in pixels, empty where they lie in none of the boxes: the CRS may have no coordinates there."""
    import shapely

    to_lonlat = Transformer.from_crs(crs, lonlat, always_xy=True)
    shapes = shapely.transform(shapes, lambda points: np.column_stack(to_lonlat.transform(*points.T)))
    left, bottom, right, top = shapely.bounds(shapes).reshape(-1, 4).T
    far = np.isfinite(left)
    for west, south, east, north in boxes:
        for turn in (-360.0, 0.0, 360.0):
            far &= ~((left + turn <= east) & (right + turn >= west) & (bottom <= north) & (top >= south))
    shapes[far] = shapely.Point()
    return np.asarray(shapely.transform(shapes, to_px))


def _step(crs: CRS, boxes: Sequence[Box], grid: Grid) -> float:
    """Length of an edge, in units of a CRS, that is short enough to be straight on the grid: shorter near a pole, around which
    longitudes bend."""
    pixel_m = grid.gsd_m()
    pole_deg = min(90 - max(-south, north) for _, south, _, north in boxes)
    bends_m = _EARTH_RADIUS_M * math.radians(min(pole_deg, 45.0))
    step_m = max(min(_EDGE_PX * pixel_m, math.sqrt(8 * bends_m * _SAGITTA_PX * pixel_m)), _LEAST_EDGE_PX * pixel_m)
    unit_m = crs.axis_info[0].unit_conversion_factor  # in radians for a geographic CRS
    return float(step_m / (unit_m * _EARTH_RADIUS_M if crs.is_geographic else unit_m))
