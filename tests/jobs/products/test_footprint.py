from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from shapely.geometry import Point, shape
from shapely.geometry.base import BaseGeometry

from earthloom.tiling import footprint as footprints
from earthloom.tiling.errors import SceneError
from earthloom.tiling.footprint import BBox, footprint, share_covered, union_bbox
from earthloom.tiling.grid import Grid, pixel_areas_m2
from tests.jobs.products.samples import LONLAT, MERCATOR, UTM, WKT

EAST_OF_FIJI = Grid(crs="EPSG:32660", transform=(1000.0, 0.0, 600000.0, 0.0, -1000.0, 8200000.0), width=500, height=300)
PAST_180 = Grid(crs="EPSG:4326", transform=(0.01, 0.0, 178.0, 0.0, -0.01, -16.0), width=500, height=300)
NORTH_POLE = Grid(crs="EPSG:3413", transform=(1e4, 0.0, -2e6, 0.0, -1e4, 2.5e6), width=400, height=500)
SOUTH_POLE = Grid(crs="EPSG:3031", transform=(1e4, 0.0, -2e6, 0.0, -1e4, 1e6), width=400, height=500)
GREENLAND = Grid(crs="EPSG:3413", transform=(1e3, 0.0, -6e5, 0.0, -1e3, -7e5), width=1400, height=2600)
SOUTH_UP = Grid(crs="EPSG:32612", transform=(30.0, 0.0, 400000.0, 0.0, 30.0, 4400000.0), width=700, height=500)
DISC = Grid(
    crs='PROJCRS["g",BASEGEOGCRS["u",DATUM["u",ELLIPSOID["GRS 1980",6378137,298.257222101]],'
    'UNIT["degree",0.0174532925199433]],CONVERSION["g",METHOD["Geostationary Satellite (Sweep X)"],'
    'PARAMETER["Longitude of natural origin",-75,ANGLEUNIT["degree",0.0174532925199433]],'
    'PARAMETER["Satellite Height",35786023,LENGTHUNIT["metre",1]],PARAMETER["False easting",0,LENGTHUNIT["metre",1]],'
    'PARAMETER["False northing",0,LENGTHUNIT["metre",1]]],CS[Cartesian,2],AXIS["e",east],AXIS["n",north],UNIT["metre",1]]',
    transform=(1e4, 0.0, -5.5e6, 0.0, -1e4, 5.5e6),
    width=1100,
    height=1100,
)
WORLD = Grid(crs="EPSG:4326", transform=(0.5, 0.0, -180.0, 0.0, -0.5, 90.0), width=720, height=360)
GRIDS = {
    "utm": UTM, "lonlat": LONLAT, "mercator": MERCATOR, "sinusoidal": WKT, "fiji": EAST_OF_FIJI, "past 180": PAST_180,
    "north pole": NORTH_POLE, "south pole": SOUTH_POLE, "greenland": GREENLAND, "south up": SOUTH_UP, "world": WORLD,
}  # fmt: skip


def lonlat(grid: Grid, col: Any, row: Any) -> tuple[Any, Any]:
    a, _, c, _, e, f = grid.transform
    to_lonlat = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform(c + a * np.asarray(col), f + e * np.asarray(row))
    return (np.asarray(lon) + 180) % 360 - 180, lat


