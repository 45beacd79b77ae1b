"""Other people's answers to what our code answers too: slow, plain, and made of libraries that we do not use there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window

_EDGE_POINTS = 200  # per side of a polygon: its edges follow the grid and not geodesics


def votes_of_cells(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) -> ceil halves: the class with most votes among 2 x 2 pixels, 255 not voting, the lowest one of several.

    Counts the votes for every class by itself and takes numpy's first maximum.
    """
    rows, cols = (-(-side // 2) for side in pixels.shape)
    whole = np.full((2 * rows, 2 * cols), 255, np.uint8)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    cells = whole.reshape(rows, 2, cols, 2)
    classes = np.unique(whole[whole != 255])
    if not classes.size:
        return np.full((rows, cols), 255, np.uint8)
    votes = np.stack([(cells == value).sum(axis=(1, 3)) for value in classes])
    return np.where(votes.any(axis=0), classes[votes.argmax(axis=0)], 255).astype(np.uint8)


def geodesic_area_m2(grid: Grid, window: Window) -> float:
    """Area of a rectangle of pixels as GeographicLib has it, on the ellipsoid of the grid's CRS."""
    crs = CRS(grid.crs)
    geodetic, geod = crs.geodetic_crs, crs.get_geod()
    assert geodetic is not None
    assert geod is not None
    a, _, c, _, e, f = grid.transform
    steps = np.linspace(0, 1, _EDGE_POINTS, endpoint=False)
    low, high = np.zeros_like(steps), np.ones_like(steps)
    col = window.col_off + window.width * np.concatenate([steps, high, 1 - steps, low])
    row = window.row_off + window.height * np.concatenate([low, steps, high, 1 - steps])
    lon, lat = Transformer.from_crs(crs, geodetic, always_xy=True).transform(c + a * col, f + e * row)
    degrees = np.rad2deg(geodetic.axis_info[0].unit_conversion_factor)  # France has grads
    return abs(float(geod.polygon_area_perimeter(lon * degrees, lat * degrees)[0]))
