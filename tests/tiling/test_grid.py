from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import CRS, Proj, Transformer

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


@settings(deadline=None)
@given(name=st.sampled_from(sorted(GRIDS)), factor=st.floats(0.2, 50))
def test_a_rescaled_grid_has_the_pixels_whose_middle_lies_on_the_same_ground(name: str, factor: float) -> None:
    grid = GRIDS[name]
    made = grid.rescale(factor)
    assert made.transform[2::3] == grid.transform[2::3]
    assert made.gsd_m() == pytest.approx(grid.gsd_m() * factor, rel=2e-2)
    for side, own in ((made.width, grid.width), (made.height, grid.height)):
        assert (side - 0.5) * factor <= own * (1 + 1e-12) or side == 1
        assert (side + 0.5) * factor > own * (1 - 1e-12)


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


def test_each_pixel_around_a_pole_has_the_area_that_the_projections_own_scale_gives() -> None:
    grid = Grid(crs="EPSG:3031", transform=(30, 0, -9003, 0, -30, 9007), width=600, height=600)
    np.testing.assert_allclose(pixel_areas_m2(grid, grid.window), areas_by_areal_scale(grid), rtol=5e-7)


@given(
    code=st.sampled_from(["EPSG:3031", "EPSG:6932", "EPSG:3413", "EPSG:3995", "EPSG:5041"]),
    side=st.sampled_from([200, 500, 3000, 12500, 25000, 100000]), col=st.floats(0, 40), row=st.floats(0, 40),
)  # fmt: skip
@settings(deadline=None, max_examples=25)
def test_areas_are_right_around_a_pole_wherever_it_lies_in_a_pixel(
    code: str, side: float, col: float, row: float
) -> None:
    pole = -90 if code in ("EPSG:3031", "EPSG:6932") else 90
    x, y = Transformer.from_crs(CRS(code).geodetic_crs, code, always_xy=True).transform(0, pole)
    grid = Grid(crs=code, transform=(side, 0, x - col * side, 0, -side, y + row * side), width=40, height=40)
    assert pixel_areas_m2(grid, grid.window).sum() == pytest.approx(geodesic_area_m2(grid, grid.window), rel=1e-4)
    part = Window(int(min(col, 39)), int(min(row, 39)), 1, 1)  # the pixel that holds the pole
    assert pixel_areas_m2(grid, part)[0, 0] == pytest.approx(geodesic_area_m2(grid, part), rel=1e-4)


def ellipsoid_m2(semi_major: float = 6378137.0, flattening: float = 1 / 298.257223563) -> float:
    e = np.sqrt(flattening * (2 - flattening))
    return float(2 * np.pi * semi_major**2 * (1 + (1 - e**2) / e * np.arctanh(e)))


@pytest.mark.parametrize("side", [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
@pytest.mark.parametrize("west", [-180, 0])
@pytest.mark.parametrize("nodes", [False, True], ids=["cells", "nodes"])
def test_rows_of_a_global_grid_are_zones_of_the_ellipsoid(side: float, west: float, nodes: bool) -> None:
    """The area of a zone has a closed form (Snyder, USGS PP 1395, eq. 3-12); a grid of nodes ends beyond the poles."""
    half = side / 2 if nodes else 0.0
    width, height = round(360 / side), round(180 / side) + nodes
    grid = Grid(crs="EPSG:4326", transform=(side, 0, west - half, 0, -side, 90 + half), width=width, height=height)
    edges = np.deg2rad(np.clip(90 + half - side * np.arange(height + 1), -90, 90))
    e2 = (2 - 1 / 298.257223563) / 298.257223563
    e, sine = np.sqrt(e2), np.sin(edges)
    zone = (1 - e2) / 2 * 6378137.0**2 * np.deg2rad(side) * (sine / (1 - e2 * sine**2) + np.arctanh(e * sine) / e)
    column = pixel_areas_m2(grid, Window(width // 3, 0, 1, height))[:, 0]
    np.testing.assert_allclose(column, -np.diff(zone), rtol=1e-4)
    assert column.sum() * width == pytest.approx(ellipsoid_m2(), rel=1e-5)


@given(lat=st.floats(-75, 75), shift=st.floats(-150, 0), side=st.sampled_from([10.0, 100.0, 1000.0]))
@settings(deadline=None, max_examples=30)
def test_areas_across_the_antimeridian_are_geodesic(lat: float, shift: float, side: float) -> None:
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32601", always_xy=True).transform(-180, lat)
    utm = Grid(crs="EPSG:32601", transform=(side, 0, x + shift * side, 0, -side, y), width=150, height=100)
    degrees = side / 111320
    lonlat = Grid(
        crs="EPSG:4326", transform=(degrees, 0, 180 + shift * degrees, 0, -degrees, lat), width=150, height=100
    )
    for grid in (utm, lonlat):
        assert pixel_areas_m2(grid, grid.window).sum() == pytest.approx(geodesic_area_m2(grid, grid.window), rel=1e-5)


def test_the_worlds_ground_on_a_sinusoidal_map_is_the_whole_sphere_and_none_beyond_its_edge() -> None:
    crs = CRS.from_proj4("+proj=sinu +R=6371007.181 +units=m").to_wkt()
    side = 2 * np.pi * 6371007.181 / 720
    grid = Grid(crs=crs, transform=(side, 0, -360 * side, 0, -side, 180 * side), width=720, height=360)
    areas = pixel_areas_m2(grid, grid.window)
    assert areas.sum() == pytest.approx(4 * np.pi * 6371007.181**2, rel=1e-3)
    assert areas[0, 0] == areas[-1, -1] == 0
    assert areas[180, 360] == pytest.approx(side**2, rel=1e-6)


@pytest.mark.parametrize("name", ["tile", "global", "nodes"])
def test_areas_do_not_depend_on_the_window_where_the_earth_ends(name: str) -> None:
    side = 1111950.5196666666 / 480
    crs = CRS.from_proj4("+proj=sinu +R=6371007.181 +units=m").to_wkt()
    grid = {
        "tile": Grid(crs=crs, transform=(side, 0, -7 * 480 * side, 0, -side, 7 * 480 * side), width=480, height=480),
        "global": Grid(crs="EPSG:4326", transform=(1, 0, -180, 0, -1, 90), width=360, height=180),
        "nodes": Grid(crs="EPSG:4326", transform=(0.1, 0, -180, 0, -0.1, 90.05), width=300, height=300),
    }[name]
    whole = pixel_areas_m2(grid, grid.window)
    for part in (Window(0, 0, 64, 64), Window(30, 1, 97, 41), Window(100, 77, 200, 3)):
        np.testing.assert_allclose(pixel_areas_m2(grid, part), whole[part.slices(grid.window)], rtol=1e-12)


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
