"""The grid of an area of interest: bounds, CRS and GSD as a user writes them, and the pixels that follow from them.

A grid consists of whole shards whose corners lie at multiples of GSD x shard, counted from the origin of the CRS, so
that all areas of one CRS, GSD and shard share their pixels and their shards. Knows nothing of scenes; opens nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
from pyproj import CRS, Transformer

from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.footprint import footprint
from earthloom.tiling.geojson import densified, feature_of, outer_rings
from earthloom.tiling.grid import MAX_SIZE_PX, Grid, pixel_size_m

_FORM = "EPSG:<code>,<gsd>,<x0>,<y0>,<x1>,<y1>, for example EPSG:32633,10m,399960,5790240,509760,5900040"
_GSD = re.compile(r"^\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*(m|deg)?\s*$")
_CODE = re.compile(r"^EPSG:\d{4,6}$")
_ROUNDING_PX = Decimal("1e-6")  # an edge that a transformation moved by less than this still lies on its shard's edge
_BESIDE_DEG = 10  # scenes in a zone's CRS reach into the next one, and far where meridians are close
_LOOSE = 4  # times the area asked for, from which whole shards are worth a word
_UNLIKE = 0.02  # difference between GSD and ground from which it is worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Aoi:
    """An area of interest and how finely it is looked at.

    Args:
        crs: `EPSG:<code>` of a projected or geographic CRS.
        gsd: side of a pixel in units of the CRS (metres, or degrees for a geographic CRS).
        bounds: (left, bottom, right, top) in units of the CRS, x before y whatever axis order the CRS declares.

    Raises:
        ConfigError: if they are no area, do not fit each other, or lie where the CRS is not used.
    """

    crs: str
    gsd: float
    bounds: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        crs, (left, bottom, right, top) = _crs(self.crs), self.bounds
        if not (math.isfinite(self.gsd) and self.gsd > 0):
            raise ConfigError(f"a GSD of {self.gsd:g} gives no pixels; give the side of a pixel, as in 10m")
        if not all(map(math.isfinite, self.bounds)) or left >= right or bottom >= top:
            raise ConfigError(
                f"the bounds {_shown(self.bounds)} have no area: give the lower left and then the upper right corner, "
                "x before y"
            )
        if right - left < self.gsd or top - bottom < self.gsd:
            raise ConfigError(
                f"the bounds {_shown(self.bounds)} are {right - left:g} x {top - bottom:g} {_unit(crs)}, smaller than one "
                f"pixel of {self.gsd:g}; bounds are in the units of {self.crs}, x before y"
            )
        if crs.is_geographic and (bottom < -90 or top > 90):
            raise ConfigError(
                f"the bounds {_shown(self.bounds)} reach beyond a pole; in {self.crs} x is the longitude and y the latitude"
            )

    def grid(self, shard_px: int) -> Grid:
        """The whole shards that the bounds touch, north up.

        Args:
            shard_px: side of a shard, in pixels.

        Raises:
            ConfigError: if that is more than a scene may have, or reaches beyond a pole.
        """
        step = Decimal(repr(self.gsd)) * shard_px
        slack = Decimal(repr(self.gsd)) * _ROUNDING_PX

        def first(low: float) -> int:
            return int(((Decimal(repr(low)) + slack) / step).to_integral_value(ROUND_FLOOR))

        def end(high: float) -> int:
            return int(((Decimal(repr(high)) - slack) / step).to_integral_value(ROUND_CEILING))

        left, bottom, right, top = self.bounds
        (col, row), (col_end, row_end) = (first(left), end(top)), (end(right), first(bottom))
        width, height = (col_end - col) * shard_px, (row - row_end) * shard_px
        if width * height > MAX_SIZE_PX:
            raise ConfigError(
                f"the bounds {_shown(self.bounds)} at {self.gsd:g} {_unit(_crs(self.crs))} are {width} x {height} px, more "
                f"than the {MAX_SIZE_PX} px that a scene may have; give a coarser GSD, or several areas"
            )
        made = Grid(
            crs=self.crs, transform=(self.gsd, 0.0, float(col * step), 0.0, -self.gsd, float(row * step)), width=width,
            height=height,
        )  # fmt: skip
        _check_place(self, made)
        return made

    def notes(self, shard_px: int) -> tuple[str, ...]:
        """What a user should know of the grid: pixels of another size on the ground, and many more than asked for."""
        grid, notes = self.grid(shard_px), []
        across_m, along_m = pixel_size_m(grid)
        crs = _crs(self.crs)
        if crs.is_geographic or max(abs(across_m / self.gsd - 1), abs(along_m / self.gsd - 1)) > _UNLIKE:
            notes.append(
                f"pixels of {self.gsd:g} {_unit(crs)} in {self.crs} are {across_m:.3g} m wide and {along_m:.3g} m high on "
                "the ground at the grid's centre"
            )
        left, bottom, right, top = self.bounds
        asked_px = (right - left) / self.gsd * (top - bottom) / self.gsd
        if grid.window.size_px > _LOOSE * asked_px and shard_px > 512:
            notes.append(
                f"the grid is {grid.width} x {grid.height} px, {grid.window.size_px / asked_px:.3g} times the area asked "
                f"for, because it consists of whole shards of {shard_px} px; `shard=512` keeps it closer"
            )
        return tuple(notes)


def parse_aoi(text: str) -> Aoi:
    """An area as an option says it: `EPSG:32633,10m,x0,y0,x1,y1`.

    The GSD is `10m` in a CRS of metres, `0.0001deg` in one of degrees, or a bare number in the CRS's own unit.

    Raises:
        ConfigError: if it has another form or is no area.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 6:
        raise ConfigError(f"{text[:120]!r} has {len(parts)} parts, not the 6 of {_FORM}; or name a GeoJSON file")
    numbers = [_float(part, text) for part in parts[2:]]
    left, bottom, right, top = numbers
    return Aoi(crs=parts[0], gsd=_gsd(parts[1], _crs(parts[0])), bounds=(left, bottom, right, top))


