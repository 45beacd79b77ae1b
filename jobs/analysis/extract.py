"""Part of a published class map, on its own grid or in another CRS, which is read window by window.

Nothing here holds more of a map than a window. Knows nothing of scenes, models or files: it is given maps
(`jobs.monitoring.composites.maps.ClassMap`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.jobs.monitoring.series.zonal import place
from earthloom.jobs.products.legend import ClassLegend
from earthloom.jobs.products.statistics import class_areas, count_classes
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.counting import ClassArea, merge_tallies
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid
from earthloom.tiling.outline import Rings, inside_rings
from earthloom.tiling.storage.store import Store
from earthloom.tiling.turn import goes_beyond, turn_of, unbroken
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import geopandas as gpd
    from pyproj import Transformer

WINDOW_PX = 1024  # of a side: some 70 MB of coordinates where a map is reprojected
_PIXELS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # of a grid in its own columns and rows
_EDGE_POINTS = 41  # of each side of the map, whose edges are curves in another CRS

Layers = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Classes and confidence, (h, w) each; 255 is no data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extract:
    """Part of a class map."""

    name: str
    grid: Grid
    """The grid of the pixels that are read."""
    legend: ClassLegend
    source: str
    """What it was made of."""
    store: Store
    stored: ClassMap
    part: Window
    """Window of `stored`'s grid."""
    outline: tuple[Rings, ...] | None
    """Outside of these polygons is no data; in pixels of the grid of `stored`."""

    def windows(self) -> Iterator[Window]:
        """The grid in pieces, row-major."""
        for row in range(0, self.grid.height, WINDOW_PX):
            for col in range(0, self.grid.width, WINDOW_PX):
                yield Window(col, row, WINDOW_PX, WINDOW_PX) & self.grid.window

    def read(self, window: Window) -> Layers:
        """A window of `grid`. In another CRS, of each pixel the stored one that its middle lies in.

        Raises:
            StorageError: if it cannot be read.
        """
        part = self.stored.grid.crop(self.part)
        if part == self.grid:
            return self._read_stored(window)
        from pyproj import Transformer

        back = Transformer.from_crs(self.grid.crs, part.crs, always_xy=True)
        here = self.grid.crop(window)
        col, row = (np.floor(axis) for axis in ~part.affine @ back.transform(*np.meshgrid(here.xs(), here.ys())))
        if goes_beyond(part):
            col = np.mod(col, abs((turn_of(part.crs) or math.inf) / part.transform[0]))
        known = (col >= 0) & (col < part.width) & (row >= 0) & (row < part.height)  # also false where it is not finite
        classes, confidence = (np.full(window.shape, NODATA, np.uint8) for _ in range(2))
        if known.any():
            cols, rows = col[known].astype(np.intp), row[known].astype(np.intp)
            left, top = int(cols.min()), int(rows.min())
            around = Window(left, top, int(cols.max()) - left + 1, int(rows.max()) - top + 1)
            for layer, made in zip(self._read_stored(around), (classes, confidence), strict=True):
                made[known] = layer[rows - top, cols - left]
        return classes, confidence

    def _read_stored(self, window: Window) -> Layers:
        col, row = window.col_off + self.part.col_off, window.row_off + self.part.row_off
        there = Window(col, row, window.width, window.height)
        classes, confidence = self.stored.read(self.store, there)
        if self.outline is not None:
            pixels = replace(self.stored.grid, transform=_PIXELS)
            outside = ~inside_rings(self.outline, pixels, there)
            classes, confidence = (np.where(outside, np.uint8(NODATA), layer) for layer in (classes, confidence))
        return classes, confidence

    def survey(self, each: Callable[[Window, NDArray[np.uint8]], None] | None = None) -> tuple[list[ClassArea], Window]:
        """One row per class with true areas, and the part of the grid that holds data, which may be far smaller: a grid
        consists of whole shards.

        Args:
            each: is given every window and its classes on the way.

        Raises:
            StorageError: if it cannot be read.
        """
        tallies, rows, cols = [], np.zeros(self.grid.height, bool), np.zeros(self.grid.width, bool)
        for window in self.windows():
            classes, confidence = self.read(window)
            if each:
                each(window, classes)
            known = classes != NODATA
            rows[window.row_off : window.row_end] |= known.any(axis=1)
            cols[window.col_off : window.col_end] |= known.any(axis=0)
            tallies.append(count_classes(self.grid, window, classes, confidence, len(self.legend.classes))[0])
        down, across = np.flatnonzero(rows), np.flatnonzero(cols)
        held = self.grid.window
        if down.size:
            held = Window(
                int(across[0]), int(down[0]), int(across[-1] - across[0]) + 1, int(down[-1] - down[0]) + 1
            )  # fmt: skip
        return class_areas(merge_tallies(tallies), self.legend), held

    def thinned(self, part: Window, step: int) -> NDArray[np.uint8]:
        """Classes of every `step`-th row and column of a part of the grid."""
        rows, cols = np.arange(part.row_off, part.row_end, step), np.arange(part.col_off, part.col_end, step)
        thin = np.full((rows.size, cols.size), NODATA, np.uint8)
        for window in self.windows():
            here_rows = np.flatnonzero((rows >= window.row_off) & (rows < window.row_end))
            here_cols = np.flatnonzero((cols >= window.col_off) & (cols < window.col_end))
            if here_rows.size and here_cols.size:
                classes, _ = self.read(window)
                picked = np.ix_(rows[here_rows] - window.row_off, cols[here_cols] - window.col_off)
                thin[np.ix_(here_rows, here_cols)] = classes[picked]
        return thin