def described(grid: Grid) -> tuple[BaseGeometry, dict[str, Any], BBox]:
    geometry, bbox = footprint(grid)
    return shape(geometry), geometry, bbox


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_pixels_lie_inside_and_neighbours_of_the_grid_outside(grid: Grid) -> None:
    geometry, _, (west, south, east, north) = described(grid)
    rng = np.random.default_rng(0)
    lon, lat = lonlat(grid, rng.uniform(0.01, 0.99, 300) * grid.width, rng.uniform(0.01, 0.99, 300) * grid.height)
    for x, y in zip(lon, lat, strict=True):
        assert geometry.covers(Point(x, y))
        assert south <= y <= north
        assert west <= x <= east if west <= east else x >= west or x <= east
    if grid is not WORLD:
        at = rng.uniform(0, 1, 100)
        for col, row in ((-0.02, at), (1.02, at), (at, -0.02), (at, 1.02)):
            lon, lat = lonlat(grid, np.broadcast_to(col, 100) * grid.width, np.broadcast_to(row, 100) * grid.height)
            assert not any(geometry.covers(Point(x, y)) for x, y in zip(lon, lat, strict=True))


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_geometries_follow_rfc_7946(grid: Grid) -> None:
    geometry, raw, bbox = described(grid)
    assert geometry.is_valid
    assert raw == json.loads(json.dumps(raw))
    polygons = raw["coordinates"] if raw["type"] == "MultiPolygon" else [raw["coordinates"]]
    for (ring,) in polygons:
        x, y = np.array(ring).T
        assert ring[0] == ring[-1]
        assert ((np.abs(x) <= 180) & (np.abs(y) <= 90)).all()
        assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0  # anticlockwise
    assert (bbox[0] > bbox[2]) == (grid in (EAST_OF_FIJI, PAST_180))
    assert (raw["type"] == "MultiPolygon") == (grid in (EAST_OF_FIJI, PAST_180))


@pytest.mark.parametrize("grid", [UTM, LONLAT, MERCATOR, EAST_OF_FIJI, SOUTH_UP])
def test_the_area_of_a_footprint_is_that_of_its_pixels(grid: Grid) -> None:
    geometry, _, _ = described(grid)
    area = abs(Geod(ellps="WGS84").geometry_area_perimeter(geometry.segmentize(0.001))[0])
    assert area == pytest.approx(pixel_areas_m2(grid, grid.window).sum(), rel=1e-4)


def test_grids_around_a_pole_cover_it() -> None:
    north, south = described(NORTH_POLE), described(SOUTH_POLE)
    assert north[0].covers(Point(12, 89.99))
    assert south[0].covers(Point(-77, -89.99))
    assert north[2][0::2] == south[2][0::2] == (-180, 180)
    assert (north[2][3], south[2][1]) == (90, -90)


def test_straight_edges_need_four_corners() -> None:
    assert len(described(LONLAT)[1]["coordinates"][0]) == 5


def test_a_disc_in_space_has_the_footprint_of_the_ground_in_it() -> None:
    geometry, _, (west, south, east, north) = described(DISC)
    assert geometry.is_valid
    assert geometry.covers(Point(-75, 0))
    # The limb lies where the line of sight is a tangent: cos(angle) = radius / distance, 81.3 degrees away.
    limb = np.rad2deg(np.arccos(6378137 / (6378137 + 35786023)))
    assert (west, east) == pytest.approx((-75 - limb, -75 + limb), abs=0.6)
    assert (south, north) == pytest.approx((-limb, limb), abs=0.6)


@pytest.mark.parametrize("grid", [DISC, WKT], ids=["geostationary", "sinusoidal"])
def test_a_grid_beside_the_earth_has_no_footprint(grid: Grid) -> None:
    a, b, _, d, e, _ = grid.transform
    with pytest.raises(SceneError, match="lies off the Earth"):
        footprint(replace(grid, transform=(a, b, 3e7, d, e, 3e7)))


TILE_M = 1111950.5196666666
"""Side of a MODIS tile: a 36th of the sphere's girth (MODIS Land grid, Wolfe et al. 1998)."""
RADIUS_M = 6371007.181


def modis_tile(h: int, v: int, size: int = 240) -> Grid:
    side = TILE_M / size
    transform = (side, 0.0, (h - 18) * TILE_M, 0.0, -side, (9 - v) * TILE_M)
    return Grid(crs=WKT.crs, transform=transform, width=size, height=size)


def ground_of_tile(h: int, v: int) -> tuple[BBox, float] | None:
    """Bounds and area by the definition of the projection: x = R lon cos(lat), y = R lat, |lon| <= 180. Or None."""
    lat = np.linspace(90 - 10 * (v + 1), 90 - 10 * v, 20001)
    west, east = ((10.0 * (h - 18 + i)) / np.maximum(np.cos(np.deg2rad(lat)), 1e-12) for i in (0, 1))
    west, east = np.maximum(west, -180), np.minimum(east, 180)
    there = west < east
    if there.sum() < 1000:
        return None
    wide = np.deg2rad(np.where(there, east - west, 0))
    area = RADIUS_M**2 * float(np.trapezoid(wide * np.cos(np.deg2rad(lat)), np.deg2rad(lat)))
    return (west[there].min(), lat[there].min(), east[there].max(), lat[there].max()), area


