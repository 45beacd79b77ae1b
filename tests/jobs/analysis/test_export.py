"""Exports read back by rasterio, pyogrio and Pillow, against the map's own pixels."""

from __future__ import annotations

import datetime
import io
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from pyproj import CRS, Transformer
from rio_cogeo.cogeo import cog_validate

from earthloom.jobs.analysis import export as exporting
from earthloom.jobs.analysis import extract as extracting
from earthloom.jobs.analysis.export import picture, polygons, write_extract
from earthloom.jobs.analysis.extract import extract
from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.jobs.products.legend import ClassLegend
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.storage.store import Store
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window
from tests.jobs.monitoring.test_zonal import CLASSES, STORE, UTM, a_map

MERCATOR = Grid(crs="EPSG:3857", transform=(30.0, 0.0, -1.25e7, 0.0, -30.0, 5.0e6), width=50, height=40)
MAP = a_map(UTM, 3)
SINUSOIDAL = CRS("+proj=sinu +R=6371007.181 +units=m").to_wkt()
"""Of MODIS, on a sphere."""


def box(grid: Grid, window: Window) -> gpd.GeoDataFrame:
    part = grid.crop(window)
    return gpd.GeoDataFrame(geometry=[shapely.box(*part.bounds)], crs=grid.crs)


def test_a_clipped_tiff_holds_the_map_s_pixels_where_they_lie_and_nodata_outside(tmp_path: Path) -> None:
    part = Window(10, 5, 20, 15)
    files = write_extract(extract(STORE, MAP, clip=box(UTM, part)), tmp_path / "part.tif")
    assert [file.name for file in files] == ["part.tif", "part.qml", "part.tif.aux.xml"]
    assert cog_validate(files[0], strict=True, quiet=True)[0]
    with rasterio.open(files[0]) as found:
        assert (found.crs, found.nodata) == (UTM.crs, 255)
        assert found.tags(1)["CLASS_1"] == "water"
        window = found.window(*UTM.crop(part).bounds)
        np.testing.assert_array_equal(found.read(1, window=window), MAP.values[part.slices(UTM.window)])
        inside = np.zeros(found.shape, bool)
        inside[window.toslices()] = True
        assert (found.read(1)[~inside] == 255).all()


def test_edges_of_polygons_are_straight_in_the_polygons_own_crs() -> None:
    grid = Grid(crs="EPSG:32633", transform=(1000.0, 0, 300000, 0, -1000.0, 6700000), width=70, height=60)
    part = Window(2, 3, 64, 50)
    inner = shapely.box(*grid.crop(Window(20, 20, 10, 10)).bounds)
    crossed = shapely.Polygon([(310000, 6650500), (350000, 6655500), (350000, 6650500), (310000, 6655500)])
    clip = gpd.GeoDataFrame(geometry=[shapely.box(*grid.crop(part).bounds).difference(inner), crossed], crs=grid.crs)
    one = a_map(grid, 3)
    inside = np.zeros(grid.shape, bool)
    inside[3:53, 2:66] = True
    inside[20:30, 20:30] = False
    found = extract(STORE, one, clip=clip)
    classes, _ = found.read(found.grid.window)
    expected = np.where(inside, one.values, 255)
    np.testing.assert_array_equal(classes, expected[found.part.slices(grid.window)])
    assert (classes != 255).sum() == (expected != 255).sum()
    with pytest.raises(ConfigError, match="feature 0 is a LinearRing"):
        extract(STORE, MAP, clip=gpd.GeoDataFrame(geometry=[inner.exterior], crs=grid.crs))


@pytest.mark.parametrize(
    ("crs", "clip"),
    [
        ("EPSG:3413", shapely.box(-302_500, -202_500, 402_500, 502_500)),  # around the pole, where longitudes are none
        ("EPSG:4326", shapely.box(-100.001, 84, 100, 90)),
        ("EPSG:4326", shapely.MultiPolygon([shapely.box(150.003, 82, 180, 86), shapely.box(-180, 82, -150, 86)])),
    ],
    ids=["polar", "to the pole", "across 180 degrees"],
)
def test_a_map_is_clipped_where_longitudes_begin_anew(crs: str, clip: shapely.Geometry) -> None:
    grid = Grid(crs="EPSG:3413", transform=(10_000.0, 0, -1_000_000, 0, -10_000.0, 1_004_000), width=200, height=201)
    x, y = np.meshgrid(grid.xs(), grid.ys())
    inside = shapely.intersects_xy(clip, *Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y))
    one = a_map(grid, 3)
    found = extract(STORE, one, clip=gpd.GeoDataFrame(geometry=[clip], crs=crs))
    classes = np.full(grid.shape, 255, np.uint8)
    classes[found.part.slices(grid.window)], _ = found.read(found.grid.window)
    assert inside.any()
    np.testing.assert_array_equal(classes, np.where(inside, one.values, 255))


