"""Where pixels lie on Earth: CRS, affine transform, shape. Knows nothing of bands or values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import Geod

from earthloom.tiling.errors import SceneError
from earthloom.tiling.ground import Ground, middle, to_wgs84
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window

MAX_SIZE_PX = 2**36
"""Pixels per band that a scene or a grid may have: 262 144 squared."""

_AUTHORITY = re.compile(r"^EPSG:\d{4,6}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A georeferenced pixel grid; `==` is exact, nearness is not its business.

    Args:
        crs: `EPSG:<code>` or WKT. Never anything that a library might look up elsewhere, such as a URL.
        transform: (a, b, c, d, e, f): x = a*col + b*row + c, y = d*col + e*row + f, at the pixel's upper-left corner.
        width, height: pixels.

    Raises:
        SceneError: if the CRS is neither form, or the transform is rotated or sheared.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int

    def __post_init__(self) -> None:
        if not (_AUTHORITY.match(self.crs) or self.crs.lstrip().upper().startswith(_WKT_STARTS)):
            raise SceneError(f"CRS must be EPSG:<code> or WKT, got {self.crs[:60]!r}")
        if self.transform[1] or self.transform[3]:
            raise SceneError(
                f"the transform {self.transform} is rotated or sheared, which Zarr's x and y coordinates cannot say; "
                "warp the scene to a north-up grid first (gdalwarp)"
            )
        if not (self.transform[0] and self.transform[4]):
            raise SceneError(f"the transform {self.transform} has pixels of no size")

    @property
    def affine(self) -> Affine:
        return Affine(*self.transform)

    @property
    def window(self) -> Window:
        """The whole grid, anchored at (0, 0)."""
        return Window(0, 0, self.width, self.height)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in CRS units, whichever way the rows run."""
        a, _, c, _, e, f = self.transform
        xs, ys = sorted((c, c + a * self.width)), sorted((f, f + e * self.height))
        return xs[0], ys[0], xs[1], ys[1]

    def reduce(self, factor: int) -> Grid:
        """The grid of an overview: pixels `factor` times larger, ceil sizes, same corner."""
        a, b, c, d, e, f = self.transform
        return Grid(crs=self.crs, transform=(a * factor, b, c, d, e * factor, f),
                    width=ceil_div(self.width, factor), height=ceil_div(self.height, factor))  # fmt: skip

    def crop(self, window: Window) -> Grid:
        """The part of it that a window covers."""
        a, b, c, d, e, f = self.transform
        col, row = window.col_off, window.row_off
        corner = (a, b, c + a * col + b * row, d, e, f + d * col + e * row)
        return replace(self, transform=corner, width=window.width, height=window.height)

    def refine(self, factor: int) -> Grid:
        """The grid of the same ground with pixels `factor` times smaller."""
        a, b, c, d, e, f = self.transform
        return Grid(crs=self.crs, transform=(a / factor, b, c, d, e / factor, f),
                    width=self.width * factor, height=self.height * factor)  # fmt: skip

    def rescale(self, factor: float) -> Grid:
        """The grid of pixels `factor` times as wide and high, from the same corner, whose middle lies on this one."""
        a, b, c, d, e, f = self.transform
        width, height = (max(1, math.floor(side / factor + 0.5)) for side in (self.width, self.height))
        return Grid(crs=self.crs, transform=(a * factor, b, c, d, e * factor, f), width=width, height=height)

    def xs(self) -> NDArray[np.float64]:
        """Pixel-centre x of every column, in CRS units. (width,)"""
        return self.transform[2] + (np.arange(self.width, dtype=np.float64) + 0.5) * self.transform[0]

    def ys(self) -> NDArray[np.float64]:
        """Pixel-centre y of every row, in CRS units. (height,)"""
        return self.transform[5] + (np.arange(self.height, dtype=np.float64) + 0.5) * self.transform[4]

    def gsd_m(self) -> float:
        """Ground sampling distance at the grid's centre, in metres: the square root of the true pixel area there.

        Where the centre lies off the Earth, that amid the ground.
        """
        col, row = middle(self)
        pixel = Window(min(int(col), self.width - 1), min(int(row), self.height - 1), 1, 1)
        return float(np.sqrt(pixel_areas_m2(self, pixel)[0, 0]))


_WKT_STARTS = ("GEOGCRS", "GEOGCS", "PROJCRS", "PROJCS", "BOUNDCRS", "COMPD", "DERIVEDPROJCRS", "GEODCRS", "LOCAL_CS")
_LATTICE_PX = 64
"""Distance of the lattice's nodes; interpolation between them errs by < 1e-7 at 30 m, and by 4e-6 at 500 m."""
_LATTICE_M = 32_000.0
_LEAST_LATTICE_PX = 4  # pixels so large that it would be less are measured one by one
_PART_M = 60_000.0  # half of it is the largest part of a pixel whose area is that at its centre, to 1e-6
_MOST_PARTS = 16
_PART_STEP_PX = 1 / 256  # what is this near to the edge of the map counts as beyond it
_ROWS_AT_ONCE_PX = 2**16


