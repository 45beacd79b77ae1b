"""Outlines of pixels against GDAL's, however the pixels were cut; and where they lie on Earth."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pyproj import Transformer

from earthloom.jobs.monitoring.alerts.labelling import label
from earthloom.jobs.monitoring.alerts.outlines import to_lonlat, trace, unite
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=14))
CHECKERED = np.indices((7, 8)).sum(axis=0) % 2 == 0
PINCHED = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]], np.bool_)
"""A hole that touches the outside at a corner."""


def outlines(mask: NDArray[np.bool_], window: Window) -> NDArray[np.object_]:
    found = label(mask)
    return trace(found.image(window.shape), window, found.n_components)


def place(mask: NDArray[np.bool_]) -> Window:
    return Window(100, 2000, mask.shape[1], mask.shape[0])


@settings(deadline=None, max_examples=150)
@given(mask=MASKS)
@example(mask=CHECKERED)
@example(mask=PINCHED)
@example(mask=~PINCHED)
def test_outlines_are_those_of_gdal_and_valid(mask: NDArray[np.bool_]) -> None:
    window = place(mask)
    found = outlines(mask, window)
    pixels = label(mask)
    assert shapely.is_valid(found).all()
    assert shapely.area(found).tolist() == pixels.sum(pixels.length).tolist()
    transform = rasterio.Affine.translation(window.col_off, window.row_off)
    shapes = rasterio.features.shapes(pixels.image(window.shape), mask=mask, connectivity=4, transform=transform)
    theirs: dict[int, list[shapely.Geometry]] = {}
    for geometry, value in shapes:  # GDAL's rings may touch themselves, which a buffer of nothing mends
        theirs.setdefault(int(value) - 1, []).append(shapely.geometry.shape(geometry).buffer(0))
    for number, outline in enumerate(found):
        assert shapely.equals(outline, shapely.union_all(theirs[number]))


@settings(deadline=None, max_examples=150)
@given(mask=MASKS, tile_px=st.integers(1, 6))
@example(mask=CHECKERED, tile_px=3)
@example(mask=PINCHED, tile_px=2)
def test_outlines_put_together_from_tiles_are_those_of_the_whole(mask: NDArray[np.bool_], tile_px: int) -> None:
    window = place(mask)
    whole, image = outlines(mask, window), label(mask).image(window.shape)
    parts: dict[int, list[shapely.MultiPolygon]] = {}
    for tile in window.split(tile_px):
        labels = image[tile.slices(window)]
        inside = label(labels > 0)
        for outline, row, col in zip(
            trace(inside.image(tile.shape), tile, inside.n_components), *inside.first_pixels(), strict=True
        ):
            parts.setdefault(int(labels[row, col]) - 1, []).append(outline)
    assert [unite(parts[number]).wkb for number in range(len(whole))] == [outline.wkb for outline in whole]


UTM = Grid(crs="EPSG:32718", transform=(30.0, 0, 500_000.0, 0, -30.0, 9_100_000.0), width=400, height=300)


def test_pixels_lie_where_their_grid_says() -> None:
    (found,) = to_lonlat([shapely.MultiPolygon([shapely.box(10, 20, 200, 23)])], UTM)
    back = Transformer.from_crs("EPSG:4326", UTM.crs, always_xy=True)
    x, y = back.transform(*shapely.get_coordinates(found).T)
    assert [min(x), max(x), min(y), max(y)] == pytest.approx([500_300, 506_000, 9_099_310, 9_099_400], abs=0.02)
    assert found.geom_type == "MultiPolygon"
    assert found.is_valid


def test_a_long_edge_follows_the_grid_and_not_the_chord() -> None:
    grid = Grid(crs="EPSG:32633", transform=(30.0, 0, 300_000.0, 0, -30.0, 7_000_000.0), width=2048, height=10)
    (found,) = to_lonlat([shapely.MultiPolygon([shapely.box(0, 0, 2048, 1)])], grid)
    ends = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = ends.transform(300_000 + 1024 * 30, 7_000_000)
    assert found.distance(shapely.Point(lon, lat)) * 111_000 < 0.2, "metres; the chord errs by 146"


@pytest.mark.parametrize(
    "grid",
    [
        Grid(crs="EPSG:4326", transform=(0.01, 0, 179.9, 0, -0.01, 10.0), width=20, height=10),
        Grid(crs="EPSG:32660", transform=(1000.0, 0, 820_000.0, 0, -1000.0, 1_000_000.0), width=40, height=10),
        Grid(crs="EPSG:3832", transform=(1000.0, 0, 3_320_000.0, 0, -1000.0, 1_000_000.0), width=40, height=10),
    ],
)
def test_outlines_are_cut_at_the_antimeridian(grid: Grid) -> None:
    across = shapely.MultiPolygon([shapely.box(0, 0, grid.width, grid.height)])
    (found,) = to_lonlat([across], grid)
    west, _, east, _ = found.bounds
    assert (west, east) == (-180, 180)
    assert len(found.geoms) == 2
    assert sum(part.bounds[2] - part.bounds[0] for part in found.geoms) < 1
    assert found.is_valid


@pytest.mark.parametrize(
    "box", [(20, 5, 60, 30), (70, 10, 90, 25), (30, 30, 75, 90)], ids=["across", "beside", "around the pole"]
)
def test_outlines_of_a_polar_grid_hold_their_own_ground(box: tuple[int, int, int, int]) -> None:
    grid = Grid(crs="EPSG:3413", transform=(20_000.0, 0, -1_000_000, 0, -20_000.0, 1_000_000), width=100, height=100)
    left, top, right, bottom = box
    hole = shapely.box(left + 12, top + 8, left + 15, top + 12)
    (found,) = to_lonlat([shapely.MultiPolygon([shapely.box(*box).difference(hole)])], grid)
    lon, lat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(*np.meshgrid(grid.xs(), grid.ys()))
    expected = np.zeros(grid.shape, bool)
    expected[top:bottom, left:right] = True
    expected[top + 8 : top + 12, left + 12 : left + 15] = False
    np.testing.assert_array_equal(shapely.intersects_xy(found, lon, lat), expected)
    assert found.is_valid
    assert found.bounds[0] >= -180
    assert found.bounds[2] <= 180


def test_outlines_beside_the_antimeridian_stay_whole() -> None:
    grid = Grid(crs="EPSG:4326", transform=(1.0, 0, -180.0, 0, -1.0, 90.0), width=360, height=180)
    found = to_lonlat([shapely.MultiPolygon([shapely.box(col, 5, col + 1, 6)]) for col in (0, 359)], grid)
    assert [outline.bounds for outline in found] == [(-180, 84, -179, 85), (179, 84, 180, 85)]


def test_no_outlines_are_no_outlines() -> None:
    assert len(to_lonlat([], UTM)) == 0
    assert len(trace(np.zeros((3, 4), np.int32), Window(0, 0, 4, 3), 0)) == 0
