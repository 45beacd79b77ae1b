"""Where pixels lie on Earth: CRS, affine transform, shape. Knows nothing of bands or values."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.errors import SceneError
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
                    width=-(-self.width // factor), height=-(-self.height // factor))  # fmt: skip

    def refine(self, factor: int) -> Grid:
        """The same ground in pixels `factor` times smaller."""
        a, b, c, d, e, f = self.transform
        return Grid(crs=self.crs, transform=(a / factor, b, c, d, e / factor, f),
                    width=self.width * factor, height=self.height * factor)  # fmt: skip

    def xs(self) -> NDArray[np.float64]:
        """Pixel-centre x of every column, in CRS units. (width,)"""
        return self.transform[2] + (np.arange(self.width, dtype=np.float64) + 0.5) * self.transform[0]

    def ys(self) -> NDArray[np.float64]:
        """Pixel-centre y of every row, in CRS units. (height,)"""
        return self.transform[5] + (np.arange(self.height, dtype=np.float64) + 0.5) * self.transform[4]

    def gsd_m(self) -> float:
        """Ground sampling distance at the grid's centre, in metres: the square root of the true pixel area there."""
        centre = Window(self.width // 2, self.height // 2, 1, 1)
        return float(np.sqrt(pixel_areas_m2(self, centre)[0, 0]))


_WKT_STARTS = ("GEOGCRS", "GEOGCS", "PROJCRS", "PROJCS", "BOUNDCRS", "COMPD", "DERIVEDPROJCRS", "GEODCRS", "LOCAL_CS")
_LATTICE_PX = 64  # bilinear interpolation of the area between lattice nodes errs by < 1e-7 at 30 m


def pixel_areas_m2(grid: Grid, window: Window) -> NDArray[np.float64]:
    """True area of each pixel of `window` on the CRS's own ellipsoid, in square metres. (rows, columns) float64

    Planar pixel areas are wrong by design in EPSG:4326 (degrees) and by sec^2(latitude) in EPSG:3857. The area element
    of an ellipsoid is M(lat) N(lat) cos(lat) dlon dlat, with the meridional and transverse radii of curvature
    (Snyder, Map Projections, USGS PP 1395, eq. 4-18 and 4-19); the Jacobian from pixels to longitude and latitude is
    taken by central differences on a lattice anchored on the scene, so that the values do not depend on the window.
    """
    nodes = window.align(_LATTICE_PX)
    cols = np.arange(nodes.col_off, nodes.col_end + 1, _LATTICE_PX, dtype=np.float64)
    rows = np.arange(nodes.row_off, nodes.row_end + 1, _LATTICE_PX, dtype=np.float64)
    crs = CRS.from_user_input(grid.crs)
    geodetic = crs.geodetic_crs
    assert geodetic is not None, "a CRS of Earth has a geodetic base"
    to_lonlat = Transformer.from_crs(crs, geodetic, always_xy=True) if not crs.is_geographic else None
    axis = geodetic.axis_info[0]
    radians = np.pi / 180 if axis.unit_name == "degree" else axis.unit_conversion_factor  # France has grads
    step = 4.0  # px; far above rounding, far below the lattice

    def lonlat(col_shift: float, row_shift: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        col, row = np.meshgrid(cols + col_shift, rows + row_shift)
        a, b, c, d, e, f = grid.transform
        x, y = a * col + b * row + c, d * col + e * row + f
        lon, lat = to_lonlat.transform(x, y) if to_lonlat else (x, y)
        return np.asarray(lon) * radians, np.asarray(lat) * radians

    (lon_w, lat_w), (lon_e, lat_e) = lonlat(-step, 0), lonlat(step, 0)
    (lon_n, lat_n), (lon_s, lat_s) = lonlat(0, -step), lonlat(0, step)
    wrap = 2 * np.pi  # neighbours across the antimeridian are close, not a turn apart
    dlon_dcol, dlon_drow = (np.remainder(d + np.pi, wrap) - np.pi for d in (lon_e - lon_w, lon_s - lon_n))
    jacobian = np.abs(dlon_dcol * (lat_s - lat_n) - dlon_drow * (lat_e - lat_w)) / (2 * step) ** 2
    ellipsoid = crs.ellipsoid
    assert ellipsoid is not None, "a CRS with a geodetic base has an ellipsoid"
    semi_major, e2 = ellipsoid.semi_major_metre, 1 - (ellipsoid.semi_minor_metre / ellipsoid.semi_major_metre) ** 2
    lat = lonlat(0, 0)[1]
    curvature = semi_major**2 * (1 - e2) / (1 - e2 * np.sin(lat) ** 2) ** 2  # M * N
    at_nodes = jacobian * curvature * np.cos(lat)

    def weights(start: int, count: int, origin: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        position = (np.arange(start, start + count) + 0.5 - origin) / _LATTICE_PX
        low = np.floor(position).astype(np.intp)
        return low, position - low

    low_row, frac_row = weights(window.row_off, window.height, rows[0])
    low_col, frac_col = weights(window.col_off, window.width, cols[0])
    by_row = at_nodes[low_row] * (1 - frac_row)[:, None] + at_nodes[low_row + 1] * frac_row[:, None]
    return np.asarray(by_row[:, low_col] * (1 - frac_col) + by_row[:, low_col + 1] * frac_col)


def pixel_size_m(grid: Grid) -> tuple[float, float]:
    """Width and height on the ground of the pixel at the grid's centre, along the ellipsoid, in metres."""
    from pyproj import CRS, Geod, Transformer

    crs = CRS.from_user_input(grid.crs)
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    a, _, c, _, e, f = grid.transform
    x, y = c + a * grid.width / 2, f + e * grid.height / 2
    lon, lat = to_lonlat.transform([x - a / 2, x + a / 2, x, x], [y, y, y - e / 2, y + e / 2])
    geod = Geod(ellps="WGS84")
    across, along = (geod.inv(lon[i], lat[i], lon[i + 1], lat[i + 1])[2] for i in (0, 2))
    return float(across), float(along)
