"""Which pixels of a grid lie inside an area, given in longitude and latitude or on the grid's own CRS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from earthloom.tiling.geojson import densified
from earthloom.tiling.grid import Grid
from earthloom.tiling.turn import turns_of
from earthloom.tiling.window import Window

Rings: TypeAlias = tuple[NDArray[np.float64], ...]
"""Rings of one polygon, (n, 2) x and y each, the outer one first; the last point, which is the first, is left out."""

_LEAST_CORNERS = 3


def inside(outline: str, grid: Grid, window: Window) -> NDArray[np.bool_]:
    """Where a pixel's centre lies in the area. (rows, columns)

    Args:
        outline: a GeoJSON Polygon or MultiPolygon (RFC 7946). Its edges are straight in longitude and latitude and curves
            on the grid, so they are densified.
        window: part of the grid.
    """
    return inside_rings(_rings_in(outline, grid.crs), grid, window, turns_of(grid))


def inside_rings(
    polygons: Sequence[Rings], grid: Grid, window: Window, turns: Sequence[float] = (0.0,)
) -> NDArray[np.bool_]:
    """Where a pixel's centre lies in polygons on the grid's CRS, whose edges are straight there. (rows, columns)

    Args:
        window: part of the grid.
        turns: what to add to x, so that all places on the grid are met (`tiling.turn.turns_of`).
    """
    from rasterio.features import geometry_mask

    bounds = grid.crop(window.grow(1)).bounds
    shapes = [
        {"type": "Polygon", "coordinates": [[*map(tuple, ring.tolist()), tuple(ring[0].tolist())] for ring in near]}
        for rings in polygons
        for turn in turns
        if (near := _near(rings, bounds, turn))
    ]
    if not shapes:
        return np.zeros(window.shape, np.bool_)
    corner = grid.affine.translation(window.col_off, window.row_off)
    mask: NDArray[np.bool_] = geometry_mask(
        shapes, out_shape=window.shape, transform=grid.affine @ corner, all_touched=False, invert=True
    )
    return mask


@lru_cache(maxsize=4)
def _rings_in(outline: str, crs: str) -> tuple[Rings, ...]:
    """Each polygon's rings in a CRS; kept, as an area is asked for window by window and may have 20,000 corners."""
    to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return tuple(
        tuple(np.column_stack(to_crs.transform(*densified(_points(ring)).T)) for ring in rings)
        for rings in _polygons(json.loads(outline))
    )


def _points(ring: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array([point[:2] for point in ring], np.float64)


def _polygons(geometry: dict[str, Any]) -> Iterator[Sequence[Any]]:
    """The rings of each polygon, the outer one first."""
    if geometry["type"] == "Polygon":
        yield geometry["coordinates"]
    else:
        yield from geometry["coordinates"]


def _near(rings: Rings, bounds: tuple[float, float, float, float], turn: float) -> list[NDArray[np.float64]]:
    """The rings of a polygon, moved by a turn, as far as they decide anything within bounds.

    Of corners in a row that lie beyond one side of the bounds, those between the first and the last are left out: the line
    between these two lies there as well, and a row of pixels crosses it as often, even or odd. No edge that meets the bounds
    is moved, so each pixel is decided as by the whole ring, to the bit.
    """
    left, bottom, right, top = bounds
    found = []
    for ring in rings:
        near = ring
        for axis, sign, limit in ((1, 1, top), (1, -1, bottom), (0, -1, left - turn), (0, 1, right - turn)):
            beyond = sign * near[:, axis] > sign * limit
            near = near[~(beyond & np.roll(beyond, 1) & np.roll(beyond, -1))]
        if len(near) >= _LEAST_CORNERS:
            found.append(near + np.array([turn, 0.0]))
    return found
