"""Which pixels an area holds, against a point-in-polygon test of each pixel's centre."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.features import geometry_mask
from shapely.geometry import Point, shape

from earthloom.tiling import outline
from earthloom.tiling.aoi import outline_of_bbox
from earthloom.tiling.geojson import densified
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


@pytest.mark.parametrize("up", [1, -1], ids=["south up", "north up"])
def test_windows_of_an_area_of_many_corners_are_the_whole_grid_and_its_edges_are_made_once(
    up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(up + 1)  # each of an area of its own, as edges are kept
    grid = Grid(crs="EPSG:4326", transform=(0.01, 0, 10.0, 0, 0.01 * up, 50.0 - up), width=200, height=200)
    middle = np.array([11.0, 50.0])
    turn, far = np.linspace(0, 2 * np.pi, 600, endpoint=False), rng.uniform(0.4, 1.3, 600)  # it reaches beyond the grid
    jagged = middle + np.column_stack([np.cos(turn), np.sin(turn)]) * far[:, None]
    crossing = np.round(middle + rng.uniform(-1.4, 1.4, (25, 2)), 2) + 0.005  # through middles of pixels, and itself
    rings = [jagged, middle + (jagged - middle) / 4, crossing]
    area = {"type": "MultiPolygon", "coordinates": [[closed(rings[0]), closed(rings[1])], [closed(rings[2])]]}
    made: list[int] = []

    def counted(ring: NDArray[np.float64]) -> NDArray[np.float64]:
        made.append(len(ring))
        return densified(ring)

    monkeypatch.setattr(outline, "densified", counted)
    split = grid.window.split(37)
    found = {window: inside(json.dumps(area), grid, window) for window in split}
    assert made == [601, 601, 26]
    dense = [[densified(np.array(ring)).tolist() for ring in polygon] for polygon in area["coordinates"]]
    whole = geometry_mask(
        [{"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in polygon]} for polygon in dense],
        out_shape=grid.shape, transform=grid.affine, invert=True,
    )  # fmt: skip
    assert 0.1 < whole.mean() < 0.9
    for window, mask in found.items():
        assert np.array_equal(mask, whole[window.slices(grid.window)]), window


def closed(ring: NDArray[np.float64]) -> list[list[float]]:
    return [*ring.tolist(), ring[0].tolist()]


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
