"""Published class maps as files for other programs: clipped and reprojected GeoTIFF, polygons, or a picture to print.

What is exported lies in memory whole, one byte per pixel, so its size has a limit that the message on it names. Knows nothing
of scenes or models: it is given maps (`jobs.monitoring.composites.maps.ClassMap`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.jobs.products.legend import ClassLegend, class_tags, colors, pam
from earthloom.jobs.products.qgis import class_style
from earthloom.jobs.products.quicklook import quicklook_png
from earthloom.jobs.products.statistics import class_areas, count_classes
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_size_m
from earthloom.tiling.outline import inside
from earthloom.tiling.storage.store import Store
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import geopandas as gpd

RASTERS, PICTURES = (".tif",), (".png",)
VECTORS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}

_MOST_PX = 400_000_000
_PICTURE_PX = 1024
_STRIP_ROWS = 256
_EDGE_DEG = 0.05  # edges of polygons are straight in degrees and curves on the map
_EDGE_POINTS = 41  # of each side of the map, whose edges are curves in another CRS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extract:
    """Part of a class map, in memory."""

    name: str
    grid: Grid
    classes: NDArray[np.uint8]
    """(h, w), 255 without data."""
    confidence: NDArray[np.uint8]
    legend: ClassLegend
    source: str
    """What it was made of."""

    @property
    def areas(self) -> list[ClassArea]:
        """One row per class, with true areas."""
        n_classes = len(self.legend.classes)
        return class_areas(
            count_classes(self.grid, self.grid.window, self.classes, self.confidence, n_classes), self.legend
        )


def extract(store: Store, one: ClassMap, *, clip: gpd.GeoDataFrame | None = None, crs: str | None = None) -> Extract:
    """A class map, or the part of it inside polygons, on its own grid or in another CRS.

    Args:
        store: on OUT.
        clip: polygons in any CRS; outside of them is nodata.
        crs: `EPSG:32612`; pixels keep their size and are taken from the nearest one.

    Raises:
        ConfigError: if nothing of the map lies inside the polygons, it is too large, or there is no such CRS.
    """
    outline = _outline(clip) if clip is not None else None
    window = _window(one.grid, outline) if outline else one.grid.window
    if not window.size_px:
        raise ConfigError(f"{one.name} covers nothing of the polygons; check that they lie on its ground")
    _check_size(one.name, *window.shape)
    classes, confidence = one.read(store, window)
    grid = one.grid.crop(window)
    if outline:
        outside = ~inside(outline, grid, grid.window)
        classes, confidence = (np.where(outside, np.uint8(NODATA), layer) for layer in (classes, confidence))
    if crs is not None and crs != grid.crs:
        grid, (classes, confidence) = _reprojected(one.name, grid, crs, (classes, confidence))
    legend = ClassLegend(
        name=one.name, title=one.name,
        classes=tuple(ModelClass(value=c.value, name=c.name, color=c.color) for c in one.classes),
    )  # fmt: skip
    return Extract(
        name=one.name, grid=grid, classes=classes, confidence=confidence, legend=legend, source=", ".join(one.sources)
    )


def write_extract(found: Extract, file: Path, *, title: str | None = None, min_area_m2: float = 0.0) -> list[Path]:
    """Write it in the form that the file's ending names; the files that were written.

    Args:
        title: of a picture.
        min_area_m2: no smaller polygon.

    Raises:
        ConfigError: if the ending names no form, or the file cannot be written.
    """
    ending = file.suffix.lower()
    try:
        if ending in RASTERS:
            return _write_tiff(found, file)
        if ending in VECTORS:
            pyogrio()
            frame = polygons(found, min_area_m2)
            frame = frame.to_crs("EPSG:4326") if ending == ".geojson" else frame  # RFC 7946 knows no other
            frame.to_file(file, driver=VECTORS[ending], engine="pyogrio")
            return [file]
        if ending in PICTURES:
            file.write_bytes(picture(found, title or found.name))
            return [file]
    except OSError as error:
        raise ConfigError(f"`output={file}` cannot be written: {error.strerror or error}") from error
    known = ", ".join((*RASTERS, *VECTORS, *PICTURES))
    raise ConfigError(f"`output={file}`: an export is one of {known}, by the ending of its name")


def polygons(found: Extract, min_area_m2: float = 0.0) -> gpd.GeoDataFrame:
    """Connected ground of one class as polygons (neighbours share an edge): `value` · `class` · `area_m2`, true area.

    Args:
        min_area_m2: smaller ones are left out.
    """
    import geopandas as gpd
    from pyproj import Geod
    from rasterio.features import shapes
    from shapely.geometry import shape

    valid = found.classes != NODATA
    pairs = [
        (shape(geometry), int(value))
        for geometry, value in shapes(found.classes, mask=valid, transform=found.grid.affine)
    ]
    names = {entry.value: entry.name for entry in found.legend.classes}
    frame = gpd.GeoDataFrame(
        {"value": [value for _, value in pairs], "class": [names[value] for _, value in pairs]},
        geometry=[polygon for polygon, _ in pairs], crs=found.grid.crs,
    )  # fmt: skip
    geod = Geod(ellps="WGS84")
    lonlat = frame.geometry.to_crs("EPSG:4326")
    frame.insert(2, "area_m2", [round(abs(geod.geometry_area_perimeter(polygon)[0]), 1) for polygon in lonlat])
    return frame[frame["area_m2"] >= min_area_m2].reset_index(drop=True)


def picture(found: Extract, title: str) -> bytes:
    """A map to print: title, legend with true areas, scale bar and north arrow, as a PNG file."""
    window = _known(found)
    grid, classes = found.grid.crop(window), found.classes[window.slices(found.grid.window)]
    step = max(1, math.ceil(max(classes.shape) / _PICTURE_PX))
    east, south = grid.transform[0], grid.transform[4]
    thin = classes[::step, ::step][:: -1 if south > 0 else 1, :: -1 if east < 0 else 1]
    across, along = pixel_size_m(grid)
    return quicklook_png(
        thin, legend=found.legend, title=title, rows=found.areas, pixel_m=(across * step, along * step),
        north_deg=_convergence_deg(grid),
    )  # fmt: skip


def _known(found: Extract) -> Window:
    """The part that holds data: a grid of whole shards may reach far beyond it."""
    rows, cols = (np.flatnonzero((found.classes != NODATA).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return found.grid.window
    return Window(int(cols[0]), int(rows[0]), int(cols[-1] - cols[0]) + 1, int(rows[-1] - rows[0]) + 1)


def _write_tiff(found: Extract, file: Path) -> list[Path]:
    import rasterio
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy

    grid, style, names = found.grid, file.with_suffix(".qml"), file.with_name(f"{file.name}.aux.xml")
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=grid.width, height=grid.height, count=1, dtype="uint8", nodata=NODATA, crs=grid.crs,
            transform=grid.affine, tiled=True, compress="deflate",
        ) as raster:  # fmt: skip
            raster.write(found.classes, 1)
            raster.write_colormap(1, {value: (*rgb, 255) for value, rgb in colors(found.legend).items()})
            raster.update_tags(AREA_OR_POINT="Area", EARTHLOOM_SOURCE=found.source)
            raster.update_tags(1, **class_tags(found.legend))
            raster.set_band_description(1, f"{found.name} class")
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            copy(
                memory.name, file, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=512, OVERVIEW_RESAMPLING="MODE",
                BIGTIFF="IF_SAFER",
            )  # fmt: skip
    style.write_bytes(class_style(found.legend))
    names.write_bytes(pam(found.legend, found.areas))
    return [file, style, names]


def _outline(clip: gpd.GeoDataFrame) -> str:
    """All polygons as one GeoJSON geometry in longitude and latitude."""
    import shapely

    if clip.crs is None:
        raise ConfigError(
            "the polygons to clip by do not say their CRS; write it into the file: ogr2ogr -a_srs EPSG:<code>"
        )
    whole = shapely.union_all(clip.geometry.to_crs("EPSG:4326").to_numpy())
    if whole.geom_type not in ("Polygon", "MultiPolygon") or whole.is_empty:
        raise ConfigError(f"what to clip by is a {whole.geom_type} and no area; give polygons")
    return str(shapely.to_geojson(whole))


def _window(grid: Grid, outline: str) -> Window:
    """The pixels around the polygons."""
    import shapely
    from pyproj import Transformer

    to_grid = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    dense = shapely.segmentize(shapely.from_geojson(outline), _EDGE_DEG)
    points = shapely.get_coordinates(dense)
    col, row = ~grid.affine @ to_grid.transform(points[:, 0], points[:, 1])
    left, right, top, bottom = math.floor(col.min()), math.ceil(col.max()), math.floor(row.min()), math.ceil(row.max())
    return Window(left, top, right - left, bottom - top).grow(1) & grid.window


def _reprojected(
    name: str, grid: Grid, crs: str, layers: tuple[NDArray[np.uint8], ...]
) -> tuple[Grid, tuple[NDArray[np.uint8], ...]]:
    """Of each pixel of the new grid the one that its middle lies in. Its square pixels are such that a diagonal of the map
    has as many of them as before."""
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError

    try:
        there, back = (
            Transformer.from_crs(*pair, always_xy=True)
            for pair in ((CRS(grid.crs), CRS(crs)), (CRS(crs), CRS(grid.crs)))
        )
    except CRSError as error:
        raise ConfigError(f"`crs={crs}` is no CRS: {error}") from error
    left, bottom, right, top = there.transform_bounds(*grid.bounds, densify_pts=_EDGE_POINTS)
    if not all(map(math.isfinite, (left, bottom, right, top))):
        raise ConfigError(f"{name} does not lie in the area of `crs={crs}`; give one of its own ground")
    side = math.hypot(right - left, top - bottom) / math.hypot(grid.width, grid.height)
    width, height = math.ceil((right - left) / side), math.ceil((top - bottom) / side)
    _check_size(name, height, width)
    onto = Grid(crs=crs, transform=(side, 0.0, left, 0.0, -side, top), width=width, height=height)
    made = tuple(np.full((height, width), NODATA, np.uint8) for _ in layers)
    xs, ys = onto.xs(), onto.ys()
    for start in range(0, height, _STRIP_ROWS):
        x, y = np.meshgrid(xs, ys[start : start + _STRIP_ROWS])
        col, row = (np.floor(part) for part in ~grid.affine @ back.transform(x, y))
        known = (col >= 0) & (col < grid.width) & (row >= 0) & (row < grid.height)  # also false where it is not finite
        for layer, out in zip(layers, made, strict=True):
            out[start : start + _STRIP_ROWS][known] = layer[row[known].astype(np.intp), col[known].astype(np.intp)]
    return onto, made


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > _MOST_PX:
        raise ConfigError(
            f"{name}: {width} x {height} px are more than the {_MOST_PX / 1e6:.0f} million that an export holds in memory; "
            "give `clip`, a smaller area. The published COG itself has no limit"
        )


def _convergence_deg(grid: Grid) -> float:
    """Where true north is in the middle of the map, degrees clockwise from up."""
    from pyproj import Transformer

    x, y = grid.affine @ (grid.width / 2, grid.height / 2)
    to_lonlat, back = (
        Transformer.from_crs(*pair, always_xy=True) for pair in ((grid.crs, "EPSG:4326"), ("EPSG:4326", grid.crs))
    )
    lon, lat = to_lonlat.transform(x, y)
    east, north = back.transform(lon, lat + 1e-4)
    return math.degrees(math.atan2(east - x, north - y))
