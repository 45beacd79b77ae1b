"""Where a grid lies on Earth, as RFC 7946 wants it: WGS 84 longitude and latitude, cut at the antimeridian.

Knows nothing of STAC or of pixels that hold no data: a footprint is the outline of the whole grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.ground import Ground, sample_positions, to_wgs84

BBox = tuple[float, float, float, float]
"""(west, south, east, north) in degrees; west > east when it crosses the antimeridian."""

_POINTS_PER_EDGE = 64
_TOLERANCE_DEG = 1e-5  # 1 m, less for a small grid: straight edges keep only the points they need
_DECIMALS = 7  # 1 cm
_TIP = 1e-5  # share of the grid's height that is left out at a tip, for a pole itself has no longitude
_KEPT = 4096  # grids; a footprint takes a millisecond, and 2000 scenes with 2000 others before them have 4000
_HALVINGS = 40  # from the distance of two samples to far less than a pixel


def footprint(grid: Grid) -> tuple[dict[str, Any], BBox]:
    """GeoJSON geometry (Polygon, or MultiPolygon across the antimeridian) and bounding box of a grid.

    Edges are densified before they are transformed, for a straight edge in UTM is a curve in longitude and latitude.
    A grid around a pole becomes a polygon along all longitudes that closes over the pole. Where the map ends within the
    grid, as in the corners of a sinusoidal tile or around the disc of a geostationary image, the outline is that of
    the ground; gaps inside a row, as between the lobes of an interrupted map, count as covered.

    Raises:
        SceneError: if no pixel has a longitude and latitude.
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
        SceneError: if one of them lies off the Earth.
    """
    if grid == other:
        return 1.0
    (ground, ours), (beside, theirs) = _shape(grid), _shape(other)
    if ours[0] >= theirs[2] or theirs[0] >= ours[2] or ours[1] >= theirs[3] or theirs[1] >= ours[3]:
        return 0.0
    return float(ground.intersection(beside).area / ground.area)


def box_of(grid: Grid) -> BBox:
    """(west, south, east, north) of a grid's footprint, from -180 to 180 where it is cut at the antimeridian.

    Raises:
        SceneError: if it lies off the Earth.
    """
    return _shape(grid)[1]


def most_covered(grid: Grid, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """No less than what `share_covered` says of each of many others (n,), by their boxes alone.

    Args:
        boxes: (n, 4), `box_of` each of the others.

    Raises:
        SceneError: if the grid lies off the Earth.
    """
    ground, (west, south, east, north) = _shape(grid)
    width = np.minimum(boxes[:, 2], east) - np.maximum(boxes[:, 0], west)
    height = np.minimum(boxes[:, 3], north) - np.maximum(boxes[:, 1], south)
    common = np.maximum(width, 0) * np.maximum(height, 0) * (1 + 1e-9)  # of what is rounded
    shares: NDArray[np.float64] = np.minimum(common / ground.area, 1.0)
    return shares


@lru_cache(maxsize=_KEPT)
def _shape(grid: Grid) -> tuple[Any, BBox]:
    """The footprint in shapely and its bounds (west, south, east, north), from -180 to 180 where it is cut at the
    antimeridian: of many scenes each is held against the same ones."""
    from shapely.geometry import shape

    ground = shape(footprint(grid)[0])
    return ground, ground.bounds


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
    steps = np.linspace(0, 1, _POINTS_PER_EDGE, endpoint=False)
    none, all_ = np.zeros_like(steps), np.ones_like(steps)
    col = np.concatenate([steps, all_, 1 - steps, none, [0.0]]) * grid.width
    row = np.concatenate([none, steps, all_, 1 - steps, [0.0]]) * grid.height
    ground = Ground(grid)
    if not ground.covers(col, row).all():
        col, row = _ground_within(grid, ground)
    a, _, c, _, e, f = grid.transform
    lon, lat = (np.asarray(axis, np.float64) for axis in to_wgs84(grid.crs).transform(a * col + c, e * row + f))
    return np.column_stack([np.unwrap(lon, period=360), np.clip(lat, -90, 90)])


def _ground_within(grid: Grid, ground: Ground) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Closed ring of (columns, rows) in pixels around the part of a grid that has ground behind it."""
    cols, rows = sample_positions(grid)
    there = ground.covers(cols, rows)
    used = np.flatnonzero(there.any(axis=1))
    if not used.size:
        raise SceneError(
            f"the grid {grid.transform} of {grid.width} x {grid.height} px lies off the Earth in {grid.crs[:40]}"
        )
    at, lines = cols[0], rows[:, 0]
    ends = []
    for line, beyond in ((used[0], used[0] - 1), (used[-1], used[-1] + 1)):
        col = at[there[line]]
        reach = _border(
            ground, col, np.full_like(col, lines[line]), col, np.full_like(col, lines[beyond % len(lines)])
        )[1]
        ends.append(lines[line] if not 0 <= beyond < len(lines) else reach.min() if beyond < line else reach.max())
    top, bottom = ends[0] + _TIP * grid.height, ends[1] - _TIP * grid.height
    lines = np.concatenate([[top], lines[(lines > top) & (lines < bottom)], [bottom]])
    cols, rows = np.meshgrid(at, lines)
    there = ground.covers(cols, rows)
    n, each = len(at), np.arange(len(lines))
    first, final = there.argmax(axis=1), n - 1 - there[:, ::-1].argmax(axis=1)
    left = _border(ground, at[first], lines, at[np.maximum(first - 1, 0)], lines)[0]
    right = _border(ground, at[final], lines, at[np.minimum(final + 1, n - 1)], lines)[0]
    upper, lower = (np.linspace(left[i], right[i], _POINTS_PER_EDGE) for i in (0, -1))
    col = np.concatenate([upper, right[1:], lower[-2::-1], left[-2::-1]])
    on_line = (np.zeros_like(upper, int), each[1:], np.full_like(upper[1:], each[-1], int), each[-2::-1])
    return col, lines[np.concatenate(on_line)]


def _border(
    ground: Ground, col: NDArray[np.float64], row: NDArray[np.float64], off_col: NDArray[np.float64],
    off_row: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """(columns, rows) of the last points with ground on the ways from points that have it to points that may not."""
    low, high = np.zeros_like(col), np.ones_like(col)
    if_all = ground.covers(off_col, off_row)
    for _ in range(_HALVINGS):
        half = (low + high) / 2
        hit = ground.covers(col + half * (off_col - col), row + half * (off_row - row))
        low, high = np.where(hit, half, low), np.where(hit, high, half)
    share = np.where(if_all, 1.0, low)
    return col + share * (off_col - col), row + share * (off_row - row)


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
