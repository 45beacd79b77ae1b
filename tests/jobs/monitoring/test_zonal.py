"""Areas in polygons against pixels intersected one by one with shapely, and against GeographicLib."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer

from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.jobs.monitoring.series.zonal import place, read_zones, zonal
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.storage.store import Store
from earthloom.tiling.vectors import pyogrio
from earthloom.tiling.window import Window
from tests.oracles import geodesic_area_m2

UTM = Grid(crs="EPSG:32718", transform=(30.0, 0.0, 540_000.0, 0.0, -30.0, 9_080_000.0), width=60, height=45)
DEGREES = Grid(crs="EPSG:4326", transform=(3e-4, 0.0, -74.9, 0.0, -3e-4, 61.0), width=60, height=45)
CLASSES = tuple(ClassInfo(value=i, name=name, color="#000000") for i, name in enumerate(("land", "water", "ice")))
DAY = datetime.date(2020, 7, 1)
STORE = cast(Store, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InMemory(ClassMap):
    """A map whose pixels are at hand, in place of storage."""

    values: Any = None
    trust: Any = None
    windows: Any = None

    def read(self, _: Store, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if self.windows is not None:
            self.windows.append(window)
        at = window.slices(self.grid.window)
        return self.values[at], self.trust[at]


PAST_180 = Grid(crs="EPSG:4326", transform=(0.02, 0, 178.0, 0, -0.02, 65.5), width=200, height=100)
WEST_OF_180 = Grid(crs="EPSG:4326", transform=(0.02, 0, 178.0, 0, -0.02, 65.5), width=100, height=100)
EAST_OF_180 = Grid(crs="EPSG:4326", transform=(0.02, 0, -180.0, 0, -0.02, 65.5), width=100, height=100)
GLOBE = Grid(crs="EPSG:4326", transform=(1.0, 0, -180.0, 0, -1.0, 90.0), width=360, height=60)


def a_map(grid: Grid, seed: int, shard_px: int = 16, **options: Any) -> InMemory:
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array([0, 1, 2, 255], np.uint8), grid.shape)
    trust = np.where(values == 255, 255, rng.integers(0, 251, grid.shape)).astype(np.uint8)
    return InMemory(
        name=f"map {seed}", start=DAY, end=DAY, made_of=str(seed), grid=grid, shard_px=shard_px, classes=CLASSES,
        values=values, trust=trust, **options,
    )  # fmt: skip


def blob(seed: int, grid: Grid) -> shapely.Polygon:
    """A star with a hole, partly off the grid, in the grid's CRS."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    radius = rng.uniform(4, 30, angles.size)
    col, row = rng.uniform(5, 55), rng.uniform(5, 40)
    a, _, c, _, e, f = grid.transform
    points = np.column_stack([c + a * (col + radius * np.cos(angles)), f + e * (row + radius * np.sin(angles))])
    hole = shapely.Point(c + a * col, f + e * row).buffer(abs(a) * 3)
    return cast(shapely.Polygon, shapely.Polygon(points).difference(hole))


def brute_force(one: InMemory, polygon: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(area, confidence * area) by class, nodata last: each pixel's box cut with the polygon by shapely."""
    a, _, c, _, e, f = one.grid.transform
    areas = pixel_areas_m2(one.grid, one.grid.window)
    totals, trust = np.zeros(4), np.zeros(4)
    for row in range(one.grid.height):
        for col in range(one.grid.width):
            box = shapely.box(c + a * col, f + e * (row + 1), c + a * (col + 1), f + e * row)
            weight = polygon.intersection(box).area / box.area * areas[row, col]
            slot = min(int(one.values[row, col]), 3)
            totals[slot] += weight
            trust[slot] += weight * one.trust[row, col] / 250
    return totals, trust


@pytest.mark.parametrize("grid", [UTM, DEGREES])
@pytest.mark.parametrize("seed", [0, 1])
def test_areas_are_those_of_pixels_cut_one_by_one(grid: Grid, seed: int) -> None:
    one, polygons = a_map(grid, seed), [blob(seed, grid), blob(seed + 7, grid)]
    table = zonal(STORE, [one], gpd.GeoDataFrame(geometry=polygons, crs=grid.crs))
    assert len(table) == 6
    for zone, polygon in enumerate(polygons):
        totals, trust = brute_force(one, polygon)
        rows = table[table["zone"] == zone]
        np.testing.assert_allclose(rows["area_m2"], totals[:3], rtol=2e-5)  # edges are cut in float32 by exactextract
        np.testing.assert_allclose(rows["nodata_m2"], totals[3], rtol=2e-5)
        np.testing.assert_allclose(rows["confidence"], trust[:3] / totals[:3], rtol=1e-4)
        np.testing.assert_allclose(rows["percent"], 100 * totals[:3] / totals[:3].sum(), rtol=2e-5)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 99), shard_px=st.integers(5, 70))
