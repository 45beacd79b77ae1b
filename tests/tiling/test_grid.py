from __future__ import annotations

import numpy as np
import pytest
from pyproj import CRS, Transformer

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.window import Window

GRIDS = {
    "degrees": Grid(crs="EPSG:4326", transform=(0.00027, 0, -112.9, 0, -0.00027, 41.0), width=1489, height=1482),
    "web mercator": Grid(crs="EPSG:3857", transform=(30, 0, -13651650, 0, -30, 4576290), width=2181, height=1917),
    "utm": Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=700, height=900),
    "polar": Grid(crs="EPSG:3413", transform=(50, 0, -100000, 0, -50, -900000), width=700, height=500),
    "grads from Paris": Grid(crs="EPSG:27572", transform=(10, 0, 600000, 0, -10, 2400000), width=700, height=500),
    "south up": Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, 10, 4500000), width=300, height=200),
}


@pytest.mark.parametrize("name", GRIDS)
def test_pixel_areas_add_up_to_the_geodesic_area_of_the_outline(name: str) -> None:
    grid = GRIDS[name]
    left, bottom, right, top = grid.bounds
    crs = CRS(grid.crs)
    along, up = np.linspace(left, right, 2000), np.linspace(bottom, top, 2000)
    x = np.concatenate([along, np.full(2000, right), along[::-1], np.full(2000, left)])
    y = np.concatenate([np.full(2000, bottom), up, np.full(2000, top), up[::-1]])
    geodetic = crs.geodetic_crs
    assert geodetic is not None
    lon, lat = Transformer.from_crs(crs, geodetic, always_xy=True).transform(x, y)
    degrees = np.rad2deg(geodetic.axis_info[0].unit_conversion_factor)
    lon, lat = lon * degrees, lat * degrees
    geod = crs.get_geod()
    assert geod is not None
    outline = abs(geod.polygon_area_perimeter(lon, lat)[0])
    assert pixel_areas_m2(grid, grid.window).sum() == pytest.approx(outline, rel=2e-7)


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
