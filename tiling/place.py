"""Whether a grid lies on Earth, and where its CRS is meant for: a wrong CRS or geotransform is found before a run.

Knows nothing of files, except the name of what is checked, for messages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.ground import Ground, horizontal, sample_positions, to_wgs84

_EARTH_M = 6378137.0
_EARTH_SHARE = 0.005  # PROJ's own tolerance for two ellipsoids of one body
_BODIES = {"the Moon": 1737400.0, "Mars": 3396190.0, "Mercury": 2439400.0, "Venus": 6051800.0}
_BESIDE_DEG = 10.0
"""Degrees along the ground, 1100 km, that a whole scene may lie beside the area of use of its CRS.

Tiles reach 1 degree past a UTM zone (Sentinel-2), and countries are kept in one zone's CRS: Norway in zone 33 lies up to
4.4 degrees beside it, Italy in zone 32 up to 4.9."""
_TURNS_DEG = 540.0  # 0 to 360 and -180 to 180 are in use, and scenes that go on from there


def check_place(name: str, grid: Grid) -> None:
    """Check that a grid lies on Earth, and some of it within the area of use of its CRS or not far beside it.

    Args:
        name: name of the file, for messages.
        grid: where the file says that it lies.

    Raises:
        SceneError: naming what it says and what would be possible.
    """
    try:
        crs = CRS.from_user_input(grid.crs)
    except CRSError as error:
        raise SceneError(
            f"{name} has a CRS that PROJ does not understand ({str(error)[:100]}); {_set_crs(name)}"
        ) from None
    _check_body(name, crs)
    if crs.is_geographic:
        _check_degrees(name, crs, grid)
    cols, rows = (np.ravel(axis) for axis in sample_positions(grid))
    try:
        there = Ground(grid).covers(cols, rows)
    except ProjError as error:  # a few old CRSs with axes to the west, say
        raise SceneError(
            f"{name} has the CRS {_called(crs)}, from which PROJ knows no way to longitude and latitude "
            f"({str(error)[:100]}); {_set_crs(name)}"
        ) from None
    if not there.any():
        raise SceneError(
            f"{name} covers {_shown(grid)} in {_called(crs)}, which is nowhere on Earth: its CRS or its geotransform is "
            f"wrong; {_set_crs(name)}, or the place: {_set_place(name)}"
        )
    a, _, c, _, e, f = grid.transform
    lon, lat = to_wgs84(grid.crs).transform(a * cols[there] + c, e * rows[there] + f)
    use = horizontal(crs).area_of_use
    if use and (apart := float(_degrees_beside(use.bounds, np.asarray(lon), np.asarray(lat)).min())) > _BESIDE_DEG:
        raise SceneError(
            f"{name} covers {_shown(grid)} in {_called(crs)}, which is around {_point(lon[0], lat[0])}, but that CRS is "
            f"used from {_point(use.west, use.south)} to {_point(use.east, use.north)}, {apart:.0f} degrees away "
            f"(at most {_BESIDE_DEG:.0f}); if the CRS is wrong, {_set_crs(name)}; if it is right, warp the scene to a "
            "CRS of its place: gdalwarp -t_srs EPSG:<code> in.tif out.tif"
        )


def is_disc_in_space(grid: Grid) -> bool:
    """Whether a grid is that of a geostationary image with space in it."""
    operation = horizontal(CRS.from_user_input(grid.crs)).coordinate_operation
    if operation is None or "Geostationary" not in operation.method_name:
        return False
    return not bool(Ground(grid).covers(*sample_positions(grid)).all())


def _check_body(name: str, crs: CRS) -> None:
    ellipsoid = crs.ellipsoid
    if crs.geodetic_crs is None or ellipsoid is None or not (crs.is_projected or crs.is_geographic):
        raise SceneError(
            f"{name} has a CRS of kind {crs.type_name}, which is not tied to Earth's surface; {_set_crs(name)}"
        )
    radius = ellipsoid.semi_major_metre
    if abs(radius / _EARTH_M - 1) > _EARTH_SHARE:
        body = next((f", {body}," for body, size in _BODIES.items() if abs(radius / size - 1) < _EARTH_SHARE), "")
        raise SceneError(
            f"{name} is no scene of Earth: its CRS {_called(crs)} lies on a body{body} of {radius / 1000:.5g} km radius, and "
            f"Earth has {_EARTH_M / 1000:.5g} km; leave it out, or, if only the CRS is wrong, {_set_crs(name)}"
        )


def _check_degrees(name: str, crs: CRS, grid: Grid) -> None:
    degrees = float(np.rad2deg(crs.axis_info[0].unit_conversion_factor))
    left, bottom, right, top = (side * degrees for side in grid.bounds)
    width, height = (abs(grid.transform[i]) * degrees for i in (0, 4))
    beside = 90 + height / 2 * (1 + 1e-6)  # grids of nodes have the pole amid their last row
    if bottom < -beside or top > beside:
        what, limit, low, high = "latitudes", "-90 to 90", bottom, top
    elif left < -_TURNS_DEG or right > _TURNS_DEG or right - left > 360 + width * (1 + 1e-6):
        what, limit, low, high = "longitudes", "one turn of 360", left, right
    else:
        return
    raise SceneError(
        f"{name} says {_called(crs)} and covers {what} from {low:.8g} to {high:.8g} degrees, where only {limit} are "
        f"possible; if these are metres of a projected CRS, {_set_crs(name)}; if x and y are swapped, or the "
        f"place is wrong: {_set_place(name)}"
    )


def _degrees_beside(
    use: tuple[float, float, float, float], lon: NDArray[np.float64], lat: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far points lie beside an area of use, in degrees along the ground, per axis the larger. (n,)

    An area that ends at the equator goes on beyond it, for a zone's projection is the same on both sides: Landsat's
    scenes of the southern hemisphere come in the northern zone's CRS, with negative northings.
    """
    west, lower, east, upper = use
    south, north = -upper if lower == 0 else lower, -lower if upper == 0 else upper
    beside_lat = np.maximum(0, np.maximum(south - lat, lat - north))
    width = (east - west) % 360 or 360.0
    from_west = (lon - west) % 360
    beside_lon = np.where(from_west <= width, 0, np.minimum(from_west - width, 360 - from_west))
    half = np.cos(np.deg2rad(lat)) * np.sin(np.deg2rad(beside_lon / 2))  # of the great circle, short beside a pole
    return np.asarray(np.maximum(beside_lat, 2 * np.rad2deg(np.arcsin(half))))


def _set_crs(name: str) -> str:
    return f"set the real one: gdal_edit.py -a_srs EPSG:<code> {name}"


def _set_place(name: str) -> str:
    return f"gdal_edit.py -a_ullr <left> <top> <right> <bottom> {name}"


def _called(crs: CRS) -> str:
    """`EPSG:32633`, or the name of a CRS without a code."""
    return crs.to_string() if crs.to_authority() and len(crs.to_string()) < 20 else repr(crs.name[:60])


def _shown(grid: Grid) -> str:
    left, bottom, right, top = grid.bounds
    return f"x {left:.8g} to {right:.8g}, y {bottom:.8g} to {top:.8g}"


def _point(lon: float, lat: float) -> str:
    return f"({lon:.4g} °E, {lat:.4g} °N)"
