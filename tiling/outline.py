"""Which pixels of a grid lie inside an area that is given in longitude and latitude."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from earthloom.tiling.grid import Grid
from earthloom.tiling.turn import turns_of
from earthloom.tiling.window import Window

_POINTS_PER_EDGE = 64
_STEP_DEG = 0.25
"""Between points of an edge, at most: on a polar map the parallel of 60 degrees then strays 8 m from its chords."""


def inside(outline: str, grid: Grid, window: Window) -> NDArray[np.bool_]:
    """Where a pixel's centre lies in the area. (rows, columns)

    Args:
        outline: a GeoJSON Polygon or MultiPolygon (RFC 7946). Its edges are straight in longitude and latitude and curves
            on the grid, so they are densified.
        window: part of the grid.
    """
    from rasterio.features import geometry_mask

    to_grid = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    polygons = [
        {"type": "Polygon", "coordinates": [_on_grid(ring, to_grid, turn) for ring in rings]}
        for rings in _polygons(json.loads(outline))
        for turn in turns_of(grid)
    ]
    corner = grid.affine.translation(window.col_off, window.row_off)
    mask: NDArray[np.bool_] = geometry_mask(
        polygons, out_shape=window.shape, transform=grid.affine @ corner, all_touched=False, invert=True
    )
    return mask


def _polygons(geometry: dict[str, Any]) -> Iterator[Sequence[Any]]:
    """The rings of each polygon, the outer one first."""
    if geometry["type"] == "Polygon":
        yield geometry["coordinates"]
    else:
        yield from geometry["coordinates"]


def _on_grid(ring: Sequence[Sequence[float]], to_grid: Transformer, turn: float) -> list[tuple[float, float]]:
    dense = densified(np.array([point[:2] for point in ring], np.float64))
    x, y = to_grid.transform(dense[:, 0], dense[:, 1])
    closed = np.stack([x + turn, y], axis=1)
    return [*map(tuple, closed.tolist()), tuple(closed[0].tolist())]


def densified(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points along the edges of a ring (n, 2) of longitudes and latitudes, which are straight in these; without the last one,
    which is the first. A ring that its writer has not closed is closed. (m, 2)"""
    if (ring[0] != ring[-1]).any():
        ring = np.vstack([ring, ring[:1]])
    start, end = ring[:-1], ring[1:]
    steps = np.maximum(_POINTS_PER_EDGE, np.ceil(np.abs(end - start).max(axis=1) / _STEP_DEG).astype(int))
    edge = np.repeat(np.arange(len(steps)), steps)
    share = (np.arange(len(edge)) - np.repeat(np.cumsum(steps) - steps, steps)) / steps[edge]
    return np.asarray(start[edge] * (1 - share[:, None]) + end[edge] * share[:, None])