def pixel_areas_m2(grid: Grid, window: Window) -> NDArray[np.float64]:
    """True area of each pixel of `window` on the CRS's own ellipsoid, in square metres. (rows, columns) float64

    Planar pixel areas are wrong by design in EPSG:4326 (degrees) and by sec^2(latitude) in EPSG:3857. The area per
    pixel is taken on a lattice anchored on the scene, so that the values do not depend on the window, and interpolated.
    Pixels of many kilometres are measured one by one, in parts, and so are those next to where the Earth ends on the
    map: what lies beyond a pole, or beyond the edge of a sinusoidal map, has no area.
    """
    ground = Ground(grid)
    lattice = _LATTICE_PX
    while lattice * ground.pixel_m > _LATTICE_M and lattice >= _LEAST_LATTICE_PX:
        lattice //= 2
    if lattice < _LEAST_LATTICE_PX:
        return _measured(ground, window)
    nodes = window.align(lattice)
    cols = np.arange(nodes.col_off, nodes.col_end + 1, lattice, dtype=np.float64)
    rows = np.arange(nodes.row_off, nodes.row_end + 1, lattice, dtype=np.float64)
    col, row = np.meshgrid(cols, rows)
    at_nodes = ground.density(col, row, step=lattice / 16)  # px; far above rounding, far below the lattice

    # of the pixels of any cell of the lattice; it is a power of two, so these fractions are exact
    fractions = (np.arange(lattice) + 0.5) / lattice
    low_row, in_cell = np.divmod(np.arange(window.row_off, window.row_end) - nodes.row_off, lattice)
    frac_row = fractions[in_cell][:, None]
    by_row = at_nodes[low_row] * (1 - frac_row) + at_nodes[low_row + 1] * frac_row
    in_cells = by_row[:, :-1, None] * (1 - fractions)  # (rows, cells, columns of a cell): faster than picking columns
    in_cells += by_row[:, 1:, None] * fractions
    off_px = window.col_off - nodes.col_off
    areas: NDArray[np.float64] = in_cells.reshape(window.height, -1)[:, off_px : off_px + window.width]
    off = np.isnan(at_nodes)
    for at_row, at_col in np.argwhere(off[:-1, :-1] | off[1:, :-1] | off[:-1, 1:] | off[1:, 1:]):
        cell = Window(int(cols[at_col]), int(rows[at_row]), lattice, lattice) & window
        if cell:
            areas[cell.slices(window)] = _measured(ground, cell)
    return areas


def _measured(ground: Ground, window: Window) -> NDArray[np.float64]:
    """The area of each pixel, as the sum of that of its parts with ground behind them. (rows, columns)"""
    parts = min(_MOST_PARTS, 2 * math.ceil(ground.pixel_m / _PART_M))  # even: a pixel around a pole is cut there
    offsets = (np.arange(parts) + 0.5) / parts
    # In longitude and latitude a row has one area.
    cols = np.zeros(1) if ground.is_geographic else np.arange(window.col_off, window.col_end, dtype=np.float64)
    areas = np.empty((window.height, window.width))
    n_rows = max(1, _ROWS_AT_ONCE_PX // cols.size)
    for start in range(0, window.height, n_rows):
        rows = np.arange(window.row_off + start, min(window.row_off + start + n_rows, window.row_end), dtype=np.float64)
        col, row = np.meshgrid(cols, rows)
        total = np.zeros(col.shape)
        for shift_row in offsets:
            for shift_col in offsets[:1] if ground.is_geographic else offsets:
                part = ground.density(col + shift_col, row + shift_row, step=_PART_STEP_PX)
                total += np.nan_to_num(part) / (parts if ground.is_geographic else parts**2)
        areas[start : start + rows.size] = total
    return areas


def pixel_size_m(grid: Grid) -> tuple[float, float]:
    """Width and height on the ground of the pixel at the grid's centre, along the ellipsoid, in metres."""
    a, _, c, _, e, f = grid.transform
    col, row = middle(grid)
    x, y = c + a * col, f + e * row
    lon, lat = to_wgs84(grid.crs).transform([x - a / 2, x + a / 2, x, x], [y, y, y - e / 2, y + e / 2])
    geod = Geod(ellps="WGS84")
    across, along = (geod.inv(lon[i], lat[i], lon[i + 1], lat[i + 1])[2] for i in (0, 2))
    return float(across), float(along)