@pytest.mark.parametrize(
    "grid",
    [
        Grid(
            crs="EPSG:4326", transform=(0.05, 0, 10.0, 0, -0.05, 62.0), width=300, height=60
        ),  # parallels are no geodesics
        Grid(crs="EPSG:3413", transform=(10_000.0, 0, -1_000_000, 0, -10_000.0, 1_000_000), width=200, height=200),
        Grid(crs=SINUSOIDAL, transform=(463.3, 0, -8_895_000.0, 0, -463.3, 4_447_000.0), width=200, height=200),
        Grid(crs="EPSG:27700", transform=(100.0, 0, 400_000.0, 0, -100.0, 400_000.0), width=200, height=200),
        Grid(crs="EPSG:4807", transform=(0.01, 0, 2.0, 0, -0.01, 54.0), width=200, height=200),
    ],
    ids=["degrees", "polar", "sphere", "airy", "grads"],
)
def test_polygons_have_the_true_areas_of_their_pixels_however_long_their_edges(grid: Grid) -> None:
    values = np.zeros(grid.shape, np.uint8)
    values[10:50, 20:150] = 1
    values[15:25, 40:60] = 0  # a hole, and a piece in it
    found = polygons(extract(STORE, replace(a_map(grid, 2), values=values, trust=values + 99)))
    areas = pixel_areas_m2(grid, grid.window)
    hole = areas[15:25, 40:60].sum()
    expected = sorted([hole, areas[values == 1].sum(), areas[values == 0].sum() - hole])
    np.testing.assert_allclose(sorted(found["area_m2"]), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["a.tif", "a.gpkg", "a.shp", "a.geojson", "a.png"])
def test_a_file_that_cannot_be_written_is_said_and_no_traceback(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"`output=.*` cannot be written: "):
        write_extract(extract(STORE, MAP), tmp_path / "no folder" / name)


def test_another_crs_takes_each_pixel_from_the_nearest(tmp_path: Path) -> None:
    found = extract(STORE, MAP, crs="EPSG:4326")
    x, y = np.meshgrid(found.grid.xs(), found.grid.ys())
    col, row = ~UTM.affine @ Transformer.from_crs(4326, UTM.crs, always_xy=True).transform(x, y)
    known = (col > 0) & (col < UTM.width) & (row > 0) & (row < UTM.height)
    expected = MAP.values[row[known].astype(int), col[known].astype(int)]
    classes, _ = found.read(found.grid.window)
    np.testing.assert_array_equal(classes[known], expected)
    assert (classes[~known] == 255).all()
    assert found.grid.gsd_m() == pytest.approx(30, rel=0.05)
    with pytest.raises(ConfigError, match="`crs=EPSG:1` is no CRS"):
        extract(STORE, MAP, crs="EPSG:1")


@pytest.mark.parametrize("west", [179.5, -180.5])
@pytest.mark.parametrize("crs", [None, "EPSG:32601"])
def test_polygons_on_both_sides_of_the_antimeridian_clip_a_map_that_goes_on_across_it(
    west: float, crs: str | None
) -> None:
    grid = Grid(crs="EPSG:4326", transform=(0.02, 0, west, 0, -0.02, 65.5), width=64, height=48)
    one = a_map(grid, 5)
    sides = [shapely.box(179.601, 64.8, 180, 65.2), shapely.box(-180, 64.8, -179.651, 65.2)]
    found = extract(STORE, one, clip=gpd.GeoDataFrame(geometry=sides, crs="EPSG:4326"), crs=crs)
    x, y = np.meshgrid(found.grid.xs(), found.grid.ys())
    lon, lat = Transformer.from_crs(found.grid.crs, 4326, always_xy=True).transform(x, y)
    col, row = np.floor(np.mod(lon - west, 360) / 0.02), np.floor((65.5 - lat) / 0.02)
    middle = np.mod(west + (col + 0.5) * 0.02, 360)  # of the stored pixel, which counts where its middle lies
    inside = (middle > 179.601) & (middle < 180.349) & (row >= 15) & (row < 35)
    classes, _ = found.read(found.grid.window)
    np.testing.assert_array_equal(classes[inside], one.values[row[inside].astype(int), col[inside].astype(int)])
    assert (classes[~inside] == 255).all()
    assert inside.sum() > 500


@pytest.mark.parametrize("grid", [UTM, MERCATOR])
@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.geojson", "a.fgb"])
def test_polygons_cover_each_class_with_its_true_area(grid: Grid, name: str, tmp_path: Path) -> None:
    one = a_map(grid, 1)
    write_extract(extract(STORE, one), tmp_path / name)
    pyogrio()
    back = gpd.read_file(tmp_path / name)
    areas = pixel_areas_m2(grid, grid.window)
    for entry in CLASSES:
        of_class = back[back["class"] == entry.name]
        assert of_class["area_m2"].sum() == pytest.approx(areas[one.values == entry.value].sum(), rel=1e-3)
    assert len(polygons(extract(STORE, one), min_area_m2=5 * areas.max())) < len(back)