def test_shards_change_nothing(seed: int, shard_px: int) -> None:
    zones = gpd.GeoDataFrame(geometry=[blob(seed, UTM)], crs=UTM.crs)
    whole = zonal(STORE, [a_map(UTM, seed, 500)], zones)
    cut = zonal(STORE, [a_map(UTM, seed, shard_px)], zones)
    np.testing.assert_allclose(cut["area_m2"], whole["area_m2"], rtol=0, atol=0.02)
    assert cut.drop(columns=["area_m2", "nodata_m2", "percent", "confidence"]).equals(
        whole.drop(columns=["area_m2", "nodata_m2", "percent", "confidence"])
    )


def test_pixels_of_zones_that_share_an_edge_are_counted_once() -> None:
    one = a_map(UTM, 3)
    left, bottom, right, top = UTM.bounds
    middle = left + 777.7
    zones = gpd.GeoDataFrame(
        geometry=[shapely.box(left, bottom, middle, top), shapely.box(middle, bottom, right, top)], crs=UTM.crs
    )
    table = zonal(STORE, [one], zones)
    areas = pixel_areas_m2(UTM, UTM.window)
    for value in range(3):
        assert table[table["value"] == value]["area_m2"].sum() == pytest.approx(
            areas[one.values == value].sum(), rel=1e-7
        )


def test_zones_of_any_crs_lie_where_they_are() -> None:
    one, polygon = a_map(UTM, 5), blob(5, UTM)
    own = zonal(STORE, [one], gpd.GeoDataFrame(geometry=[polygon], crs=UTM.crs))
    for crs in ("EPSG:4326", "EPSG:3857", "EPSG:32618"):
        other = gpd.GeoDataFrame(geometry=[polygon.segmentize(5)], crs=UTM.crs).to_crs(crs)
        np.testing.assert_allclose(zonal(STORE, [one], other)["area_m2"], own["area_m2"], rtol=1e-5)


def test_long_edges_are_straight_in_the_zones_own_crs() -> None:
    big = Grid(crs="EPSG:32618", transform=(1000.0, 0.0, 200_000.0, 0.0, -1000.0, 6_700_000.0), width=600, height=300)
    wide = gpd.GeoDataFrame(geometry=[shapely.box(-79.5, 58.5, -71.0, 60.0)], crs="EPSG:4326")
    placed = place(wide, big)
    x, y = np.linspace(-79.5, -71.0, 400), np.full(400, 60.0)
    edge = gpd.GeoSeries(gpd.points_from_xy(x, y), crs="EPSG:4326").to_crs(big.crs)
    pixels = [shapely.Point(~big.affine * (point.x, point.y)) for point in edge]
    assert max(placed.polygons[0].exterior.distance(point) for point in pixels) < 0.06
    box = Grid(crs="EPSG:4326", transform=(8.5, 0.0, -79.5, 0.0, -1.5, 60.0), width=1, height=1)
    assert placed.areas_m2[0] == pytest.approx(geodesic_area_m2(box, box.window), rel=2e-5)


def test_a_zone_off_the_grid_is_zero_and_one_across_its_edge_says_so() -> None:
    left, bottom, right, top = UTM.bounds
    inside, outside = shapely.box(left, bottom, right, top), shapely.box(right + 5e5, top, right + 6e5, top + 1e5)
    half = shapely.box(left - (right - left), bottom, right, top)
    far = gpd.GeoDataFrame(
        {"what": ["all", "none", "half"]}, geometry=[inside, outside, half], crs=UTM.crs
    )  # fmt: skip
    table = zonal(STORE, [a_map(UTM, 6)], far, "what")
    covered = table.groupby("name")["covered_percent"].first().to_dict()
    assert covered == {"all": 100.0, "none": 0.0, "half": pytest.approx(50.0, abs=0.1)}
    none = table[table["name"] == "none"]
    assert none["area_m2"].tolist() == [0.0, 0.0, 0.0]
    assert none["confidence"].isna().all()
    world = gpd.GeoDataFrame(geometry=[shapely.box(-180, -90, 180, 90)], crs="EPSG:4326")
    assert zonal(STORE, [a_map(UTM, 6)], world)["area_m2"].tolist() == pytest.approx(
        table[table["name"] == "all"]["area_m2"].tolist(), rel=1e-7
    )


