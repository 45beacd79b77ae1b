"""Which ground the pixels of a grid lie on: longitude and latitude, and where a map has no Earth behind it.

Knows nothing of files or of what a grid is used for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

if TYPE_CHECKING:
    from earthloom.tiling.grid import Grid

Floats = NDArray[np.float64]

_POLE_DEG = 90 + 1e-9  # rounding of the corner of a grid that ends at a pole
_BACK_M = 0.5  # by how much a point and its way back may differ (6 cm in Madagascar); it is far more off the map
_KEPT = 128  # CRSs, of which there are 120 in UTM; a transformer takes a millisecond to make
_SAMPLES = 65  # per side; with their pixels' edges, for the smallest tile of a map's edge still has ground in them


class Ground:
    """Longitudes and latitudes of a grid, on the datum of its own CRS.

    A point has ground behind it if its projection leads to a longitude and latitude and from there back to it. Beyond
    the edge of a sinusoidal or Mollweide map the inverse formulas go on and lead to ground that another place of the
    map shows already. Geographic and cylindrical maps are another case: they may start at any meridian (0 to 360
    degrees, say), so they go on beyond 180 degrees.
    """

    def __init__(self, grid: Grid) -> None:
        self._transform = grid.transform
        self._map = _map_of(grid.crs)
        self.is_geographic = self._map.is_geographic
        side = math.sqrt(abs(grid.transform[0] * grid.transform[4]))
        self.pixel_m = side * self._map.unit_m * (self._map.semi_major_m if self.is_geographic else 1)
        """Side of a pixel in metres, as the map has it and not the ground."""

    def lonlat(self, col: Floats, row: Floats) -> tuple[Floats, Floats]:
        """Radians at positions in pixels, 0 at the outer edge of the first; NaN where there is no ground. Any shape."""
        a, _, c, _, e, f = self._transform
        x, y = np.asarray(a * col + c, np.float64), np.asarray(e * row + f, np.float64)
        to_lonlat, radians = self._map.to_lonlat, self._map.radians
        if to_lonlat is None:
            lon, lat = x * radians, y * radians
            there = np.abs(lat) <= np.deg2rad(_POLE_DEG)
        else:
            lon, lat = (np.asarray(axis, np.float64) for axis in to_lonlat.transform(x, y))
            there = np.isfinite(lon) & np.isfinite(lat)
            if not self._map.goes_on:
                back_x, back_y = to_lonlat.transform(lon, lat, direction="INVERSE")
                with np.errstate(invalid="ignore"):  # infinite where PROJ finds no place
                    there &= np.hypot(back_x - x, back_y - y) * self._map.unit_m <= _BACK_M
            lon, lat = lon * radians, lat * radians
            with np.errstate(invalid="ignore"):
                there &= np.abs(lat) <= np.deg2rad(_POLE_DEG)
        return np.where(there, lon, np.nan), np.where(there, lat, np.nan)

    def covers(self, col: Floats, row: Floats) -> NDArray[np.bool_]:
        """Whether there is ground at positions in pixels. Any shape."""
        return np.isfinite(self.lonlat(col, row)[0])

    def density(self, col: Floats, row: Floats, step: float) -> Floats:
        """Square metres of ellipsoid per pixel at positions in pixels, NaN where there is no ground. Any shape.

        It is the area that the two tangents along a column and a row span in space, by central differences over `step`
        pixels. In space nothing is special at a pole or at the antimeridian, as it is in longitudes and latitudes.
        """
        along_col = self._in_space(col + step, row) - self._in_space(col - step, row)
        along_row = self._in_space(col, row + step) - self._in_space(col, row - step)
        return np.asarray(np.linalg.norm(np.cross(along_col, along_row, axis=0), axis=0)) / (2 * step) ** 2

    def _in_space(self, col: Floats, row: Floats) -> Floats:
        """Geocentric x, y, z in metres. (3, ...)"""
        lon, lat = self.lonlat(col, row)
        normal = self._map.semi_major_m / np.sqrt(1 - self._map.e2 * np.sin(lat) ** 2)
        flat = normal * np.cos(lat)
        return np.stack([flat * np.cos(lon), flat * np.sin(lon), normal * (1 - self._map.e2) * np.sin(lat)])


def sample_positions(grid: Grid) -> tuple[Floats, Floats]:
    """(columns, rows) in pixels of a regular sample of a grid from edge to edge. Each (65, 65)"""
    col, row = np.meshgrid(np.linspace(0, grid.width, _SAMPLES), np.linspace(0, grid.height, _SAMPLES))
    return np.asarray(col), np.asarray(row)


def middle(grid: Grid) -> tuple[float, float]:
    """(column, row) in pixels of the grid's centre; where that lies off the Earth, of a point amid its ground."""
    ground, col, row = Ground(grid), grid.width / 2, grid.height / 2
    if ground.covers(np.array([col]), np.array([row])).all():
        return col, row
    cols, rows = (np.ravel(axis) for axis in sample_positions(grid))
    there = ground.covers(cols, rows)
    if not there.any():
        return col, row
    cols, rows = cols[there], rows[there]
    nearest = int(np.argmin(np.hypot(cols - cols.mean(), rows - rows.mean())))
    return float(cols[nearest]), float(rows[nearest])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Map:
    """What `Ground` knows of a CRS, the same for every grid in it."""

    to_lonlat: Transformer | None
    """Transforms to longitude and latitude on its own datum, in units of `radians`; None for a CRS that is in those."""
    is_geographic: bool
    goes_on: bool
    radians: float
    """Radians of one unit of longitude, which mostly is a degree; France has grads."""
    semi_major_m: float
    e2: float
    unit_m: float
    """Metres of one unit of the CRS; of a geographic one radians."""


@lru_cache(maxsize=_KEPT)
def _map_of(crs: str) -> _Map:
    found = CRS.from_user_input(crs)
    geodetic, ellipsoid = found.geodetic_crs, found.ellipsoid
    assert geodetic is not None, "a CRS of Earth has a geodetic base"
    assert ellipsoid is not None, "a CRS with a geodetic base has an ellipsoid"
    return _Map(
        to_lonlat=None if found.is_geographic else Transformer.from_crs(found, geodetic, always_xy=True),
        is_geographic=found.is_geographic, goes_on=found.is_geographic or _is_cylindrical(found),
        radians=geodetic.axis_info[0].unit_conversion_factor, semi_major_m=ellipsoid.semi_major_metre,
        e2=1 - (ellipsoid.semi_minor_metre / ellipsoid.semi_major_metre) ** 2,
        unit_m=found.axis_info[0].unit_conversion_factor,
    )  # fmt: skip


@lru_cache(maxsize=_KEPT)
def to_wgs84(crs: str) -> Transformer:
    """A transformer from a CRS to longitude and latitude in degrees on WGS84; may be used by several threads."""
    return Transformer.from_crs(CRS.from_user_input(crs), "EPSG:4326", always_xy=True)


def horizontal(crs: CRS) -> CRS:
    """The part of a CRS that says where, without heights and without a way to another datum."""
    if crs.is_compound:
        return horizontal(crs.sub_crs_list[0])
    return horizontal(crs.source_crs) if crs.is_bound and crs.source_crs else crs


def _is_cylindrical(crs: CRS) -> bool:
    """Whether the map's edges are meridians and straight lines, so that it can be continued beyond them."""
    operation = horizontal(crs).coordinate_operation
    method = operation.method_name if operation else ""
    upright = not any(word in method for word in ("Transverse", "Oblique", "Hotine"))
    return upright and any(word in method for word in ("Mercator", "Cylindrical", "Carree", "Gall"))