def test_a_picture_has_its_legend_s_colours_a_scale_and_north() -> None:
    found = extract(STORE, MAP)
    image = np.asarray(Image.open(io.BytesIO(picture(found, "Ponds in July"))).convert("RGB"))
    assert min(image.shape[:2]) > 300
    arrow = image[-60:, :]
    assert ((arrow == (27, 34, 44)).all(axis=2)).sum() > 150, "scale bar and arrow are drawn in ink"


@pytest.mark.parametrize(
    ("crs", "corner", "side", "north_deg"),
    [
        ("EPSG:32618", (480_000, 4_000_000), 100.0, 0), ("EPSG:3857", (20_000_000, 4_000_000), 500.0, 0),  # beyond 180 degrees
        ("EPSG:3031", (1_000_000, 10_000), 100.0, 90), ("EPSG:3413", (1_000_000, -999_000), 10.0, -45),
    ],
)  # fmt: skip
def test_the_arrow_points_north(crs: str, corner: tuple[float, float], side: float, north_deg: float) -> None:
    x, y = corner
    grid = Grid(crs=crs, transform=(side, 0, x, 0, -side, y), width=200, height=200)
    assert exporting._convergence_deg(grid) == pytest.approx(north_deg, abs=0.6)


def test_a_map_with_a_pole_in_its_middle_has_an_arrow() -> None:
    grid = Grid(crs="EPSG:3413", transform=(2000.0, 0, -200_000, 0, -2000.0, 200_000), width=200, height=200)
    assert math.isfinite(exporting._convergence_deg(grid))


def test_a_picture_of_a_scene_tells_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def drawn(*_: object, legend: ClassLegend, **__: object) -> bytes:
        told.append(legend.title)
        return b""

    monkeypatch.setattr(exporting, "quicklook_png", drawn)
    scene = replace(a_map(UTM, 3, prefix="scenes/lake/0a"), name="lake")
    last_day = replace(scene, end=datetime.date(2020, 7, 31))
    for one in (scene, last_day, replace(scene, start=None, end=None)):
        picture(extract(STORE, one), "Ponds")
    assert told == ["lake, 2020-07-01", "lake, 2020-07-01 to 2020-07-31", "lake"]


