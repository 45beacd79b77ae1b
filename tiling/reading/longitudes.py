"""Files that go on beyond 180 degrees of longitude, read onto grids that do not, and the other way round. Reads no pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from earthloom.tiling.grid import Grid
from earthloom.tiling.turn import goes_beyond, turn_of

if TYPE_CHECKING:
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader


def around_its_middle(dataset: DatasetReader, grid: Grid) -> CRS | None:
    """The CRS by which a file is warped onto a grid, where it is not simply its own.

    A place on the grid has a longitude from -180 to 180 degrees, or one as the grid counts them. Where the file counts
    otherwise, GDAL would look for it a turn away and find no data. PROJ's `lon_wrap` counts longitudes from half a turn
    before the file's middle to half a turn after it, so each is found where the file has it, and none is found twice.
    In Web Mercator the same is a central meridian and the easting that goes with it.

    Returns:
        The CRS; None where both stay within half a turn, and of projections that know none (`tiling.turn`).
    """
    from rasterio import crs

    own = dataset.crs.to_wkt()
    transform = tuple(dataset.transform)[:6]
    turn = turn_of(own)
    file = Grid(crs=own, transform=transform, width=dataset.width, height=dataset.height)
    if turn is None or not (goes_beyond(file) or goes_beyond(grid)):
        return None
    middle = (file.bounds[0] + file.bounds[2]) / 2
    if dataset.crs.is_geographic:
        return crs.CRS.from_proj4(f"{dataset.crs.to_proj4()} +lon_wrap={middle!r}")
    sphere, around = dataset.crs.to_proj4(), f"+lon_0={middle / turn * 360!r} +x_0={middle!r}"
    kept = " ".join(word for word in sphere.split() if not word.startswith(("+lon_0=", "+x_0=")))
    return crs.CRS.from_proj4(f"{kept} {around}")
