"""Published class maps as files for other programs: clipped and reprojected GeoTIFF, polygons, or a picture to print.

Maps are read and written window by window, so that memory does not grow with them; polygons lie in memory, as their file
does on disk.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.analysis.extract import Extract
from earthloom.jobs.monitoring.series.zonal import in_degrees, true_areas_m2
from earthloom.jobs.products.legend import class_tags, colors, pam
from earthloom.jobs.products.qgis import class_style
from earthloom.jobs.products.quicklook import quicklook_png
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_size_m
from earthloom.tiling.reading.onto_grid import onto_grid
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import geopandas as gpd

RASTERS, PICTURES = (".tif",), (".png",)
VECTORS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}

_PICTURE_PX = 1024
_POLYGONS_AT_ONCE = 10_000


def write_extract(found: Extract, file: Path, *, title: str | None = None, min_area_m2: float = 0.0) -> list[Path]:
    """Write it in the form that the file's ending names; the files that were written.

    Args:
        title: title of a picture.
        min_area_m2: no smaller polygon.

    Raises:
        ConfigError: if the ending names no form, or the file cannot be written.
    """
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    ending = file.suffix.lower()
    try:
        if ending in RASTERS:
            return _write_tiff(found, file)
        if ending in VECTORS:
            return _write_polygons(polygons(found, min_area_m2), found.grid, file)
        if ending in PICTURES:
            file.write_bytes(picture(found, title or found.name))
            return [file]
    except (OSError, RasterioError, CPLE_BaseError) as error:
        why = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ConfigError(f"`output={file}` cannot be written: {why}") from error
    known = ", ".join((*RASTERS, *VECTORS, *PICTURES))
    raise ConfigError(f"`output={file}`: an export is one of {known}, by the ending of its name")


def polygons(found: Extract, min_area_m2: float = 0.0) -> gpd.GeoDataFrame:
    """Connected ground of one class as polygons (neighbours share an edge): `value` · `class` · `area_m2`, true area.

    Args:
        min_area_m2: smaller ones are left out.
    """
    import geopandas as gpd
    import pandas as pd
    import rasterio
    from rasterio.features import shapes
    from shapely.geometry import shape

    names = {entry.value: entry.name for entry in found.legend.classes}

    def frame(pairs: Sequence[tuple[Any, float]]) -> gpd.GeoDataFrame:
        values = [int(value) for _, value in pairs]
        made = gpd.GeoDataFrame(
            {"value": values, "class": [names[value] for value in values]},
            geometry=[shape(geometry) for geometry, _ in pairs], crs=found.grid.crs,
        )  # fmt: skip
        made.insert(2, "area_m2", true_areas_m2(made.geometry.to_numpy(), made.crs, found.grid).round(1))
        return made[made["area_m2"] >= min_area_m2]

    with _raster(found, mask=True) as (path, _), rasterio.open(path) as raster:  # GDAL reads it row by row
        every = shapes(rasterio.band(raster, 1), mask=rasterio.band(raster, 2), transform=found.grid.affine)
        frames = [frame(some) for some in _some(iter(every))]
    return pd.concat(frames or [frame(())], ignore_index=True)


def _some(shapes: Iterator[tuple[Any, float]]) -> Iterator[list[tuple[Any, float]]]:
    while some := list(islice(shapes, _POLYGONS_AT_ONCE)):
        yield some


def picture(found: Extract, title: str, outlines: gpd.GeoSeries | None = None) -> bytes:
    """A map to print: title, legend with true areas, scale bar and north arrow, as a PNG file.

    Args:
        outlines: polygons in any CRS, drawn over the map as alerts.
    """
    rows, held = found.survey()
    grid, step = found.grid.crop(held), max(1, math.ceil(max(held.width, held.height) / _PICTURE_PX))
    east, south = grid.transform[0], grid.transform[4]
    thin = found.thinned(held, step)
    rings = [] if outlines is None else _rings(outlines, grid, step)
    if south > 0:
        thin, rings = thin[::-1], [(cols, thin.shape[0] - rows_) for cols, rows_ in rings]
    if east < 0:
        thin, rings = thin[:, ::-1], [(thin.shape[1] - cols, rows_) for cols, rows_ in rings]
    across, along = pixel_size_m(grid)
    legend = replace(found.legend, title=_subtitle(found))
    return quicklook_png(
        thin, legend=legend, title=title, rows=rows, pixel_m=(across * step, along * step),
        north_deg=_convergence_deg(grid), outlines=[np.stack(ring, axis=1) for ring in rings],
    )  # fmt: skip


def _subtitle(found: Extract) -> str:
    """What the map is called, and the date or dates of a published result: a map on paper has nothing else to tell them."""
    days = found.stored.days if found.stored.prefix else ""
    return f"{found.name}, {days}" if days else found.name


def _write_polygons(frame: gpd.GeoDataFrame, grid: Grid, file: Path) -> list[Path]:
    module, ending = pyogrio(), file.suffix.lower()
    if ending == ".geojson":  # RFC 7946 knows no other CRS, and wants polygons cut at 180 degrees
        frame = frame.set_geometry(in_degrees(frame.geometry.to_numpy(), frame.crs, grid), crs="EPSG:4326")
    try:
        frame.to_file(file, driver=VECTORS[ending], engine="pyogrio")
    except (module.errors.DataSourceError, module.errors.DataLayerError) as error:  # no OSErrors
        raise OSError(str(error)) from error
    return [file]


def _rings(outlines: gpd.GeoSeries, grid: Grid, step: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(columns, rows) of the outer and inner edges of polygons, in pixels of the picture."""
    import shapely
    from pyproj import CRS

    placed = onto_grid(outlines.to_numpy(), CRS.from_user_input(outlines.crs), grid, "the outlines")[1]
    edges = shapely.get_parts(shapely.boundary(placed))
    found = [shapely.get_coordinates(edge).T for edge in edges]
    return [(cols / step, rows / step) for cols, rows in found]


