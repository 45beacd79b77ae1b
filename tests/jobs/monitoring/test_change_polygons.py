"""Polygons of change against rasterio's own of the whole map, and against the matrix."""

from __future__ import annotations

from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import shapes

from earthloom.jobs.monitoring.change.polygons import Pieces, default_least_m2, find_changed, polygon_table, unite
from earthloom.jobs.monitoring.change.transitions import Sides, count_transitions, exact_areas_m2
from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.tiling.grid import Grid

CLASSES = (
    ClassInfo(value=0, name="land", color="#b59f6b"),
    ClassInfo(value=1, name="water", color="#1f78b4"),
    ClassInfo(value=2, name="ice", color="#a6eef2"),
)


def grid(shape: tuple[int, int]) -> Grid:
    return Grid(crs="EPSG:4326", transform=(3e-4, 0.0, -74.9, 0.0, -3e-4, 61.0), width=shape[1], height=shape[0])


def sides(seed: int, shape: tuple[int, int], coarse: int) -> Sides:
    """Two maps with patches of several pixels, holes and corners that touch, and some nodata."""
    rng = np.random.default_rng(seed)
    cells = [rng.choice(np.array([0, 1, 2, 255], np.uint8), shape, p=(0.5, 0.3, 0.15, 0.05)) for _ in range(2)]
    before, after = (np.kron(part, np.ones((coarse, coarse), np.uint8))[: shape[0], : shape[1]] for part in cells)
    trust, trust_after = (rng.integers(0, 251, shape).astype(np.uint8) for _ in range(2))
    return Sides(before=before, after=after, before_confidence=trust, after_confidence=trust_after)


def certain(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Sides:
    sure = np.full(before.shape, 250, np.uint8)
    return Sides(before=before, after=after, before_confidence=sure, after_confidence=sure)


def pieces_of(whole: Sides, step: int, least_m2: float) -> Pieces:
    """United over shards of `step` px."""
    height, width = whole.shape
    where = grid((height, width))
    parts = []
    for shard in where.window.split(step):
        at = shard.slices(where.window)
        part = Sides(**{name: getattr(whole, name)[at] for name in Sides.__slots__})
        parts.append(find_changed(part, where, shard, least_m2).draw())
    return unite(list(reversed(parts)), least_m2)


def same(one: Pieces, other: Pieces) -> bool:
    columns = ("before", "after", "pixels", "areas_m2", "confidence_sums")
    alike = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)
    ours, theirs = shapely.normalize(one.polygons), shapely.normalize(other.polygons)
    return alike and bool(np.array_equal(shapely.to_wkb(ours), shapely.to_wkb(theirs)))


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 999), height=st.integers(3, 45), width=st.integers(3, 45), coarse=st.integers(1, 5),
    step=st.integers(2, 40), least_px=st.integers(0, 12),
)  # fmt: skip
def test_polygons_do_not_depend_on_the_cut(
    seed: int, height: int, width: int, coarse: int, step: int, least_px: int
) -> None:
    arrays = sides(seed, (height, width), coarse)
    least_m2 = least_px * 550.0
    whole = pieces_of(arrays, 100, least_m2)
    assert same(pieces_of(arrays, step, least_m2), whole)
    assert shapely.is_valid(whole.polygons).all()


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 999), step=st.integers(5, 60), coarse=st.integers(1, 4))
def test_polygons_are_those_of_rasterio_over_the_whole_map_and_add_up_to_the_matrix(
    seed: int, step: int, coarse: int
) -> None:
    arrays = sides(seed, (37, 53), coarse)
    before, after = arrays.before, arrays.after
    found = pieces_of(arrays, step, 0.0)
    changed = (before != after) & (before != 255) & (after != 255)
    theirs = [
        (shapely.geometry.shape(geometry), int(value))
        for geometry, value in shapes(before.astype(np.int32) * 256 + after, mask=changed, connectivity=4)
    ]
    pairs = (before.astype(int) * 256 + after)[changed]
    ours = found.before.astype(int) * 256 + found.after
    assert sorted(ours) == sorted(value for _, value in theirs)
    keyed = {(shapely.normalize(polygon).wkb, value) for polygon, value in theirs}
    assert {
        (shapely.normalize(polygon).wkb, value) for polygon, value in zip(found.polygons, ours, strict=True)
    } == keyed
    assert shapely.area(found.polygons).sum() == found.pixels.sum() == pairs.size
    where = grid((37, 53))
    for one in count_transitions(arrays, exact_areas_m2(where, where.window), 3):
        if one.changed:
            mine = (found.before == one.before) & (found.after == one.after)
            assert found.pixels[mine].sum() == one.pixels
            assert found.areas_m2[mine].sum() == one.area_m2
            assert found.confidence_sums[mine].sum() == one.confidence_sum


