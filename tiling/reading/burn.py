"""Polygons of a vector file on a grid: footprints as shapes, areas of permanent water as pixels."""

from __future__ import annotations

import threading
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.onto_grid import onto_grid
from earthloom.tiling.reading.vectors import read_features
from earthloom.tiling.scene import Asset
from earthloom.tiling.window import Window

_KEPT = 4  # files on grids, per process
_once = threading.Lock()


def polygons_on(
    asset: Asset, grid: Grid, called: str, layer: str | None = None
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """The polygons of a file that may lie on a grid: (n,) their numbers in the file, and (n,) shapes in pixels of the grid.

    Args:
        asset: the pinned file.
        called: what they are, for messages.
        layer: layer of a file that has several.

    Raises:
        SceneError: if the file is not what it was when it was pinned, cannot be read, is empty, or holds what is no polygon.
        StorageError: if storage fails.
    """
    name = asset.ref.name
    if (now := pin(asset.ref).identity) != asset.identity:
        raise SceneError(f"{name} was {asset.identity} when the run was planned and is {now} now; run it again")
    features = read_features(asset, column=None, layer=layer)
    if strange := sorted({str(each.geom_type) for each in features.geometries} - {"Polygon", "MultiPolygon"}):
        raise SceneError(f"{name} holds {', '.join(strange)}; {called} are polygons: buffer points and lines")
    if not len(features.geometries):
        raise SceneError(f"{name} holds no feature, or none with a geometry; {called} are polygons, at least one")
    return onto_grid(features.geometries, features.crs, grid, name)


def n_polygons(asset: Asset, grid: Grid) -> int:
    """How many polygons of a file may lie on a grid.

    Raises:
        SceneError, StorageError: as `polygons_on`.
    """
    return len(_kept(asset, grid))


def burn(asset: Asset, grid: Grid, window: Window) -> NDArray[np.uint8]:
    """1 where a polygon covers the middle of a pixel of the window, else 0. (rows, columns)

    Vertices are whole 1/256 of a pixel (`tiling.reading.onto_grid`), so that a pixel is the same in every window.

    Raises:
        SceneError, StorageError: as `polygons_on`.
    """
    import shapely
    from affine import Affine
    from rasterio.features import rasterize

    polygons = _kept(asset, grid)
    left, top, right, bottom = shapely.bounds(polygons).reshape(-1, 4).T
    near = (left < window.col_end) & (right > window.col_off) & (top < window.row_end) & (bottom > window.row_off)
    if not near.any():
        return np.zeros(window.shape, np.uint8)
    made: NDArray[np.uint8] = rasterize(
        polygons[near], out_shape=window.shape, fill=0, default_value=1, dtype="uint8", all_touched=False,
        transform=Affine.translation(window.col_off, window.row_off),
    )  # fmt: skip
    return made


def _kept(asset: Asset, grid: Grid) -> NDArray[np.object_]:
    with _once:  # the threads of a worker ask for one file at the same time
        return _polygons(asset, grid)


@lru_cache(maxsize=_KEPT)
def _polygons(asset: Asset, grid: Grid) -> NDArray[np.object_]:
    return polygons_on(asset, grid, "areas of water")[1]