@given(h=st.integers(0, 35), v=st.integers(0, 17))
@settings(deadline=None, max_examples=20)
@example(h=11, v=2)
@example(h=8, v=3)
@example(h=35, v=8)
@example(h=17, v=0)
def test_tiles_of_the_sinusoidal_grid_end_where_the_map_does(h: int, v: int) -> None:
    grid, right = modis_tile(h, v), ground_of_tile(h, v)
    if right is None:
        return
    bounds, area = right
    geometry, _, bbox = described(grid)
    assert geometry.is_valid
    assert bbox == pytest.approx(bounds, abs=0.35)
    found = pixel_areas_m2(grid, grid.window)
    assert found.sum() == pytest.approx(area, rel=1e-4, abs=2 * found.max())
    assert grid.gsd_m() == pytest.approx(TILE_M / 240, rel=0.3)


longitudes = st.integers(-180, 180).map(float)
boxes = st.lists(
    st.tuples(longitudes, longitudes, st.floats(-80, 0), st.floats(0, 80)).map(lambda b: (b[0], b[2], b[1], b[3])),
    min_size=1,
    max_size=6,
)


@given(given_boxes=boxes, seed=st.randoms())
@settings(deadline=None)
def test_a_union_covers_every_box_in_any_order(given_boxes: list[BBox], seed: Any) -> None:
    west, south, east, north = union_bbox(given_boxes)
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    for one in given_boxes:
        end = one[2] if one[0] <= one[2] else one[2] + 360
        for lon in np.linspace(one[0], end, 9):
            turned = (lon + 180) % 360 - 180
            inside = west <= turned <= east if west <= east else turned >= west - 1e-9 or turned <= east + 1e-9
            assert inside or abs(lon) == 180 == max(abs(west), abs(east))
        assert south <= one[1]
        assert north >= one[3]
    shuffled = list(given_boxes)
    seed.shuffle(shuffled)
    assert union_bbox(shuffled) == (west, south, east, north)


def test_unions_cross_the_antimeridian_only_when_they_must() -> None:
    assert union_bbox([(-120, 30, -110, 40), (140, 0, 150, 10)]) == (-120, 0, 150, 40)
    assert union_bbox([(178, -20, -179, -10), (-175, -5, -170, 5)]) == (178, -20, -170, 5)
    assert union_bbox([(178, -20, -179, -10), (-10, 0, 10, 5)]) == (-10, -20, -179, 5)
    assert union_bbox([(100, 0, 180, 1), (-180, 0, -100, 1)]) == (100, 0, -100, 1)
    with pytest.raises(SceneError, match="no bounding box"):
        union_bbox([])


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("other", GRIDS)
def test_the_share_covered_is_that_of_the_footprints(name: str, other: str) -> None:
    one, two = shape(footprint(GRIDS[name])[0]), shape(footprint(GRIDS[other])[0])
    expected = 1.0 if name == other else one.intersection(two).area / one.area
    assert share_covered(GRIDS[name], GRIDS[other]) == pytest.approx(expected, abs=1e-12)


def test_a_thousand_grids_gone_through_twice_are_outlined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Grid] = []
    square = {"type": "Polygon", "coordinates": [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]]}

    def outline(grid: Grid) -> tuple[dict[str, Any], BBox]:
        made.append(grid)
        return square, (0, 0, 1, 1)

    monkeypatch.setattr(footprints, "footprint", outline)
    grids = [replace(UTM, width=1000 + n) for n in range(1000)]
    footprints._shape.cache_clear()
    try:
        for _ in range(2):
            for grid in grids:
                assert share_covered(LONLAT, grid) == 1
    finally:
        footprints._shape.cache_clear()  # made-up squares
    assert len(made) == 1001
