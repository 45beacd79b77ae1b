"""How far it is once around the Earth in a CRS whose grids may go on beyond that: from 0 to 360 degrees, past 180."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from earthloom.tiling.grid import Grid

_MERCATOR_M = 6378137.0
"""Radius of Web Mercator's sphere (EPSG:3857)."""

_POLE_DEG, _POLE_M = 90.0, 1e9  # Mercator has none; nothing is drawn so far out


@lru_cache(maxsize=64)
def turn_of(crs: str) -> float | None:
    """A whole turn along x, in units of the CRS; None of projections that know none, and of units other than degrees."""
    found = CRS.from_user_input(crs)
    if found.is_geographic:
        return 360.0 if found.axis_info[0].unit_name == "degree" else None
    return 2 * math.pi * _MERCATOR_M if found.to_epsg() == 3857 else None


def goes_beyond(grid: Grid) -> bool:
    """Whether a grid has columns more than half a turn from the CRS's origin."""
    turn, (left, _, right, _) = turn_of(grid.crs), grid.bounds
    return turn is not None and max(abs(left), abs(right)) > turn / 2 * (1 + 1e-9)


def turns_of(grid: Grid) -> tuple[float, ...]:
    """What to add to an x that PROJ gives, so that all places on a grid are met: nothing but for one that goes beyond."""
    turn = turn_of(grid.crs)
    return (-turn, 0.0, turn) if turn is not None and goes_beyond(grid) else (0.0,)


def unbroken(shapes: NDArray[np.object_], turn: float) -> NDArray[np.object_]:
    """Polygons that were brought into a CRS in short steps, with x going on where it would begin anew, from 179.9 to 180.1 and
    not to -179.9; a ring around a pole is closed there.

    Args:
        shapes: (n,) shapely polygons and multipolygons, empty ones too.
        turn: see `turn_of`.
    """
    import shapely
    from shapely.affinity import translate

    parts, owner = shapely.get_parts(shapes, return_index=True)
    left, _, right, _ = shapely.bounds(parts).reshape(-1, 4).T
    broken = np.flatnonzero(right - left > turn / 2)
    if not broken.size:
        return shapes
    for position in broken:
        rings = (parts[position].exterior, *parts[position].interiors)
        outer, *holes = (
            shapely.make_valid(shapely.Polygon(_gone_on(shapely.get_coordinates(ring), turn))) for ring in rings
        )
        every = [translate(hole, xoff=turns * turn) for hole in holes for turns in (-2, -1, 0, 1, 2)]
        parts[position] = outer.difference(shapely.union_all(every))  # a hole may have come to lie a turn away
    whole = shapes.copy()
    for number in np.unique(owner[broken]):
        whole[number] = shapely.union_all(parts[owner == number])
    return whole


def _gone_on(ring: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """A closed ring (n, 2) without jumps in x."""
    x, y = ring.T
    x = x - turn * np.concatenate([[0.0], np.cumsum(np.round(np.diff(x) / turn))])
    if abs(x[-1] - x[0]) < turn / 2:
        return np.column_stack([x, y])
    pole = np.copysign(_POLE_DEG if turn == 360.0 else _POLE_M, y.mean())
    return np.column_stack([np.append(x, [x[-1], x[0], x[0]]), np.append(y, [pole, pole, y[0]])])


def polygonal(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Valid polygons: what crosses itself is mended, and lines and points that come of it are dropped."""
    import shapely

    mended = shapely.make_valid(shapes)
    mixed = shapely.get_type_id(mended) == 7
    for position in np.flatnonzero(mixed):
        parts = shapely.get_parts(mended[position])
        mended[position] = shapely.union_all(parts[np.isin(shapely.get_type_id(parts), (3, 6))])
    mended[~np.isin(shapely.get_type_id(mended), (3, 6))] = shapely.Polygon()
    return np.asarray(mended)


def cut_at_180(outline: Any) -> Any:
    """A polygon of longitudes and latitudes, some beyond 180 degrees, cut there and turned back into the map, as RFC 7946 wants
    it: a normalised multipolygon."""
    import shapely
    from shapely.affinity import translate

    pieces: list[Any] = []
    for turn in (-360, 0, 360):
        part = outline.intersection(shapely.box(turn - 180, -90, turn + 180, 90))
        pieces += [
            translate(piece, xoff=-turn)
            for piece in getattr(part, "geoms", [part])
            if isinstance(piece, shapely.Polygon) and piece.area
        ]
    return shapely.normalize(shapely.MultiPolygon(pieces))


def met(
    shapes: NDArray[np.object_], grid: Grid, *, snap_px: float = 0.0, go_on: bool = False
) -> NDArray[np.object_]:  # fmt: skip
    """Shapes in pixels of a grid, as PROJ places them, where the grid meets them: it may count on where longitudes begin anew.

    A shape that is cut in two there, as RFC 7946 wants it, comes together again; one that the grid meets twice is there twice.

    Args:
        shapes: (n,) shapely geometries, columns before rows.
        snap_px: coordinates are rounded to multiples of this; 0 for none.
        go_on: whether shapes may reach beyond half a turn as well (`unbroken`), on any grid whose CRS knows turns.

    Returns:
        (n,) the parts of each that touch the grid, whole; empty where there is none. All of them as they are on a grid that
        does not go beyond 180 degrees, unless they `go_on`.
    """
    import shapely

    def moved(shapes: NDArray[np.object_], step: float) -> NDArray[np.object_]:
        def move(points: NDArray[np.float64]) -> NDArray[np.float64]:
            points = points + np.array([step, 0.0])
            return np.round(points / snap_px) * snap_px if snap_px else points

        return np.asarray(shapely.transform(shapes, move))

    turn = turn_of(grid.crs)
    if turn is None or not len(shapes) or not (go_on or goes_beyond(grid)):
        return moved(shapes, 0.0) if snap_px else shapes

    parts, owner = shapely.get_parts(shapes, return_index=True)
    left, top, right, bottom = shapely.bounds(parts).reshape(-1, 4).T
    found, owners = [], []
    for turns in (-1, 0, 1):
        step = turns * turn / grid.transform[0]
        there = (left + step <= grid.width) & (right + step >= 0) & (top <= grid.height) & (bottom >= 0)
        found.append(moved(parts[there], step))
        owners.append(owner[there])
    return joined(np.concatenate(found), np.concatenate(owners), len(shapes))


def joined(
    pieces: NDArray[np.object_], owner: NDArray[np.intp], n: int, *, snap_px: float | None = None
) -> NDArray[np.object_]:  # fmt: skip
    """(n,) the union of the pieces of each owner; a single one as it is, and an empty geometry where there is none.

    Args:
        snap_px: vertices of edges in which pieces meet may lie this far beside each other.
    """
    import shapely

    whole = np.full(n, shapely.GeometryCollection(), object)
    order = np.argsort(owner, kind="stable")
    numbers, starts = np.unique(owner[order], return_index=True)
    for number, its in zip(numbers, np.split(order, starts[1:]) if len(numbers) else (), strict=True):
        whole[number] = (
            pieces[its[0]] if len(its) == 1  # what crosses itself cannot be joined
            else shapely.union_all(shapely.make_valid(pieces[its]), grid_size=snap_px)
        )  # fmt: skip
    return whole
