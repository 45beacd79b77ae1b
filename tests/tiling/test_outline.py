"""Which pixels an area holds, against a point-in-polygon test of each pixel's centre."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.geometry import Point, shape

from earthloom.tiling.aoi import outline_of_bbox
from earthloom.tiling.grid import Grid
from earthloom.tiling.outline import inside
from earthloom.tiling.window import Window

GRID = Grid(crs="EPSG:32718", transform=(300.0, 0.0, 530_000.0, 0.0, -300.0, 9_080_000.0), width=70, height=60)
HOLED: dict[str, Any] = {
    "type": "Polygon",
    "coordinates": [
        [[-74.71, -8.45], [-74.56, -8.47], [-74.55, -8.33], [-74.70, -8.34], [-74.71, -8.45]],
        [[-74.65, -8.41], [-74.61, -8.41], [-74.63, -8.37], [-74.65, -8.41]],
    ],
}


def test_a_pixel_is_inside_when_its_centre_is() -> None:
    found = inside(json.dumps(HOLED), GRID, GRID.window)
    to_lonlat = Transformer.from_crs(GRID.crs, "EPSG:4326", always_xy=True)
    area = shape(HOLED)
    x, y = np.meshgrid(GRID.xs(), GRID.ys())
    lon, lat = to_lonlat.transform(x, y)
    expected = np.array([area.contains(Point(*at)) for at in zip(lon.ravel(), lat.ravel(), strict=True)])
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(found.ravel(), expected)


def test_a_window_holds_what_the_whole_grid_holds_there() -> None:
    several = {"type": "MultiPolygon", "coordinates": [HOLED["coordinates"]]}
    whole = inside(json.dumps(several), GRID, GRID.window)
    window = Window(13, 7, 40, 35)
    assert np.array_equal(inside(json.dumps(several), GRID, window), whole[window.slices(GRID.window)])


@pytest.mark.parametrize("west", [179.5, -180.5])
def test_an_area_is_found_on_a_grid_that_goes_on_beyond_180_degrees(west: float) -> None:
    grid = Grid(crs="EPSG:4326", transform=(0.01, 0, west, 0, -0.01, 65.5), width=128, height=96)
    rings = (
        [[179.6, 64.7], [180, 64.7], [180, 65.4], [179.6, 64.7]],
        [[-180, 64.7], [-179.4, 65.4], [-180, 65.4], [-180, 64.7]],
    )
    area = {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
    x, y = np.meshgrid(np.mod(grid.xs() + 180, 360) - 180, grid.ys())
    places = shapely.points(x, y)
    expected = np.logical_or(*(shapely.contains(shapely.Polygon(ring), places) for ring in rings))
    assert expected[:, :40].any()
    assert expected[:, 60:].any()
    assert np.array_equal(inside(json.dumps(area), grid, grid.window), expected)


def test_a_ring_that_is_not_closed_is_closed() -> None:
    rings = [ring[:-1] for ring in HOLED["coordinates"]]
    whole = inside(json.dumps(HOLED), GRID, GRID.window)
    assert np.array_equal(inside(json.dumps({"type": "Polygon", "coordinates": rings}), GRID, GRID.window), whole)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3995"])
def test_a_parallel_around_a_pole_is_a_circle(crs: str) -> None:
    """Along one edge of 360 degrees, whose chords would leave out rings of several pixels."""
    grid = Grid(crs=crs, transform=(2000.0, 0.0, -3_400_000.0, 0.0, -2000.0, 3_400_000.0), width=3400, height=800)
    area = outline_of_bbox((-180, 61, 180, 90))
    x, y = np.meshgrid(grid.xs(), grid.ys())
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(x, y)
    different = inside(json.dumps(area), grid, grid.window) != (lat >= 61)
    different &= np.abs(lon) < 179.9  # centres on the cut itself lie on either side of it
    assert different.sum() < 15, "of some 3000 pixels that the circle passes through"
