"""Files that count longitudes beyond 180 degrees, on grids that count them otherwise: each pixel, and each feature, where
PROJ says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import CRS, Transformer

from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.onto_grid import onto_grid
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.resampling import reached
from tests.scenes import write_scene
from tests.tiling.test_read import bands, scene

FIJI = Grid(crs="EPSG:32601", transform=(1000, 0, 330000, 0, -1000, 7280000), width=90, height=80)
"""Two degrees on either side of the antimeridian, at 65° N."""
LAKES = Grid(crs="EPSG:32617", transform=(20000, 0, 100000, 0, -20000, 5000000), width=40, height=50)
ACROSS = Grid(crs="EPSG:4326", transform=(0.05, 0, 179.0, 0, -0.05, 65.4), width=40, height=16)
BEFORE = Grid(crs="EPSG:4326", transform=(0.05, 0, -181.0, 0, -0.05, 65.4), width=40, height=16)
AMERICA = Grid(crs="EPSG:4326", transform=(0.7, 0, -120.3, 0, -0.7, 50.1), width=60, height=40)
MERCATOR = Grid(crs="EPSG:3857", transform=(5000, 0, 19900000, 0, -5000, 9700000), width=60, height=30)
"""On beyond the edge of Web Mercator, at 20037508 m."""
FILES = [
    ("EPSG:4326", 0.01, 178.5, 66.0, 300, 200),
    ("EPSG:4326", 0.01, -181.5, 66.0, 300, 200),
    ("EPSG:4326", 1.0, 0.0, 90.0, 360, 180),
    ("EPSG:4326", 1.0, -180.0, 90.0, 360, 180),
    ("EPSG:4326", 0.5, -0.25, 90.0, 720, 360),
    ("EPSG:4269", 1.0, 30.0, 90.0, 360, 180),
    ("EPSG:3857", 1000.0, 19900000.0, 9800000.0, 300, 200),
    ("EPSG:3857", 1000.0, -20100000.0, 9800000.0, 300, 200),
]
"""CRS, side of a pixel, west, north, columns, rows."""


@pytest.mark.parametrize("grid", [FIJI, LAKES, ACROSS, BEFORE, AMERICA, MERCATOR])
@pytest.mark.parametrize("file", FILES)
def test_every_place_is_found_where_the_file_has_it(
    tmp_path: Path, grid: Grid, file: tuple[str, float, float, float, int, int]
) -> None:
    crs, side, west, north, width, height = file
    values = np.random.default_rng(0).integers(1, 60000, (1, height, width)).astype(np.uint16)
    transform = Affine(side, 0, west, 0, -side, north)
    path = write_scene(tmp_path / "a.tif", values, crs=crs, transform=transform, nodata=0)
    known = tuple(replace(band, resampling="nearest") for band in bands(1, "uint16", 0.0))
    found = read_pixels(scene(path, bands=known, grid=grid), known, grid.window, 0)

    x, y = Transformer.from_crs(grid.crs, crs, always_xy=True).transform(*np.meshgrid(grid.xs(), grid.ys()))
    turn = 2 * np.pi * 6378137 if crs == "EPSG:3857" else 360
    col, row = np.mod(x - west, turn) / side, (north - y) / side
    inside = (col < width) & (row >= 0) & (row < height)
    clear = (np.abs(col - np.rint(col)) > 1e-6) & (np.abs(row - np.rint(row)) > 1e-6)  # of an edge between two pixels
    wanted = values[0, np.clip(row, 0, height - 1).astype(int), np.clip(col, 0, width - 1).astype(int)]
    np.testing.assert_array_equal(found.valid[clear], inside[clear])
    both = clear & inside
    np.testing.assert_array_equal(found.values[0][both], wanted[both])

    source = Grid(crs=crs, transform=tuple(transform)[:6], width=width, height=height)
    found.valid[reached(source, grid).slices(grid.window)] = False
    assert not found.valid.any(), "what is said not to be reached is not even read"


@pytest.mark.parametrize("west", [179.5, -180.5])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32601"])
def test_features_lie_where_the_grid_counts_their_longitudes(west: float, crs: str) -> None:
    grid = Grid(crs="EPSG:4326", transform=(0.01, 0, west, 0, -0.01, 65.5), width=128, height=96)
    lon, lat = np.array([179.6, 179.9, -179.9, -179.3]), np.full(4, 65.0)
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    near, found = onto_grid(shapely.points(x, y), CRS.from_user_input(crs), grid, "fields.gpkg")
    np.testing.assert_array_equal(near, np.arange(4))
    np.testing.assert_allclose(shapely.get_x(found), np.mod(lon - west, 360) / 0.01, atol=1 / 256)
    np.testing.assert_allclose(shapely.get_y(found), 50, atol=1 / 256)


@pytest.mark.parametrize("west", [179.5, -180.5])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_areas_that_are_cut_at_180_degrees_are_whole_where_the_grid_goes_on(west: float, crs: str) -> None:
    """A lake across the meridian, as RFC 7946 cuts it, and one land around the whole Earth."""
    grid = Grid(crs="EPSG:4326", transform=(0.01, 0, west, 0, -0.01, 65.5), width=128, height=96)
    lake = shapely.MultiPolygon([shapely.box(179.8, 64.8, 180, 65.2), shapely.box(-180, 64.8, -179.7, 65.2)])
    world = shapely.box(-180, 64.9, 180, 65.1)
    move = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    areas = [shapely.transform(area, lambda points: np.column_stack(move(*points.T))) for area in (lake, world)]
    far = [shapely.transform(shapely.box(10, 64, 11, 65), lambda points: np.column_stack(move(*points.T)))]
    near, found = onto_grid(np.array(areas + far, object), CRS.from_user_input(crs), grid, "water.gpkg")
    lon, lat = np.meshgrid(np.mod(grid.xs() + 180, 360) - 180, grid.ys())
    col, row = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    assert near.tolist() == [0, 1]
    for area, made in zip((lake, world), found, strict=True):
        wanted = shapely.contains_xy(area, lon, lat)
        clear = shapely.distance(shapely.boundary(area), shapely.points(lon, lat)) > 0.004
        np.testing.assert_array_equal(shapely.contains_xy(made, col, row)[clear], wanted[clear])
        assert wanted.sum() > 1000