def extract(store: Store, one: ClassMap, *, clip: gpd.GeoDataFrame | None = None, crs: str | None = None) -> Extract:
    """A class map, or the part of it inside polygons, on its own grid or in another CRS. Reads nothing yet.

    Args:
        store: on OUT.
        clip: polygons in any CRS; outside of them is nodata.
        crs: `EPSG:32612`; pixels keep their size and are taken from the nearest one.

    Raises:
        ConfigError: if nothing of the map lies inside the polygons, or there is no such CRS.
    """
    outline, part = (None, one.grid.window) if clip is None else _outline(clip, one.grid)
    if not part.size_px:
        raise ConfigError(f"{one.name} covers nothing of the polygons; check that they lie on its ground")
    grid = one.grid.crop(part)
    legend = ClassLegend(
        name=one.name, title=one.name,
        classes=tuple(ModelClass(value=c.value, name=c.name, color=c.color) for c in one.classes),
    )  # fmt: skip
    return Extract(
        name=one.name, grid=grid if crs in (None, grid.crs) else _grid_in(one.name, grid, str(crs)), legend=legend,
        source=", ".join(one.sources), store=store, stored=one, part=part, outline=outline,
    )  # fmt: skip


def _outline(clip: gpd.GeoDataFrame, grid: Grid) -> tuple[tuple[Rings, ...], Window]:
    """All polygons as one, in pixels of a grid, and the pixels around it. Their edges are straight in their own CRS."""
    import shapely

    placed = place(clip, grid)
    if not placed.areas_m2.any():
        raise ConfigError("the polygons to clip by have no area; give polygons that have some")
    whole = shapely.union_all(placed.polygons)
    if whole.is_empty:
        return (), Window(0, 0, 0, 0)
    left, top, right, bottom = whole.bounds
    col, row = math.floor(left), math.floor(top)
    around = Window(col, row, math.ceil(right) - col, math.ceil(bottom) - row) & grid.window
    polygons = [one for one in shapely.get_parts(whole) if one.geom_type == "Polygon"]
    rings = tuple(
        tuple(shapely.get_coordinates(ring)[:-1] for ring in (one.exterior, *one.interiors)) for one in polygons
    )
    return rings, around


def _sides(grid: Grid, there: Transformer, turn: float) -> tuple[float, float] | None:
    """Left and right edge of a grid in a CRS where x begins anew after a turn, going on there; None where PROJ cannot say."""
    import shapely

    edges = shapely.segmentize(
        shapely.box(*grid.bounds), max(grid.width, grid.height) * abs(grid.transform[0]) / _EDGE_POINTS
    )
    border = shapely.transform(edges, lambda points: np.column_stack(there.transform(*points.T)))
    left, _, right, _ = map(float, shapely.bounds(unbroken(np.array([border], object), turn))[0])
    return (left, right) if right - left < turn * (1 - 1e-9) else None  # else around a pole, or not finite


def _grid_in(name: str, grid: Grid, crs: str) -> Grid:
    """A grid around the same ground in another CRS, with square pixels of which a diagonal has as many as before."""
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError

    try:
        there = Transformer.from_crs(CRS(grid.crs), CRS(crs), always_xy=True)
    except CRSError as error:
        raise ConfigError(f"`crs={crs}` is no CRS: {error}") from error
    left, bottom, right, top = there.transform_bounds(*grid.bounds, densify_pts=_EDGE_POINTS)
    xs, ys = (np.linspace(*ends, _EDGE_POINTS) for ends in (grid.bounds[::2], grid.bounds[1::2]))
    _, y = there.transform(*np.meshgrid(xs, ys))
    over = max(y.max() - top, bottom - y.min())  # in Mercator a pole lies endlessly far beyond the edges around it
    if not all(map(math.isfinite, (left, right, over))) or over > (top - bottom) / _EDGE_POINTS:
        raise ConfigError(f"{name} does not lie in the area of `crs={crs}`; give one of its own ground")
    turn = turn_of(crs)
    if turn is not None and not 0 < right - left < turn / 2:  # over the antimeridian: the grid goes on beyond it
        left, right = _sides(grid, there, turn) or (left, right)
    side = math.hypot(right - left, top - bottom) / math.hypot(grid.width, grid.height)
    return Grid(
        crs=crs, transform=(side, 0.0, left, 0.0, -side, top), width=math.ceil((right - left) / side),
        height=math.ceil((top - bottom) / side),
    )  # fmt: skip