@pytest.mark.parametrize("west", [179.5, -180.5, 175.0])
def test_zones_are_found_on_a_grid_that_goes_on_beyond_180_degrees(west: float) -> None:
    grid = Grid(crs="EPSG:4326", transform=(0.02, 0, west, 0, -0.02, 65.5), width=64, height=48)
    within = Grid(crs="EPSG:4326", transform=(0.02, 0, 10, 0, -0.02, 65.5), width=64, height=48)
    before, after = shapely.box(179.6, 64.8, 180, 65.2), shapely.box(-180, 64.8, -179.65, 65.2)
    shapes = [before, after, shapely.MultiPolygon([before, after]), shapely.box(-180, -90, 180, 90)]
    turned = [shapely.transform(shape, lambda xy: np.column_stack([np.mod(xy[:, 0] - west, 360) + 10, xy[:, 1]]))
              for shape in (before, shapely.box(-179.9999999999, 64.8, -179.65, 65.2))]  # fmt: skip
    found = zonal(STORE, [a_map(grid, 6)], gpd.GeoDataFrame(geometry=shapes, crs="EPSG:4326"))
    wanted = zonal(STORE, [a_map(within, 6)], gpd.GeoDataFrame(geometry=turned, crs="EPSG:4326"))

    def areas(table: pd.DataFrame, zone: int) -> NDArray[np.float64]:
        rows = table[table["zone"] == zone]
        return np.append(rows["area_m2"].to_numpy(), rows["nodata_m2"].iloc[0])

    meets = [0, 1] if west != 175.0 else []
    for zone in meets:
        np.testing.assert_allclose(areas(found, zone), areas(wanted, zone), rtol=1e-6)
        assert areas(found, zone).sum() > 1e8
    np.testing.assert_allclose(areas(found, 2), areas(found, 0) + areas(found, 1), rtol=1e-9)
    np.testing.assert_allclose(areas(found, 3).sum(), geodesic_area_m2(grid, grid.window), rtol=1e-6)


def test_a_zone_that_crosses_itself_is_mended_and_lines_are_refused() -> None:
    bow = shapely.Polygon([(540_100, 9_079_900), (540_700, 9_079_300), (540_700, 9_079_900), (540_100, 9_079_300)])
    table = zonal(STORE, [a_map(UTM, 7)], gpd.GeoDataFrame(geometry=[bow, None], crs=UTM.crs))
    assert table[table["zone"] == 0][["area_m2"]].sum().item() + table["nodata_m2"][0] == pytest.approx(
        600 * 300, rel=1e-3
    )
    assert table[table["zone"] == 1]["area_m2"].sum() == 0
    with pytest.raises(ConfigError, match="feature 1 is a LineString"):
        place(
            gpd.GeoDataFrame(geometry=[bow, bow.exterior.coords and shapely.LineString(bow.exterior)], crs=UTM.crs), UTM
        )
    with pytest.raises(ConfigError, match="no CRS"):
        place(gpd.GeoDataFrame(geometry=[bow]), UTM)


def test_only_strips_that_a_zone_meets_are_read() -> None:
    windows: list[Window] = []
    a, _, c, _, e, f = UTM.transform
    small = shapely.box(c + 17 * a, f + 20 * e, c + 30 * a, f + 18 * e)
    zonal(STORE, [a_map(UTM, 8, windows=windows)], gpd.GeoDataFrame(geometry=[small], crs=UTM.crs))
    assert windows == [Window(16, 16, 16, 16)]


