"""Features of any CRS in pixels of a grid, so placed that no window of it sees them otherwise than another one.

Knows nothing of files or of what the features stand for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.turn import goes_beyond, met

_SNAP = 256
"""Vertices are rounded to 1/256 px of the grid. Offsets of windows are whole pixels, so all sums with them are exact and
a pixel's centre lies on the same side of an edge from whatever window it is looked at."""
_EDGE_PX = 64
"""Edges of another CRS are curves on the grid; they are followed in steps of about this length."""


def onto_grid(
    geometries: NDArray[np.object_], crs: CRS, grid: Grid, name: str
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """The features that may lie on a grid, in its pixels.

    Args:
        geometries: (n,) shapely geometries, x before y.
        crs: CRS of their coordinates.
        name: name of their file, for messages.

    Returns:
        (k,) their positions among `geometries`, rising, and (k,) the geometries in pixels from the grid's corner, columns
        before rows.

    Raises:
        SceneError: if a feature reaches to where the grid's CRS has no coordinates.
    """
    import shapely

    target = CRS.from_user_input(grid.crs)
    to_grid = Transformer.from_crs(crs, target, always_xy=True)
    near = _near(geometries, crs, target, grid)
    geometries = geometries[near]
    if crs != target and len(geometries):
        left, bottom, right, top = _bounds(Transformer.from_crs(target, crs, always_xy=True), grid)
        step = min(abs(right - left) / grid.width, abs(top - bottom) / grid.height) * _EDGE_PX
        geometries = shapely.segmentize(geometries, step) if np.isfinite(step) and step > 0 else geometries
    a, _, c, _, e, f = grid.transform

    def to_px(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = (xy[:, 0], xy[:, 1]) if crs == target else to_grid.transform(xy[:, 0], xy[:, 1])
        px = np.column_stack([(np.asarray(x) - c) / a, (np.asarray(y) - f) / e])
        return np.asarray(np.round(px * _SNAP) / _SNAP)

    moved = shapely.transform(geometries, to_px)
    if len(moved) and not (finite := np.isfinite(shapely.bounds(moved)).all(axis=1)).all():
        number = int(near[np.argmin(finite)])
        raise SceneError(
            f"{name}: feature {number} reaches to where {grid.crs} has no coordinates, so its pixels are unknown; "
            "cut it to the surroundings of the scene"
        )
    if not goes_beyond(grid):
        return near, moved
    moved = met(moved, grid, snap_px=1 / _SNAP)
    there = ~shapely.is_empty(moved)
    return near[there], moved[there]


def _bounds(transformer: Transformer, grid: Grid) -> tuple[float, float, float, float]:
    """(left, bottom, right, top) of a grid in another CRS; left > right across the antimeridian."""
    return transformer.transform_bounds(*grid.bounds, densify_pts=21)


def _near(geometries: NDArray[np.object_], crs: CRS, target: CRS, grid: Grid) -> NDArray[np.intp]:
    """Positions of the features that may lie on a grid: elsewhere on Earth its CRS may have no coordinates for them."""
    import shapely

    left, bottom, right, top = (
        grid.bounds if crs == target else _bounds(Transformer.from_crs(target, crs, always_xy=True), grid)
    )
    if not np.isfinite([left, bottom, right, top]).all():
        return np.arange(len(geometries))
    if crs == target and goes_beyond(grid):
        left, right = -np.inf, np.inf
    west, south, east, north = shapely.bounds(geometries).reshape(-1, 4).T
    margin = 0.01 * max(top - bottom, abs(right - left) if np.isfinite(right - left) else 0.0)
    beside = (west <= right + margin) & (east >= left - margin)
    if left > right:  # across the antimeridian
        beside = (west <= right + margin) | (east >= left - margin)
    return np.flatnonzero(beside & (south <= top + margin) & (north >= bottom - margin))