def test_what_cannot_be_exported_is_refused_with_the_remedy(tmp_path: Path) -> None:
    found = extract(STORE, MAP)
    with pytest.raises(ConfigError, match=r"an export is one of \.tif, \.gpkg"):
        write_extract(found, tmp_path / "a.jpg")
    with pytest.raises(ConfigError, match="covers nothing of the polygons"):
        extract(STORE, MAP, clip=gpd.GeoDataFrame(geometry=[shapely.box(10, 10, 11, 11)], crs="EPSG:4326"))


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
def test_windows_change_nothing_of_what_is_written(
    crs: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(name: str) -> tuple[NDArray[np.uint8], bytes, gpd.GeoDataFrame, bytes]:
        found = extract(STORE, MAP, clip=box(UTM, Window(4, 6, 50, 30)), crs=crs)
        tif, _, names = write_extract(found, tmp_path / f"{name}.tif")
        with rasterio.open(tif) as raster:
            return raster.read(1), names.read_bytes(), polygons(found), picture(found, "Ponds")

    whole = written("whole")
    monkeypatch.setattr(extracting, "WINDOW_PX", 16)
    cut = written("cut")
    np.testing.assert_array_equal(cut[0], whole[0])
    assert cut[2].equals(whole[2])
    assert (cut[1], cut[3]) == (whole[1], whole[3])


class Sparse(ClassMap):
    """A large map with a pond here and there, made as it is read."""

    def read(self, _: Store, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        classes = np.full(window.shape, 255, np.uint8)
        classes[100:140, 200:260] = 1
        return classes, np.where(classes == 255, 255, 200).astype(np.uint8)


@pytest.mark.parametrize("name", ["a.tif", "a.gpkg", "a.png"])
def test_memory_does_not_grow_with_the_map(name: str, tmp_path: Path) -> None:
    side, window_px = 8192, extracting.WINDOW_PX
    grid = Grid(crs=UTM.crs, transform=UTM.transform, width=side, height=side)
    large = Sparse(name="large", start=None, end=None, made_of="", grid=grid, shard_px=2048, classes=CLASSES)
    tracemalloc.start()
    try:
        write_extract(extract(STORE, large), tmp_path / name)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < side * side / 2  # one layer of it would be twice that
    n_ponds = (side // window_px) ** 2
    if name == "a.tif":
        with rasterio.open(tmp_path / name) as found:
            assert int((found.read(1) == 1).sum()) == n_ponds * 40 * 60
    if name == "a.gpkg":
        assert len(gpd.read_file(tmp_path / name)) == n_ponds


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32601"])
def test_a_map_over_180_degrees_keeps_its_pixels_in_another_crs(crs: str) -> None:
    grid = Grid(crs="EPSG:32660", transform=(2000.0, 0, 560_000, 0, -2000.0, 7_200_000), width=100, height=60)
    one = a_map(grid, 2)
    found = extract(STORE, one, crs=crs)
    classes, _ = found.read(found.grid.window)
    assert 0.5 < found.grid.gsd_m() / grid.gsd_m() < 1.5
    x, y = np.meshgrid(found.grid.xs(), found.grid.ys())
    col, row = ~grid.affine * np.array(Transformer.from_crs(crs, grid.crs, always_xy=True).transform(x, y))
    known = (col >= 0) & (col < grid.width) & (row >= 0) & (row < grid.height)
    assert known.mean() > 0.6
    np.testing.assert_array_equal(classes[known], one.values[row[known].astype(int), col[known].astype(int)])
    assert (classes[~known] == 255).all()


def test_a_map_around_a_pole_is_not_cut_by_a_crs_that_has_none() -> None:
    grid = Grid(crs="EPSG:3413", transform=(20_000.0, 0, -1_000_000, 0, -20_000.0, 1_000_000), width=100, height=100)
    with pytest.raises(ConfigError, match="does not lie in the area of `crs=EPSG:3857`"):
        extract(STORE, a_map(grid, 2), crs="EPSG:3857")
    assert extract(STORE, a_map(grid, 2), crs="EPSG:6931").grid.gsd_m() == pytest.approx(29_000, rel=0.05)


def test_geojson_is_cut_at_180_degrees_and_holds_the_same_ground(tmp_path: Path) -> None:
    grid = Grid(crs="EPSG:32660", transform=(2000.0, 0, 560_000, 0, -2000.0, 7_200_000), width=100, height=60)
    values = np.zeros(grid.shape, np.uint8)
    values[20:40, 10:90] = 1
    found = extract(STORE, replace(a_map(grid, 2), values=values, trust=values + 99))
    write_extract(found, tmp_path / "a.geojson")
    table = gpd.read_file(tmp_path / "a.geojson").set_index("value")
    assert (table.bounds.minx >= -180).all()
    assert (table.bounds.maxx <= 180).all()
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(*np.meshgrid(grid.xs(), grid.ys()))
    assert lon.min() < -179.9
    assert lon.max() > 179.9
    for value, shape in table.geometry.items():
        np.testing.assert_array_equal(shapely.contains_xy(shape, lon, lat), values == value)
        assert not shape.contains(shapely.Point(20, 64))


def test_outlines_are_drawn_where_the_picture_counts_their_longitudes() -> None:
    """The same map with longitudes counted from -180 degrees on, and up to 360, looks the same."""
    west = Grid(crs="EPSG:4326", transform=(0.1, 0, -178.0, 0, -0.1, 20.0), width=60, height=40)
    east = replace(west, transform=(0.1, 0, 182.0, 0, -0.1, 20.0))
    lake = gpd.GeoSeries([shapely.Point(-175, 18).buffer(1)], crs="EPSG:4326")
    pictures = [
        picture(extract(STORE, a_map(grid, 2)), "Lakes", lake.to_crs(crs)) for grid in (west, east)
        for crs in ("EPSG:4326", "EPSG:32601")
    ]  # fmt: skip
    bare = picture(extract(STORE, a_map(west, 2)), "Lakes")
    shown = [np.asarray(Image.open(io.BytesIO(each)).convert("RGB"), np.int16) for each in (bare, *pictures)]
    assert (shown[1] != shown[0]).any(axis=2).sum() > 100
    for other in shown[2:]:  # an arc may be another chord
        assert (other != shown[1]).any(axis=2).sum() < 20


def test_outlines_across_180_degrees_are_drawn_as_one() -> None:
    grid = Grid(crs="EPSG:4326", transform=(0.1, 0, 177.0, 0, -0.1, 20.0), width=60, height=40)
    cut = shapely.MultiPolygon([shapely.box(179, 17, 180, 19), shapely.box(-180, 17, -179, 19)])
    found = extract(STORE, a_map(grid, 2))
    as_cut, whole = (
        picture(found, "Lakes", gpd.GeoSeries([lake], crs="EPSG:4326")) for lake in (cut, shapely.box(179, 17, 181, 19))
    )
    assert as_cut == whole != picture(found, "Lakes")