def test_maps_come_in_their_order_whatever_their_grids() -> None:
    zones = gpd.GeoDataFrame(geometry=[shapely.box(-180, -90, 180, 90)], crs="EPSG:4326")
    maps = [a_map(UTM, 1), a_map(DEGREES, 2), a_map(UTM, 3)]
    table = zonal(STORE, maps, zones)
    assert list(dict.fromkeys(table["map"])) == ["map 1", "map 2", "map 3"]
    assert len(table) == 9


@pytest.mark.parametrize("name", ["zones.gpkg", "zones.geojson", "zones.fgb", "zones.parquet"])
def test_zones_are_read_from_the_files_that_people_have(tmp_path: Path, name: str) -> None:
    zones = gpd.GeoDataFrame({"what": ["a"]}, geometry=[shapely.box(-75, 60.99, -74.89, 61)], crs="EPSG:4326")
    pyogrio()
    write = zones.to_parquet if name.endswith("parquet") else zones.to_file
    write(tmp_path / name)
    table = zonal(STORE, [a_map(DEGREES, 4)], read_zones(str(tmp_path / name)), "what")
    assert set(table["name"]) == {"a"}
    assert table["area_m2"].sum() > 0
    with pytest.raises(ConfigError, match="no column `name=who`; they have what"):
        zonal(STORE, [a_map(DEGREES, 4)], zones, "who")


def test_a_file_of_several_layers_is_refused_as_nothing_says_which_is_meant(tmp_path: Path) -> None:
    zones = gpd.GeoDataFrame({"what": ["a"]}, geometry=[shapely.box(-75, 60.99, -74.89, 61)], crs="EPSG:4326")
    module = pyogrio()
    for layer in ("districts", "parcels"):
        zones.to_file(tmp_path / "two.gpkg", layer=layer)
    with pytest.raises(ConfigError, match=r"two\.gpkg has 2 layers \(districts, parcels\)"):
        read_zones(str(tmp_path / "two.gpkg"))
    zones.to_file(tmp_path / "one.gpkg", layer="districts")
    module.write_dataframe(zones.drop(columns="geometry"), tmp_path / "one.gpkg", layer="layer_styles", append=True)
    assert len(read_zones(str(tmp_path / "one.gpkg"))) == 1, "a table without geometries, as QGIS adds one, is no layer"


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.gpkg").write_text("no")
    with pytest.raises(ConfigError, match=r"no\.gpkg cannot be read as polygons"):
        read_zones(str(tmp_path / "no.gpkg"))


@pytest.mark.parametrize(
    ("grid", "crs", "zone"),
    [
        (PAST_180, "EPSG:32601", shapely.box(300_100, 7_130_000, 375_000, 7_190_000)),  # on both sides of 180 degrees
        (
            PAST_180,
            "EPSG:4326",
            shapely.MultiPolygon([shapely.box(179.51, 64, 180, 65), shapely.box(-180, 64, -179, 65)]),
        ),
        (WEST_OF_180, "EPSG:32601", shapely.box(300_100, 7_130_000, 375_000, 7_190_000)),
        (
            EAST_OF_180,
            "EPSG:4326",
            shapely.box(179.5, 64.3, 180.403, 64.7),
        ),  # longitudes that go on, as some programs write
        (GLOBE, "EPSG:3413", shapely.Point(0, 1).buffer(2.5e6).difference(shapely.Point(0, 1).buffer(1.2e6))),
    ],
    ids=["UTM on both sides", "cut in two", "UTM beyond the grid", "past 180", "around the pole"],
)
def test_zones_lie_where_they_are_whatever_becomes_of_their_longitudes(
    grid: Grid, crs: str, zone: shapely.Geometry
) -> None:
    one = a_map(grid, 4, shard_px=512)
    table = zonal(STORE, [one], gpd.GeoDataFrame(geometry=[zone], crs=crs))
    fine = grid.refine(8)
    x, y = np.meshgrid(fine.xs(), fine.ys())
    x, y = Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y)
    turned = [shapely.contains_xy(zone, x + turn, y) for turn in ((-360, 0, 360) if crs == "EPSG:4326" else (0,))]
    share = np.logical_or.reduce(turned).reshape(grid.height, 8, grid.width, 8).mean(axis=(1, 3))
    areas = share * pixel_areas_m2(grid, grid.window)
    expected = [areas[one.values == value].sum() for value in range(3)]
    assert min(expected) > 0
    np.testing.assert_allclose(table["area_m2"], expected, rtol=0.02)  # chords between a circle's corners
