from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import Proj

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.window import Window
from tests.oracles import geodesic_area_m2

GRIDS = {
    "degrees": Grid(crs="EPSG:4326", transform=(0.00027, 0, -112.9, 0, -0.00027, 41.0), width=1489, height=1482),
    "web mercator": Grid(crs="EPSG:3857", transform=(30, 0, -13651650, 0, -30, 4576290), width=2181, height=1917),
    "utm": Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=700, height=900),
    "south pole": Grid(crs="EPSG:3031", transform=(30, 0, -1600000, 0, -30, 1250000), width=700, height=500),
    "polar": Grid(crs="EPSG:3413", transform=(50, 0, -100000, 0, -50, -900000), width=700, height=500),
    "grads from Paris": Grid(crs="EPSG:27572", transform=(10, 0, 600000, 0, -10, 2400000), width=700, height=500),
    "south up": Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, 10, 4500000), width=300, height=200),
}


@pytest.mark.parametrize("name", GRIDS)
def test_pixel_areas_add_up_to_the_geodesic_area_of_the_outline(name: str) -> None:
    grid = GRIDS[name]
    assert pixel_areas_m2(grid, grid.window).sum() == pytest.approx(geodesic_area_m2(grid, grid.window), rel=2e-7)


@pytest.mark.parametrize("name", GRIDS)
def test_the_areas_of_few_pixels_are_geodesic_areas_too_in_every_corner(name: str) -> None:
    grid = GRIDS[name]
    for col, row in ((0, 0), (grid.width - 40, 0), (101, 77), (0, grid.height - 30)):
        part = Window(col, row, 40, 30)
        assert pixel_areas_m2(grid, part).sum() == pytest.approx(geodesic_area_m2(grid, part), rel=1e-6)


def areas_by_areal_scale(grid: Grid) -> NDArray[np.float64]:
    """Of each pixel, by the areal scale that PROJ derives from the formulas of the projection at its centre."""
    proj = Proj(grid.crs)
    lon, lat = proj(*np.meshgrid(grid.xs(), grid.ys()), inverse=True)
    a, _, _, _, e, _ = grid.transform
    return abs(a * e) / np.asarray(proj.get_factors(lon, lat).areal_scale)


@pytest.mark.parametrize("name", ["utm", "polar", "south pole"])  # of 3857 PROJ has a sphere's
def test_each_pixel_has_the_area_that_the_projections_own_scale_gives(name: str) -> None:
    part = replace(GRIDS[name], width=300, height=200)
    np.testing.assert_allclose(pixel_areas_m2(part, part.window), areas_by_areal_scale(part), rtol=5e-7)


def test_around_a_pole_itself_areas_are_right_to_the_thousandth() -> None:
    grid = Grid(crs="EPSG:3031", transform=(30, 0, -9003, 0, -30, 9007), width=600, height=600)
    found, expected = pixel_areas_m2(grid, grid.window), areas_by_areal_scale(grid)
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-4)


@pytest.mark.parametrize("crs", ["EPSG:6933", "EPSG:3035", "EPSG:6932"])
def test_pixels_of_an_equal_area_crs_all_have_the_area_of_their_sides(crs: str) -> None:
    corner = {"EPSG:6933": (-3e6, 5e6), "EPSG:3035": (4e6, 3e6), "EPSG:6932": (-4e5, 9e5)}[crs]
    grid = Grid(crs=crs, transform=(25, 0, corner[0], 0, -25, corner[1]), width=300, height=200)
    np.testing.assert_allclose(pixel_areas_m2(grid, grid.window), 625, rtol=1e-7)


@pytest.mark.parametrize("name", GRIDS)
def test_pixel_areas_do_not_depend_on_the_window(name: str) -> None:
    grid = GRIDS[name]
    whole = pixel_areas_m2(grid, grid.window)
    part = Window(130, 65, 97, 41)
    np.testing.assert_allclose(pixel_areas_m2(grid, part), whole[part.slices(grid.window)], rtol=1e-12)


def test_planar_pixel_areas_would_have_been_wrong() -> None:
    grid = GRIDS["web mercator"]
    assert pixel_areas_m2(grid, Window(0, 0, 1, 1))[0, 0] < 0.65 * 900


def test_areas_hold_across_the_antimeridian() -> None:
    grid = Grid(crs="EPSG:32601", transform=(100, 0, 100000, 0, -100, 100000), width=3000, height=300)
    areas = pixel_areas_m2(grid, grid.window)
    assert areas.min() > 9900
    assert areas.max() < 10100


@pytest.mark.parametrize(
    ("crs", "transform", "message"),
    [
        ("http://example.com/crs", (1, 0, 0, 0, -1, 0), "EPSG:<code> or WKT"),
        ("+proj=utm +zone=17", (1, 0, 0, 0, -1, 0), "EPSG:<code> or WKT"),
        ("EPSG:4326", (1, 0.1, 0, 0, -1, 0), "rotated or sheared.*gdalwarp"),
        ("EPSG:4326", (1, 0, 0, 0, 0, 0), "no size"),
    ],
)
def test_grids_that_cannot_be_written_truly_are_refused(
    crs: str, transform: tuple[float, float, float, float, float, float], message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        Grid(crs=crs, transform=transform, width=1, height=1)


def test_an_overview_grid_covers_the_same_ground_from_the_same_corner() -> None:
    grid = GRIDS["utm"].reduce(4)
    assert (grid.width, grid.height) == (175, 225)
    assert grid.transform == (40, 0, 300000, 0, -40, 4500000)
    assert grid.xs()[0] == 300020
    assert grid.ys()[0] == 4499980