def aoi_of_geojson(data: bytes, name: str, *, crs: str | None = None, gsd: str | float | None = None) -> Aoi:
    """The area of a GeoJSON file: a Feature, or a FeatureCollection of one, whose properties hold `crs` and `gsd`.

    The geometry is in longitude and latitude (RFC 7946); its edges are straight there and curves in the CRS, so they
    are densified before they are transformed.

    Args:
        data: the file.
        name: name of the file, for messages.
        crs, gsd: in place of the properties.

    Raises:
        ConfigError: if it is no such file, naming what is missing.
    """
    feature = feature_of(data, name)
    properties = feature.get("properties")
    given = {**(properties if isinstance(properties, Mapping) else {})}
    given |= {key: value for key, value in (("crs", crs), ("gsd", gsd)) if value is not None}
    if missing := [key for key in ("crs", "gsd") if given.get(key) in (None, "")]:
        raise ConfigError(
            f"{name}: its feature has no property {' and no '.join(missing)}; an area needs both, as in "
            '"properties": {"crs": "EPSG:32633", "gsd": 10}'
        )
    code = str(given["crs"])
    made = _crs(code)
    try:
        return Aoi(crs=code, gsd=_gsd(str(given["gsd"]), made), bounds=_bounds(feature, made, code))
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def outline_of_bbox(bbox: Sequence[float]) -> dict[str, Any]:
    """(west, south, east, north) in degrees as a GeoJSON geometry; one whose west is east of its east crosses the
    antimeridian.

    Raises:
        ConfigError: if it has no area or leaves the Earth.
    """
    west, south, east, north = bbox
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90) or west == east:
        raise ConfigError(
            f"the bbox {_shown(bbox)} is not (west, south, east, north) in degrees of longitude and latitude"
        )

    def ring(left: float, right: float) -> list[list[list[float]]]:
        return [[[left, south], [right, south], [right, north], [left, north], [left, south]]]

    if west < east:
        return {"type": "Polygon", "coordinates": ring(west, east)}
    return {"type": "MultiPolygon", "coordinates": [ring(west, 180.0), ring(-180.0, east)]}


def suggest_aoi(grid: Grid) -> str:
    """The text by which a user asks for a grid's ground and pixel size; empty where its CRS has no code."""
    if not _CODE.match(grid.crs):
        return ""
    gsd = min(abs(grid.transform[0]), abs(grid.transform[4]))
    return ",".join([grid.crs, _exact(gsd), *map(_exact, grid.bounds)])


