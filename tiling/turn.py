"""How far it is once around the Earth in a CRS whose grids may go on beyond that: from 0 to 360 degrees, past 180."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from earthloom.tiling.grid import Grid

_MERCATOR_M = 6378137.0
"""Radius of Web Mercator's sphere (EPSG:3857)."""


@lru_cache(maxsize=64)
def turn_of(crs: str) -> float | None:
    """A whole turn along x, in units of the CRS; None of projections that know none, and of units other than degrees."""
    found = CRS.from_user_input(crs)
    if found.is_geographic:
        return 360.0 if found.axis_info[0].unit_name == "degree" else None
    return 2 * math.pi * _MERCATOR_M if found.to_epsg() == 3857 else None


def goes_beyond(grid: Grid) -> bool:
    """Whether a grid has columns more than half a turn from the CRS's origin."""
    turn, (left, _, right, _) = turn_of(grid.crs), grid.bounds
    return turn is not None and max(abs(left), abs(right)) > turn / 2 * (1 + 1e-9)


def turns_of(grid: Grid) -> tuple[float, ...]:
    """What to add to an x that PROJ gives, so that all places on a grid are met: nothing but for one that goes beyond."""
    turn = turn_of(grid.crs)
    return (-turn, 0.0, turn) if turn is not None and goes_beyond(grid) else (0.0,)


def met(shapes: NDArray[np.object_], grid: Grid, *, snap_px: float = 0.0) -> NDArray[np.object_]:
    """Shapes in pixels of a grid, as PROJ places them, where the grid meets them: it may count on where longitudes begin anew.

    A shape that is cut in two there, as RFC 7946 wants it, comes together again; one that the grid meets twice is there twice.

    Args:
        shapes: (n,) shapely geometries, columns before rows.
        snap_px: a turn is rounded to a multiple of this; 0 for none.

    Returns:
        (n,) the parts of each that touch the grid, whole; empty where there is none. All of them as they are on a grid that
        does not go beyond 180 degrees.
    """
    if not goes_beyond(grid) or not len(shapes):
        return shapes
    import shapely

    parts, owner = shapely.get_parts(shapes, return_index=True)
    steps = [turn / grid.transform[0] for turn in turns_of(grid)]
    if snap_px:
        steps = [round(step / snap_px) * snap_px for step in steps]
    moved = np.concatenate(
        [shapely.transform(parts, lambda points, step=step: points + np.array([step, 0.0])) for step in steps]
    )
    left, top, right, bottom = shapely.bounds(moved).reshape(-1, 4).T
    there = (left < grid.width) & (right > 0) & (top < grid.height) & (bottom > 0)
    found, owners = moved[there], np.tile(owner, len(steps))[there]
    several = np.bincount(owners, minlength=len(shapes)) > 1
    found = np.where(several[owners], shapely.make_valid(found), found)  # what crosses itself cannot be joined
    met_parts = [found[owners == number] for number in range(len(shapes))]
    return np.array([one[0] if len(one) == 1 else shapely.union_all(one) for one in met_parts], object)