def test_an_area_with_a_hole_over_four_shards_is_one_polygon_of_corners_only() -> None:
    before, after = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    after[8:32, 8:32] = 1
    after[18:22, 18:22] = 0
    found = pieces_of(certain(before, after), 20, 0.0)
    (polygon,) = found.polygons
    assert polygon.equals(shapely.Polygon(shapely.box(8, 8, 32, 32).exterior, [shapely.box(18, 18, 22, 22).exterior]))
    assert shapely.get_num_coordinates(polygon) == 10
    assert found.pixels.tolist() == [24 * 24 - 16]
    assert found.confidence_sums.tolist() == [(24 * 24 - 16) * 250 * 250]


def test_what_is_small_in_each_shard_and_large_enough_together_is_kept() -> None:
    before, after = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    after[5, 7:13] = 1  # three pixels on either side of a border
    after[15, 2:6] = 1
    pixel_m2 = grid((20, 20)).gsd_m() ** 2
    found = pieces_of(certain(before, after), 10, 5 * pixel_m2)
    assert found.pixels.tolist() == [6]


def test_a_table_names_classes_and_lies_on_the_map(tmp_path: Any) -> None:
    arrays = sides(7, (40, 60), 4)
    where = grid((40, 60))
    found = pieces_of(arrays, 16, 9 * where.gsd_m() ** 2)
    table = polygon_table(found, where, CLASSES)
    assert list(table.columns) == ["from", "to", "area_m2", "px", "confidence", "geometry"]
    assert table["area_m2"].is_monotonic_decreasing
    planar = gpd.GeoSeries(table.geometry).to_crs("ESRI:54034").area  # an equal-area projection, spherical to 0.1 %
    np.testing.assert_allclose(table["area_m2"], planar, rtol=2e-3)
    before, after = arrays.before, arrays.after
    for row in table.itertuples():
        col, line = ~where.affine * row.geometry.representative_point().coords[0]
        assert CLASSES[before[int(line), int(col)]].name == row[1]
        assert CLASSES[after[int(line), int(col)]].name == row.to
    table.to_parquet(tmp_path / "t.parquet", schema_version="1.1.0", write_covering_bbox=True)
    assert gpd.read_parquet(tmp_path / "t.parquet").equals(table)


def test_no_change_makes_an_empty_table() -> None:
    same_class = np.zeros((30, 30), np.uint8)
    found = pieces_of(certain(same_class, same_class), 10, 0.0)
    assert len(found) == 0
    assert len(polygon_table(found, grid((30, 30)), CLASSES)) == 0


@pytest.mark.parametrize(("gsd", "least_m2"), [(30.0, 8100.0), (10.0, 900.0), (0.3, 0.81)])
def test_the_minimum_mapping_unit_is_nine_pixels_unless_told(gsd: float, least_m2: float) -> None:
    utm = Grid(crs="EPSG:32718", transform=(gsd, 0.0, 5e5, 0.0, -gsd, 9e6), width=100, height=100)
    assert default_least_m2(utm) == pytest.approx(least_m2, rel=5e-3)