def _write_tiff(found: Extract, file: Path) -> list[Path]:
    import rasterio
    from rasterio.shutil import copy

    style, names = file.with_suffix(".qml"), file.with_name(f"{file.name}.aux.xml")
    with _raster(found) as (path, areas):
        with rasterio.open(path, "r+") as raster:
            raster.write_colormap(1, {value: (*rgb, 255) for value, rgb in colors(found.legend).items()})
            raster.update_tags(AREA_OR_POINT="Area", EARTHLOOM_SOURCE=found.source)
            raster.update_tags(1, **class_tags(found.legend))
            raster.set_band_description(1, f"{found.name} class")
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            copy(
                str(path), file, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=512, OVERVIEW_RESAMPLING="MODE",
                BIGTIFF="IF_SAFER",
            )  # fmt: skip
    style.write_bytes(class_style(found.legend))
    names.write_bytes(pam(found.legend, areas))
    return [file, style, names]


@contextmanager
def _raster(found: Extract, *, mask: bool = False) -> Iterator[tuple[Path, list[ClassArea]]]:
    """Its classes as a GeoTIFF that is removed at the end, and their areas; with `mask`, a second band is 1 where there is
    data."""
    import rasterio
    from rasterio.windows import Window as RasterioWindow

    with tempfile.TemporaryDirectory(prefix="earthloom-export-") as folder:
        path = Path(folder) / "classes.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=found.grid.width, height=found.grid.height, count=2 if mask else 1,
            dtype="uint8", nodata=NODATA, crs=found.grid.crs, transform=found.grid.affine, tiled=True, blockxsize=512,
            blockysize=512, compress="deflate", interleave="band", sparse_ok=True, bigtiff="if_safer",
        ) as raster:  # fmt: skip

            def write(window: Window, classes: NDArray[np.uint8]) -> None:
                there = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
                raster.write(classes, 1, window=there)
                if mask:
                    raster.write((classes != NODATA).astype(np.uint8), 2, window=there)

            areas, _ = found.survey(write)
        yield path, areas


def _convergence_deg(grid: Grid) -> float:
    """Direction of true north in the middle of the map, degrees clockwise from up."""
    from pyproj import Transformer

    x, y = grid.affine @ (grid.width / 2, grid.height / 2)
    to_lonlat, back = (
        Transformer.from_crs(*pair, always_xy=True) for pair in ((grid.crs, "EPSG:4326"), ("EPSG:4326", grid.crs))
    )
    lon, lat = to_lonlat.transform(x, y)
    away = 1e-4 if lat < 0 else -1e-4  # to where there is ground, next to a pole too
    (x, there_x), (y, there_y) = back.transform(
        [lon, lon], [lat, lat + away]
    )  # both alike, where x may lie a turn away
    return math.degrees(math.atan2((there_x - x) * away, (there_y - y) * away))
