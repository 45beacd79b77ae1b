"""Files that go on beyond 180 degrees of longitude: from 0 to 360, across the antimeridian, past the edge of Web Mercator.

Reads no pixel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from earthloom.tiling.grid import Grid

if TYPE_CHECKING:
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

_MERCATOR_M = 6378137.0
"""Radius of Web Mercator's sphere (EPSG:3857)."""


def around_its_middle(dataset: DatasetReader, grid: Grid) -> CRS | None:
    """The CRS by which a file is warped onto a grid, where it is not simply its own.

    A place on the grid has a longitude from -180 to 180 degrees, or one as the grid counts them. Where the file counts
    otherwise, GDAL would look for it a turn away and find no data. PROJ's `lon_wrap` counts longitudes from half a turn
    before the file's middle to half a turn after it, so each is found where the file has it, and none is found twice.
    In Web Mercator the same is a central meridian and the easting that goes with it.

    Returns:
        The CRS; None where both stay within 180 degrees, and of other projections, which know no turn.
    """
    from rasterio import crs

    degrees = dataset.crs.is_geographic and dataset.crs.units_factor[0] == "degree"
    if not degrees and dataset.crs.to_epsg() != 3857:
        return None
    half_turn = 180.0 if degrees else math.pi * _MERCATOR_M
    spans = [dataset.bounds] + [grid.bounds] * (crs.CRS.from_string(grid.crs) == dataset.crs)
    if all(abs(side) <= half_turn * (1 + 1e-9) for left, _, right, _ in spans for side in (left, right)):
        return None
    middle = (dataset.bounds.left + dataset.bounds.right) / 2
    if degrees:
        return crs.CRS.from_proj4(f"{dataset.crs.to_proj4()} +lon_wrap={middle!r}")
    around = f"+lon_0={middle / half_turn * 180!r} +x_0={middle!r}"
    return crs.CRS.from_proj4(
        f"+proj=merc +a={_MERCATOR_M} +b={_MERCATOR_M} {around} +nadgrids=@null +units=m +no_defs"
    )
