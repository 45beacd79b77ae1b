"""Areas of interest: what a user writes, the whole shards that follow from it, and what is refused with which words."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from earthloom.tiling.aoi import Aoi, aoi_of_geojson, parse_aoi, suggest_aoi
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid

TEXT = "EPSG:32633,10m,400000,5800000,405000,5806000"


def test_an_area_becomes_the_whole_shards_that_it_touches() -> None:
    grid = parse_aoi(TEXT).grid(512)
    assert grid == Grid(crs="EPSG:32633", transform=(10, 0, 399360, 0, -10, 5806080), width=1024, height=1024)
    assert grid.bounds == (399360, 5795840, 409600, 5806080)


@settings(deadline=None, max_examples=60)
@given(
    x=st.floats(300_000, 600_000), y=st.floats(5_000_000, 6_000_000), width=st.floats(100, 60_000),
    height=st.floats(100, 60_000), gsd=st.sampled_from([0.5, 3.7, 10.0, 30.0]), shard=st.sampled_from([512, 2048]),
)  # fmt: skip
def test_areas_of_one_grid_share_their_shards(
    x: float, y: float, width: float, height: float, gsd: float, shard: int
) -> None:
    aoi = Aoi(crs="EPSG:32633", gsd=gsd, bounds=(x, y, x + width, y + height))
    grid = aoi.grid(shard)
    left, bottom, right, top = grid.bounds
    slack, side = 1e-5 * gsd, gsd * shard
    assert left - slack <= x
    assert right + slack >= x + width
    assert bottom - slack <= y
    assert top + slack >= y + height
    assert left + side > x - slack, "no shard that the area does not touch"
    assert top - side < y + height + slack
    assert (grid.width % shard, grid.height % shard) == (0, 0)
    for corner in (left, top):
        assert corner / side == pytest.approx(round(corner / side), abs=1e-9)
    again = Aoi(crs="EPSG:32633", gsd=gsd, bounds=grid.bounds).grid(shard)
    assert again == grid, "an area of whole shards is its own grid"


def test_degrees_are_a_gsd_of_a_geographic_crs_and_are_told_in_metres() -> None:
    aoi = parse_aoi("EPSG:4326,0.0001deg,12,60,12.2,60.2")
    assert aoi == parse_aoi("EPSG:4326,0.0001,12,60,12.2,60.2")
    assert aoi.grid(512).transform[0] == 0.0001
    assert "pixels of 0.0001 degrees in EPSG:4326 are 5.57 m wide and 11.1 m high" in aoi.notes(512)[0]


def test_metres_of_a_map_that_are_none_on_the_ground_are_told() -> None:
    (note,) = parse_aoi("EPSG:3857,10m,1300000,8300000,1400000,8400000").notes(512)
    assert "10 m in EPSG:3857 are 5.05 m wide" in note


def test_many_more_pixels_than_asked_for_are_told() -> None:
    assert "the grid is 2048 x 2048 px, 14 times the area asked for" in parse_aoi(TEXT).notes(2048)[0]
    assert parse_aoi(TEXT).notes(512) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EPSG:32633", "has 1 parts, not the 6 of EPSG:<code>,<gsd>,"),
        ("EPSG:32633,10m,1,2,3,x", "'x' in .* is not a number"),
        ("EPSG:32633,ten,1,2,3,4", "the GSD 'ten' is not a length such as 10m"),
        ("EPSG:32633,0,400000,5800000,405000,5806000", "a GSD of 0 gives no pixels"),
        ("http://x/crs,10m,1,2,3,4", "the CRS of an area is given as EPSG:<code>, got 'http://x/crs'"),
        ("EPSG:99999,10m,1,2,3,4", "EPSG:99999 is no CRS that is known here"),
        ("EPSG:4978,10m,1,2,300,400", "neither projected nor geographic"),
        ("EPSG:4326,10m,12,50,13,51", "10m is not in the unit of WGS 84, which is the degree; .* here about 9e-05"),
        ("EPSG:2263,10m,0,0,1e6,1e6", "which is the US survey foot; give it in that unit"),
        ("EPSG:32633,10m,405000,5800000,400000,5806000", "have no area: give the lower left and then the upper right"),
        ("EPSG:32633,10m,400000,5800000,405000,inf", "have no area"),
        ("EPSG:32633,10m,12,50,13,51", "are 1 x 1 m, smaller than one pixel of 10; bounds are in the units of EPSG:32633"),
        ("EPSG:4326,0.001,50,120,51,121", "reach beyond a pole; in EPSG:4326 x is the longitude"),
        ("EPSG:4326,0.1,12,80,13,81", r"cover \(0, 51.2, 51.2, 102.4\) and reach beyond a pole; a smaller `shard`"),
        ("EPSG:32633,10m,5800000,400000,5806000,405000", "but it is used for .12, 0, 18, 84. in degrees; check CRS and"),
        ("EPSG:32633,1m,0,0,1e6,1e6", "1000448 x 1000448 px, more than the 68719476736 px that a scene may have"),
    ],
)  # fmt: skip
def test_what_is_no_area_is_refused_with_both_values(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_aoi(text).grid(512)


# ---- GeoJSON

WEST, SOUTH, EAST, NORTH = 13.0, 52.0, 14.5, 52.5


def ring(west: float = WEST, south: float = SOUTH, east: float = EAST, north: float = NORTH) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def feature(**changes: Any) -> dict[str, Any]:
    return {
        "type": "Feature", "properties": {"crs": "EPSG:32633", "gsd": 10, "name": "Berlin"},
        "geometry": {"type": "Polygon", "coordinates": [ring()]}, **changes,
    }  # fmt: skip


def read(document: object) -> Aoi:
    return aoi_of_geojson(json.dumps(document).encode(), "area.geojson")


def test_a_feature_or_a_collection_of_one_names_an_area() -> None:
    assert read(feature()) == read({"type": "FeatureCollection", "features": [feature()]})
    assert read(feature()).gsd == 10
    assert read(feature(properties={"crs": "EPSG:32633", "gsd": "10m"})) == read(feature())


def test_edges_are_densified_before_they_are_transformed() -> None:
    """A parallel is a curve in UTM: its middle lies south of its ends."""
    move = Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform
    left, bottom, right, top = read(
        feature(geometry={"type": "Polygon", "coordinates": [ring(12.0, 52, 18.0, 53)]})
    ).bounds
    assert bottom == pytest.approx(move(15.0, 52.0)[1], abs=1), "the middle of the southern edge, 500 m below its ends"
    assert bottom < move(12.0, 52.0)[1] - 500
    assert top == pytest.approx(move(12.0, 53.0)[1])
    assert [left, right] == pytest.approx([move(12.0, 52.0)[0], move(18.0, 52.0)[0]])


def test_parts_of_a_multipolygon_are_one_area() -> None:
    parts = {"type": "MultiPolygon", "coordinates": [[ring(13, 52, 13.1, 52.1)], [ring(14.4, 52.4, 14.5, 52.5)]]}
    whole = read(feature(geometry={"type": "Polygon", "coordinates": [ring(13, 52, 14.5, 52.5)]})).bounds
    assert read(feature(geometry=parts)).bounds == pytest.approx(whole, abs=3000)


def test_an_area_across_the_antimeridian_is_one_in_utm() -> None:
    parts = {"type": "MultiPolygon", "coordinates": [[ring(179.9, -17, 180, -16)], [ring(-180, -17, -179.9, -16)]]}
    grid = read(feature(geometry=parts, properties={"crs": "EPSG:32701", "gsd": 10})).grid(2048)
    assert grid.width == 2 * 2048
    with pytest.raises(
        ConfigError, match="cut at the antimeridian, across which EPSG:4326 has no grid; give a UTM zone"
    ):
        read(feature(geometry=parts, properties={"crs": "EPSG:4326", "gsd": 0.0001}))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "holds a GeoJSON 'None', not a Feature"),
        (feature()["geometry"], "holds a GeoJSON 'Polygon', not a Feature; an area is a Feature with a polygon and the prop"),
        ({"type": "FeatureCollection", "features": [feature(), feature()]}, "holds 2 areas; a run has one grid"),
        ({"type": "FeatureCollection", "features": []}, "holds 0 areas"),
        (feature(properties=None), "no property crs and no gsd; an area needs both, as in .*EPSG:32633"),
        (feature(properties={"crs": "EPSG:32633"}), "area.geojson: its feature has no property gsd"),
        (feature(properties={"gsd": 10}), "has no property crs"),
        (feature(properties={"crs": "EPSG:32633", "gsd": [1]}), "is not a length such as 10m"),
        (feature(geometry=None), "area.geojson: its geometry is 'None'"),
        (feature(geometry={"type": "Point", "coordinates": [13, 52]}), "its geometry is 'Point'"),
        (feature(geometry={"type": "Polygon", "coordinates": [[[13, 52], [14, 52], [13, 52]]]}), "has 3 points"),
        (feature(geometry={"type": "Polygon", "coordinates": [["a"]]}), "not made of rings of .longitude, latitude. pairs"),
        (feature(geometry={"type": "Polygon", "coordinates": "x"}), "not made of rings"),
        (feature(geometry={"type": "MultiPolygon", "coordinates": []}), "has no coordinates"),
        (feature(geometry={"type": "Polygon", "coordinates": [ring(400000, 5800000, 405000, 5806000)]}),
         "covers .400000, 5800000, 405000, 5806000., which are no longitudes and latitudes; GeoJSON is always in those"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_area_is_refused_by_what_it_lacks(document: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(document)


def test_metres_are_refused_before_anything_is_made_of_their_edges() -> None:
    tracemalloc.start()
    with pytest.raises(ConfigError, match="are no longitudes and latitudes"):
        read(feature(geometry={"type": "Polygon", "coordinates": [ring(0, 0, 5e6, 5e6)]}))
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"area\.geojson is not JSON"):
        aoi_of_geojson(b"{", "area.geojson")


@pytest.mark.parametrize(
    "grid",
    [
        Grid(crs="EPSG:32633", transform=(10, 0, 399960, 0, -10, 5800020), width=700, height=300),
        Grid(crs="EPSG:4326", transform=(0.0001, 0, 12.00005, 0, 0.0002, 50.1), width=700, height=300),
    ],
)
def test_the_text_for_a_grid_names_its_ground_and_pixels(grid: Grid) -> None:
    aoi = parse_aoi(suggest_aoi(grid))
    assert aoi.bounds == grid.bounds
    assert (aoi.crs, aoi.gsd) == (grid.crs, grid.transform[0])