def _crs(text: str) -> CRS:
    if not _CODE.match(text):
        raise ConfigError(f"the CRS of an area is given as EPSG:<code>, got {text[:60]!r}; the form is {_FORM}")
    try:
        crs = CRS.from_user_input(text)
    except Exception:
        raise ConfigError(f"{text} is no CRS that is known here; check the code at epsg.io") from None
    if not (crs.is_projected or crs.is_geographic):
        raise ConfigError(f"{text} ({crs.name}) is neither projected nor geographic; give the code of a map projection")
    return crs


def _unit(crs: CRS) -> str:
    return {"metre": "m", "degree": "degrees"}.get(crs.axis_info[0].unit_name, crs.axis_info[0].unit_name)


def _gsd(text: str, crs: CRS) -> float:
    match = _GSD.match(text)
    if not match:
        raise ConfigError(f"the GSD {text[:40]!r} is not a length such as 10m, or 0.0001deg for a geographic CRS")
    value, unit = _float(match[1], text), crs.axis_info[0].unit_name
    if match[2] and {"m": "metre", "deg": "degree"}[match[2]] != unit:
        raise ConfigError(
            f"the GSD {text.strip()} is not in the unit of {crs.name}, which is the {unit}; give it in that unit as a bare "
            f"number{f', here about {value / 111_320:.2g}' if (match[2], unit) == ('m', 'degree') else ''}, or another CRS"
        )
    return value


def _float(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text[:40]!r} in {whole[:120]!r} is not a number; the form is {_FORM}") from None


def _bounds(feature: Mapping[str, Any], crs: CRS, code: str) -> tuple[float, float, float, float]:
    """Bounds in `crs` of a polygon in longitude and latitude."""
    geometry = feature.get("geometry")
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if not isinstance(geometry, Mapping) or kind not in ("Polygon", "MultiPolygon"):
        raise ConfigError(f"its geometry is {str(kind)[:40]!r}; an area is a Polygon or a MultiPolygon")
    rings = list(outer_rings(geometry.get("coordinates"), kind))
    if not rings:
        raise ConfigError("its polygon has no coordinates, as pairs of longitude and latitude in closed rings")
    corners = np.concatenate(rings)
    (west, south), (east, north) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise ConfigError(
            f"its polygon covers {_shown((west, south, east, north))}, which are no longitudes and latitudes; GeoJSON is "
            "always in those (RFC 7946), only the property crs names the grid's CRS"
        )
    if crs.is_geographic and west == -180 and east == 180 and len(rings) > 1:
        raise ConfigError(
            f"its polygon is cut at the antimeridian, across which {code} has no grid; give a UTM zone's CRS"
        )
    points = np.concatenate([densified(ring) for ring in rings])  # now that they are known to be degrees
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(points[:, 0], points[:, 1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ConfigError(
            f"its polygon, {_shown((west, south, east, north))}, lies partly outside of {code}; {_use(crs)}"
        )
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def _check_place(aoi: Aoi, grid: Grid) -> None:
    """A grid lies on Earth, and where its CRS is meant for."""
    crs = _crs(aoi.crs)
    if crs.is_geographic and (grid.bounds[1] < -90 or grid.bounds[3] > 90):
        raise ConfigError(
            f"the whole shards around {_shown(aoi.bounds)} cover {_shown(grid.bounds)} and reach beyond a pole; "
            "a smaller `shard` may stay on this side of it"
        )
    try:
        west, south, east, north = footprint(grid)[1]
    except SceneError:
        raise ConfigError(f"the bounds {_shown(aoi.bounds)} lie outside of {aoi.crs}; {_use(crs)}") from None
    use = crs.area_of_use
    if use is None:
        return
    apart = south > use.north + _BESIDE_DEG or north < use.south - _BESIDE_DEG
    if west <= east and use.west <= use.east:
        apart = apart or west > use.east + _BESIDE_DEG or east < use.west - _BESIDE_DEG
    if apart:
        raise ConfigError(
            f"the bounds {_shown(aoi.bounds)} in {aoi.crs} lie at {_shown((west, south, east, north))} in degrees of "
            f"longitude and latitude, but {_use(crs)}; check CRS and bounds, x before y"
        )


def _use(crs: CRS) -> str:
    use = crs.area_of_use
    return f"it is used for {_shown((use.west, use.south, use.east, use.north))} in degrees" if use else "check the CRS"


def _shown(bounds: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.8g}" for value in bounds) + ")"


def _exact(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)
