"""How far it is once around the Earth in a CRS whose grids may go on beyond that: from 0 to 360 degrees, past 180."""

from __future__ import annotations

import math
from functools import lru_cache

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
