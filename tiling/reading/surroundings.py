"""Which ground lies around a grid, in other coordinates: there its own CRS has some, and what is farther does not matter."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.grid import Grid
from earthloom.tiling.ground import Ground
from earthloom.tiling.turn import polygonal, turn_of

Box: TypeAlias = tuple[float, float, float, float]
"""West, south, east, north."""

_MARGIN_DEG = 30.0
"""Of ground beside a grid, at most; else as much on each side as it is wide or high."""
_EDGE_POINTS = 33
_STRETCHED = 3.0
"""How much longer a grid may be in another CRS, in metres, than on the ground, to lie there in one piece."""


def surroundings(grid: Grid, lonlat: CRS) -> list[Box]:
    """Boxes of longitude and latitude that cover a grid and what is beside it. They meet in edges at most.

    Longitudes go on beyond 180 degrees where the grid's own do; else no place is there twice, and none lies on the other side
    of the meridian at which a projection ends (half a turn from where it begins).

    Args:
        lonlat: a geographic CRS, in degrees.
    """
    target = CRS.from_user_input(grid.crs)
    turn = turn_of(grid.crs)
    to_lonlat = Transformer.from_crs(target, lonlat, always_xy=True)
    if turn is not None:
        left, bottom, right, top = grid.bounds
        west, east = left / turn * 360, right / turn * 360
        south, north = to_lonlat.transform([0.0, 0.0], [bottom, top])[1]
        margin = min(max(east - west, north - south), _MARGIN_DEG)
        return [(west - margin, _down(south, margin), east + margin, _up(north, margin))]
    west, south, east, north = to_lonlat.transform_bounds(*grid.bounds, densify_pts=_EDGE_POINTS)
    along = np.linspace(0, 1, _EDGE_POINTS)
    col, row = np.meshgrid(along * grid.width, along * grid.height)
    if not (np.isfinite([west, south, east, north]).all() and Ground(grid).covers(col, row).all()):
        west, south, east, north = -180.0, -90.0, 180.0, 90.0
    east += 360 * (east < west)
    begins = _middle(target, (west + east) / 2) - 180
    west, east = (side - 360 * math.floor((west - begins) / 360) for side in (west, east))
    margin = min(max(east - west, north - south), _MARGIN_DEG)
    south, north = _down(south, margin), _up(north, margin)
    if east > begins + 360:
        west, east = begins, begins + 360
    west, east = max(west - margin, begins), min(east + margin, begins + 360)
    if east - west <= 180:
        return [(west, south, east, north)]
    between = (west + east) / 2  # around a pole a box of a whole turn would be a ring that touches itself
    return [(west, south, between, north), (between, south, east, north)]


def _up(north: float, margin: float) -> float:
    """Not onto the pole, which may lie in infinity, unless the grid does."""
    return north + min(margin, (90 - north) / 2)


def _down(south: float, margin: float) -> float:
    return -_up(-south, margin)


def _middle(crs: CRS, otherwise: float) -> float:
    """The meridian that a projection begins with, in degrees."""
    while crs.is_compound or (crs.is_bound and crs.source_crs):
        crs = crs.sub_crs_list[0] if crs.is_compound else crs.source_crs or crs
    for parameter in crs.coordinate_operation.params if crs.coordinate_operation else ():
        if parameter.name.startswith("Longitude of"):
            return math.degrees(float(parameter.value) * parameter.unit_conversion_factor)
    return otherwise


def on_plane(shapes: NDArray[np.object_], crs: CRS, grid: Grid) -> NDArray[np.object_]:
    """Polygons of a projected CRS as far as they lie around a grid, whole where they are not much larger; empty if they do not.

    All of them as they are where the grid does not lie in one piece in that CRS: over its edge, or where it has no end.
    """
    import shapely

    if turn_of(crs.to_wkt()) is not None:
        return shapes
    along = np.linspace(0, 1, _EDGE_POINTS)
    col, row = np.meshgrid(along * grid.width, along * grid.height)
    a, _, c, _, e, f = grid.transform
    to_crs = Transformer.from_crs(CRS.from_user_input(grid.crs), crs, always_xy=True)
    x, y = (np.asarray(axis) for axis in to_crs.transform(a * col + c, e * row + f))
    width, height = np.ptp(x), np.ptp(y)
    ground_m = grid.gsd_m() * math.hypot(grid.width, grid.height)
    if not math.hypot(width, height) * crs.axis_info[0].unit_conversion_factor <= _STRETCHED * ground_m:
        return shapes
    beside = max(width, height)
    west, south, east, north = x.min() - beside, y.min() - beside, x.max() + beside, y.max() + beside
    left, bottom, right, top = shapely.bounds(shapes).reshape(-1, 4).T
    near = np.where((left <= east) & (right >= west) & (bottom <= north) & (top >= south), shapes, shapely.Polygon())
    large = ~shapely.is_empty(near) & ((left < west) | (right > east) | (bottom < south) | (top > north))
    near[large] = polygonal(
        shapely.intersection(shapely.make_valid(near[large]), shapely.box(west, south, east, north))
    )
    return near
