"""Distances on the ground between pixels and those that were trained on, across scenes. Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.grid import Grid
from earthloom.tiling.ground import to_wgs84
from earthloom.tiling.window import Window

_EDGE_POINTS = 5
"""Points per side of a box that is brought onto another grid: its edges may be curves there."""


class Ground:
    """The places of all scenes' grids, so that only those that may meet are compared."""

    def __init__(self, grids: Sequence[Grid]) -> None:
        from shapely import STRtree, box

        self.grids = tuple(grids)
        self._outlines = [box(*_lonlat(grid)) for grid in grids]
        self._tree: Any = STRtree(self._outlines)

    def near(self, number: int, reach_px: int = 0) -> list[int]:
        """Positions of the scenes that may have a pixel within `reach_px` of one, itself among them."""
        from shapely import box

        wide = box(*_lonlat(_grown(self.grids[number], reach_px))) if reach_px else self._outlines[number]
        return sorted(self._tree.query(wide).tolist())

    def groups(self) -> list[list[int]]:
        """Positions of scenes; those that overlap, or are linked by others that do, in one group, in order."""
        head = list(range(len(self.grids)))

        def head_of(number: int) -> int:
            while head[number] != number:
                number = head[number]
            return number

        for number in range(len(self.grids)):
            for other in self.near(number):
                one, two = head_of(other), head_of(number)
                if other < number and one != two and _overlap(self.grids[number], self.grids[other]):
                    head[max(one, two)] = min(one, two)
        found: dict[int, list[int]] = {}
        for number in range(len(self.grids)):
            found.setdefault(head_of(number), []).append(number)
        return list(found.values())

    def around(self, number: int, trained: Mapping[int, NDArray[np.int32]], reach_px: int) -> TrainedGround:
        """The ground within `reach_px` of a scene that was trained on.

        Args:
            number: position of the scene.
            trained: boxes (m, 4) of training labels by the position of their scene: first column and row, and those after
                the last.
        """
        grid = self.grids[number]
        found = [np.zeros((0, 4))]
        for other in self.near(number, reach_px):
            if other in trained:
                own = trained[other].astype(np.float64)
                found.append(own if other == number else boxes_onto(trained[other], self.grids[other], grid))
        return TrainedGround(np.concatenate(found), grid.window, reach_px)


class TrainedGround:
    """Pixels that were trained on, in and around one scene.

    Args:
        boxes: (m, 4) of training labels, in pixels of the scene.
        scene: its window.
        reach_px: how far around the scene they matter.
    """

    def __init__(self, boxes: NDArray[np.float64], scene: Window, reach_px: int) -> None:
        from shapely import STRtree, box

        whole = np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1)
        near = (
            (whole[:, 0] <= scene.width + reach_px) & (whole[:, 2] >= -reach_px)
            & (whole[:, 1] <= scene.height + reach_px) & (whole[:, 3] >= -reach_px)
        )  # fmt: skip
        self._boxes, self._reach_px = whole[near].astype(np.int64), reach_px
        self._tree: Any = STRtree([box(*each) for each in self._boxes])

    def distances(self, window: Window) -> NDArray[np.int32]:
        """Distance of each pixel of a window to the nearest pixel trained on; `reach_px` + 1 where it is farther.

        The distance is the larger of that in columns and that in rows, as context is a square. (rows, columns)
        """
        from shapely import box

        reach = self._reach_px
        found = np.full(window.shape, reach + 1, np.int32)
        wide = window.grow(reach)
        cols = np.arange(window.col_off, window.col_end)
        rows = np.arange(window.row_off, window.row_end)
        for place in self._tree.query(box(wide.col_off, wide.row_off, wide.col_end, wide.row_end)).tolist():
            left, top, right, bottom = self._boxes[place]
            across = np.maximum(np.maximum(left - cols, cols - (right - 1)), 0)
            along = np.maximum(np.maximum(top - rows, rows - (bottom - 1)), 0)
            np.minimum(found, np.maximum(along[:, None], across[None, :]).astype(np.int32), out=found)
        return found


def boxes_onto(boxes: NDArray[np.int32], source: Grid, target: Grid) -> NDArray[np.float64]:
    """Boxes (m, 4) in pixels of one grid as boxes around them in pixels of another, but for those without a place there."""
    steps = np.linspace(0, 1, _EDGE_POINTS)
    shares = np.array([(x, y) for x in steps for y in steps])
    left, top, right, bottom = boxes.T.astype(np.float64)
    cols = left[:, None] + (right - left)[:, None] * shares[:, 0]
    rows = top[:, None] + (bottom - top)[:, None] * shares[:, 1]
    a, _, c, _, e, f = source.transform
    x, y = c + a * cols, f + e * rows
    if source.crs != target.crs:
        transformer = Transformer.from_crs(
            CRS.from_user_input(source.crs), CRS.from_user_input(target.crs), always_xy=True
        )
        x, y = transformer.transform(x, y)
    a, _, c, _, e, f = target.transform
    cols, rows = (np.asarray(x) - c) / a, (np.asarray(y) - f) / e
    there = np.isfinite(cols).all(axis=1) & np.isfinite(rows).all(axis=1)
    cols, rows = cols[there], rows[there]
    return np.stack([cols.min(axis=1), rows.min(axis=1), cols.max(axis=1), rows.max(axis=1)], axis=1)


def _grown(grid: Grid, by_px: int) -> Grid:
    a, b, c, d, e, f = grid.transform
    return Grid(
        crs=grid.crs, transform=(a, b, c - by_px * a, d, e, f - by_px * e), width=grid.width + 2 * by_px,
        height=grid.height + 2 * by_px,
    )  # fmt: skip


def _lonlat(grid: Grid) -> tuple[float, float, float, float]:
    """Bounds in degrees that hold the grid; the whole world where its CRS cannot say, or across the antimeridian."""
    west, south, east, north = to_wgs84(grid.crs).transform_bounds(*grid.bounds, densify_pts=21)
    if not np.isfinite([west, south, east, north]).all() or west > east:
        return -180.0, -90.0, 180.0, 90.0
    return west, south, east, north


def _overlap(one: Grid, other: Grid) -> bool:
    whole = np.array([[0, 0, other.width, other.height]], np.int32)
    found = boxes_onto(whole, other, one)
    if not len(found):
        return False
    left, top, right, bottom = found[0]
    return bool(left < one.width and right > 0 and top < one.height and bottom > 0)
