"""Polygons of one CRS on grids of another, over 180 degrees and around a pole: a pixel lies in one where PROJ brings its middle
into the polygon as it was drawn."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from shapely import MultiPolygon, Point, box

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.onto_grid import onto_grid
from earthloom.tiling.turn import turn_of

GRIDS = {
    "from 179 to 181": Grid(crs="EPSG:4326", transform=(0.02, 0, 179, 0, -0.02, 65.5), width=100, height=50),
    "from -180": Grid(crs="EPSG:4326", transform=(0.02, 0, -180, 0, -0.02, 66), width=100, height=100),
    "world": Grid(crs="EPSG:4326", transform=(2, 0, -180, 0, -2, 90), width=180, height=90),
    "world to 360": Grid(crs="EPSG:4326", transform=(2, 0, 0, 0, -2, 90), width=180, height=90),
    "Mercator beyond": Grid(crs="EPSG:3857", transform=(5e3, 0, 199e5, 0, -5e3, 97e5), width=60, height=30),
    "Mercator": Grid(crs="EPSG:3857", transform=(2e5, 0, -2e7, 0, -2e5, 2e7), width=200, height=200),
    "UTM 1": Grid(crs="EPSG:32601", transform=(2000, 0, 230000, 0, -2000, 7300000), width=120, height=100),
    "north": Grid(crs="EPSG:3413", transform=(2e4, 0, -1e6, 0, -2e4, 1e6), width=100, height=100),
    "south": Grid(crs="EPSG:3031", transform=(2e4, 0, -1e6, 0, -2e4, 1e6), width=100, height=100),
    "Europe": Grid(crs="EPSG:3035", transform=(2e4, 0, 25e5, 0, -2e4, 55e5), width=200, height=200),
}
AREAS = {
    "across": ("EPSG:4326", box(179.8, 64.6, 180.3, 65.4)),
    "across, before -180": ("EPSG:4326", box(-180.3, 64.6, -179.7, 65.4)),
    "cut": ("EPSG:4326", MultiPolygon([box(179.8, 64.8, 180, 65.2), box(-180, 64.8, -179.7, 65.2)])),
    "with a hole": ("EPSG:4326", box(175, 60, 185, 70) - box(179.5, 64.9, 180.5, 65.1)),
    "around the Earth": ("EPSG:4326", box(0, 64.9, 360, 65.1)),
    "nearly everything": ("EPSG:4326", box(10, -60, 350, 80)),
    "everything": ("EPSG:4326", box(-180, -90, 180, 90)),
    "cap": ("EPSG:4326", box(-180, 82, 180, 90)),
    "Greenwich": ("EPSG:4326", box(355, 40, 365, 55)),
    "UTM 60": ("EPSG:32660", box(600000, 7150000, 760000, 7260000) - Point(643000, 7210000).buffer(20000)),
    "over the edge of Mercator": ("EPSG:3857", box(19900000, 9500000, 20200000, 9600000)),
    "disc at the pole": ("EPSG:3413", Point(1e5, 5e4).buffer(8e5)),
    "ring about the pole": ("EPSG:3413", Point(0, 0).buffer(12e5) - Point(0, 0).buffer(4e5)),
    "beside the pole": ("EPSG:3413", MultiPolygon([box(-9e5, -9e5, -1e5, 9e5), box(1e5, 2e5, 9e5, 9e5)])),
    "disc in the south": ("EPSG:3031", Point(0, 1e5).buffer(9e5)),
}


def _inside(area: shapely.Geometry, crs: str, grid: Grid) -> NDArray[np.bool_]:
    x, y = np.meshgrid(grid.xs(), grid.ys())
    if crs != grid.crs:
        x, y = Transformer.from_crs(grid.crs, crs, always_xy=True).transform(x, y)
    turn = turn_of(crs) or 0.0
    shapely.prepare(area)
    found: NDArray[np.bool_] = np.any([shapely.contains_xy(area, x + step, y) for step in (-turn, 0, turn)], axis=0)
    return found


def _off_edges(wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels all of whose neighbours are as they are: a curve may be followed by chords."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(wanted, 1, mode="edge"), (3, 3))
    clear: NDArray[np.bool_] = np.all(around, axis=(2, 3)) == np.any(around, axis=(2, 3))
    return clear


@pytest.mark.parametrize("on", GRIDS)
@pytest.mark.parametrize("what", AREAS)
def test_areas_cover_the_pixels_whose_middle_lies_in_them(what: str, on: str) -> None:
    (crs, area), grid = AREAS[what], GRIDS[on]
    wanted = _inside(area, crs, grid)
    near, found = onto_grid(np.array([area], object), CRS.from_user_input(crs), grid, "areas.gpkg")
    col, row = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    covered = shapely.contains_xy(found[0], col, row) if near.size else np.zeros_like(wanted)
    clear = _off_edges(wanted)
    assert np.array_equal(covered[clear], wanted[clear])


def test_points_on_the_edge_of_a_grid_and_beyond_180_degrees_are_found() -> None:
    grid = GRIDS["from 179 to 181"]
    points = shapely.points([179.0, -179.5, 180.5, 178.9, 10.0], [65.0, 65.0, 65.5, 65.0, 65.0])
    near, found = onto_grid(points, CRS.from_epsg(4326), grid, "points.gpkg")
    assert near.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(shapely.get_coordinates(found), [[0, 25], [75, 25], [75, 0]])


def test_an_area_without_a_place_on_earth_is_refused() -> None:
    areas = np.array([box(-1e5, -1e5, 1e5, 1e5), box(9e6, 0, 1e7, 1e6)], object)
    world = CRS.from_proj4("+proj=ortho +lat_0=45 +lon_0=9")
    grid = Grid(crs="EPSG:32632", transform=(1e4, 0, 1e5, 0, -1e4, 6e6), width=80, height=200)
    assert onto_grid(areas, world, grid, "disc.gpkg")[0].tolist() == [0]
    with pytest.raises(SceneError, match="feature 1 reaches to where"):
        onto_grid(areas, world, GRIDS["world"], "disc.gpkg")
