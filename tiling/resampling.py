"""How a band comes from its file's grid onto another one. A pure function of both grids; opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.grid import Grid
from earthloom.tiling.turn import goes_beyond, turn_of
from earthloom.tiling.window import Window

Resampling: TypeAlias = Literal["nearest", "bilinear", "average"]
"""Names that GDAL knows too."""

COARSER = 1.2
"""Pixels of the file per pixel of the grid and side, from which values are averaged and not interpolated."""

PIECE_PX = 512 * 128
"""GDAL warps a virtual file in pieces of this many pixels, each with all that it covers of the file, in all its bands."""

PIECE_BYTES = 192 * 2**20
"""Most bytes of the file under one piece: what a read may hold beside its result."""

_ALONG = 65  # points per edge
_LATTICE = 9  # points per side at which two grids are compared


def resampling(source: Grid, grid: Grid, *, categorical: bool) -> Resampling | None:
    """How a band on `source` is brought onto `grid`; None where it lies there already.

    Categories are never mixed: nearest. Values are interpolated between the four nearest pixels (bilinear), unless
    the grid is coarser: then each of its pixels is the mean of the pixels that it covers (average), because four
    neighbours alone would leave most of them out.
    """
    if source == grid:
        return None
    if categorical:
        return "nearest"
    return "average" if pixel_ratio(source, grid) > COARSER else "bilinear"


def pixel_ratio(source: Grid, grid: Grid) -> float:
    """How many pixels of `source` a pixel of `grid` is wide or high, whichever is more, amid what both cover."""
    forth, back = _between(grid, source), _between(source, grid)
    of_grid, of_source = _lattice(grid), _lattice(source)
    there, here = forth(of_grid), back(of_source)
    common = np.concatenate([of_grid[_inside(there, source)], here[_inside(here, grid)]])
    col, row = common.mean(axis=0) if len(common) else (grid.width / 2, grid.height / 2)
    cols, rows = forth(np.array([[col - 0.5, row], [col + 0.5, row], [col, row - 0.5], [col, row + 0.5]])).T
    across, along = np.hypot(cols[1] - cols[0], cols[3] - cols[2]), np.hypot(rows[1] - rows[0], rows[3] - rows[2])
    ratio = float(max(across, along))
    return ratio if np.isfinite(ratio) else 1.0


def reached(source: Grid, grid: Grid) -> Window:
    """The part of `grid` beyond which no pixel of `source` can come; a little larger, rather than too small: all of it where
    one of them goes on beyond 180 degrees and counts longitudes otherwise than the other."""
    if goes_beyond(grid) or (goes_beyond(source) and turn_of(grid.crs) is not None):
        return grid.window
    steps = np.linspace(0, 1, _ALONG)
    none, all_ = np.zeros_like(steps), np.ones_like(steps)
    cols, rows = np.concatenate([steps, steps, none, all_]), np.concatenate([none, all_, steps, steps])
    edge = np.column_stack([cols * source.width, rows * source.height])
    here = _between(source, grid)(np.concatenate([edge, _lattice(source)]))
    if not np.isfinite(here).all():
        return grid.window
    low, high = here.min(axis=0), here.max(axis=0)
    slack = 2 + 0.001 * (high - low)  # an edge is a curve between the points that were looked at
    (left, top), (right, bottom) = np.floor(low - slack), np.ceil(high + slack)
    clipped = [int(np.clip(value, -(2**40), 2**40)) for value in (left, top, right, bottom)]
    return Window(clipped[0], clipped[1], clipped[2] - clipped[0], clipped[3] - clipped[1]) & grid.window


def _lattice(grid: Grid) -> NDArray[np.float64]:
    """(n, 2) columns and rows of points spread over a grid."""
    share = (np.arange(_LATTICE) + 0.5) / _LATTICE
    cols, rows = np.meshgrid(share * grid.width, share * grid.height)
    return np.column_stack([cols.ravel(), rows.ravel()])


def _inside(points: NDArray[np.float64], grid: Grid) -> NDArray[np.bool_]:
    cols, rows = points.T
    return np.asarray((cols >= 0) & (cols <= grid.width) & (rows >= 0) & (rows <= grid.height))


def _between(grid: Grid, other: Grid) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A function from (n, 2) columns and rows of one grid to those of another; infinite where there are none."""
    transformer = Transformer.from_crs(CRS.from_user_input(grid.crs), CRS.from_user_input(other.crs), always_xy=True)

    def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
        a, _, c, _, e, f = grid.transform
        x, y = transformer.transform(a * points[:, 0] + c, e * points[:, 1] + f)
        a, _, c, _, e, f = other.transform
        return np.column_stack([(np.asarray(x) - c) / a, (np.asarray(y) - f) / e])

    return move
