"""Where a grid lies on Earth, as RFC 7946 wants it: WGS 84 longitude and latitude, cut at the antimeridian.

Knows nothing of STAC or of pixels that hold no data: a footprint is the outline of the whole grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid

BBox = tuple[float, float, float, float]
"""(west, south, east, north) in degrees; west > east when it crosses the antimeridian."""

_POINTS_PER_EDGE = 64
_TOLERANCE_DEG = 1e-5  # 1 m, less for a small grid: straight edges keep only the points they need
_DECIMALS = 7  # 1 cm


def footprint(grid: Grid) -> tuple[dict[str, Any], BBox]:
    """GeoJSON geometry (Polygon, or MultiPolygon across the antimeridian) and bounding box of a grid.

    Edges are densified before they are transformed, for a straight edge in UTM is a curve in longitude and latitude.
    A grid around a pole becomes a polygon along all longitudes that closes over the pole.

    Raises:
        SceneError: if part of the outline has no longitude and latitude, as on a full-disc image.
    """
    from shapely import union_all
    from shapely.affinity import translate
    from shapely.geometry import MultiPolygon, Polygon, box, mapping
    from shapely.geometry.polygon import orient

    outline = Polygon(_around_pole(_outline(grid)))
    span = outline.bounds[2] - outline.bounds[0] + outline.bounds[3] - outline.bounds[1]
    outline = outline.simplify(min(_TOLERANCE_DEG, span * 1e-5))
    turns = 360.0 * math.floor((outline.bounds[0] + 180) / 360)
    pieces: list[Polygon] = []
    for turn in (turns, turns + 360):
        part = outline.intersection(box(turn - 180, -90, turn + 180, 90))
        for piece in getattr(part, "geoms", [part]):
            if isinstance(piece, Polygon):
                pieces.append(translate(piece, xoff=-turn))
    # Pieces touch only around a pole, where the cut is not along a meridian; united, they are valid there too.
    united = union_all(pieces, grid_size=10.0**-_DECIMALS)
    pieces = [
        orient(Polygon([(round(lon, _DECIMALS), round(lat, _DECIMALS)) for lon, lat in part.exterior.coords]))
        for part in getattr(united, "geoms", [united])
        if isinstance(part, Polygon) and part.area > 0
    ]
    if not pieces:
        raise SceneError(f"the grid {grid.transform} of {grid.width} x {grid.height} px has no area on Earth")
    pieces.sort(key=lambda piece: piece.bounds)
    geometry = pieces[0] if len(pieces) == 1 else MultiPolygon(pieces)
    return _lists(mapping(geometry)), union_bbox(_bbox(piece.bounds) for piece in pieces)


def share_covered(grid: Grid, other: Grid) -> float:
    """Share of the ground of `grid` that `other` covers too, 0 to 1.

    Raises:
        SceneError: if part of an outline has no longitude and latitude.
    """
    from shapely.geometry import shape

    if grid == other:
        return 1.0
    ground = shape(footprint(grid)[0])
    return float(ground.intersection(shape(footprint(other)[0])).area / ground.area)


def describe_extent(grid: Grid) -> str:
    """The bounding box of a grid for messages: `12.1 to 12.9 °E, 50.2 to 50.8 °N`."""
    west, south, east, north = footprint(grid)[1]
    return f"{west:.4g} to {east:.4g} °E, {south:.4g} to {north:.4g} °N"


def union_bbox(boxes: Iterable[BBox]) -> BBox:
    """The smallest box around all of them; it crosses the antimeridian only where one of them or a pair of them does.

    Raises:
        SceneError: if there are none.
    """
    given = sorted(boxes)
    if not given:
        raise SceneError("no bounding box to unite")
    south, north = min(one[1] for one in given), max(one[3] for one in given)
    touching = any(one[2] == 180 for one in given) and any(one[0] == -180 for one in given)
    if not touching and all(west <= east for west, _, east, _ in given):
        return min(one[0] for one in given), south, max(one[2] for one in given), north
    spans = sorted((west, east if west <= east else east + 360) for west, _, east, _ in given)
    reach, widest, start, end = max(east for _, east in spans) - 360, 0.0, -180.0, 180.0
    for west, east in spans:  # the box leaves out the widest gap around the globe
        if west - reach > widest:
            widest, start, end = west - reach, west, reach
        reach = max(reach, east)
    return _turned(start), south, _turned(end), north


def _turned(lon: float) -> float:
    """Into [-180, 180], and back to the seven decimals that adding a turn has blurred."""
    return round(lon - 360 * math.floor((lon + 180) / 360) if not -180 <= lon <= 180 else lon, _DECIMALS)


def _bbox(bounds: tuple[float, ...]) -> BBox:
    west, south, east, north = bounds
    return west, south, east, north


def _outline(grid: Grid) -> NDArray[np.float64]:
    """Closed ring of (longitude, latitude), longitudes unwrapped: neighbours are never a turn apart. (n, 2)"""
    from pyproj import CRS, Transformer

    steps = np.linspace(0, 1, _POINTS_PER_EDGE, endpoint=False)
    none, all_ = np.zeros_like(steps), np.ones_like(steps)
    col = np.concatenate([steps, all_, 1 - steps, none, [0.0]]) * grid.width
    row = np.concatenate([none, steps, all_, 1 - steps, [0.0]]) * grid.height
    a, _, c, _, e, f = grid.transform
    to_lonlat = Transformer.from_crs(CRS.from_user_input(grid.crs), "EPSG:4326", always_xy=True)
    lon, lat = (np.asarray(axis, np.float64) for axis in to_lonlat.transform(a * col + c, e * row + f))
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise SceneError(
            f"part of the grid's outline lies off the Earth in {grid.crs[:40]}; crop the scene, or give an AOI grid"
        )
    return np.column_stack([np.unwrap(lon, period=360), np.clip(lat, -90, 90)])


def _around_pole(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring whose longitudes make a whole turn encloses a pole: close it there."""
    if abs(ring[-1, 0] - ring[0, 0]) < 180:
        return ring
    pole = math.copysign(90, float(ring[:, 1].mean()))
    return np.vstack([ring, [ring[-1, 0], pole], [ring[0, 0], pole], ring[:1]])


def _lists(value: Any) -> Any:
    """Tuples to lists, so that a geometry equals itself after a round trip through JSON."""
    if isinstance(value, dict):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
