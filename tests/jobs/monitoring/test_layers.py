"""A shard of a date equals what rasterio makes of the published files as wholes, whatever their CRS."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject

from earthloom.jobs.monitoring.cube.layers import LayerTask, Member, read_onto
from earthloom.jobs.monitoring.cube.marks import vouched
from earthloom.jobs.monitoring.cube.overlap import in_order
from earthloom.jobs.monitoring.cube.sources import Source, source_of
from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.resampling import reached
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_cube import CubeLayout
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.results import Result, class_result, image_result, path_of

AREA = Grid(crs="EPSG:32633", transform=(30, 0, 276480, 0, -30, 5591040), width=1024, height=512)
LAYOUT = CubeLayout(grid=AREA, layers=(Layer(name="classes"), Layer(name="confidence")), shard_px=512)
KINDS = {"EPSG:32632": 30.0, "EPSG:32633": 20.0, "EPSG:4326": 0.0003, "EPSG:3035": 50.0}


def scene_grid(crs: str, gsd: float, side: int = 400, *, east_m: float = 7000.0, north_m: float = -7000.0) -> Grid:
    """A grid in any CRS whose centre lies at an offset from the area's upper left corner."""
    x, y = Transformer.from_crs(AREA.crs, crs, always_xy=True).transform(276480 + east_m, 5591040 + north_m)
    return Grid(crs=crs, transform=(gsd, 0, x - gsd * side / 2, 0, -gsd, y + gsd * side / 2), width=side, height=side)


def made(
    scene_id: str, grid: Grid, seed: int, moment: str = "2020-06-01T10:00:00Z", product: str = "landwater"
) -> Result:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 2, grid.shape, dtype=np.uint8)
    confidence = rng.integers(125, 251, grid.shape, dtype=np.uint8)
    hole = rng.random(grid.shape) < 0.1
    classes[hole] = confidence[hole] = 255
    return class_result(scene_id, moment, grid, classes, confidence, product=product)


def found(result: Result) -> Source:
    source = source_of(result.item, result.prefix)
    assert source is not None
    return source


def task(*members: Member, row: int = 0, col: int = 0, confident: bool = True) -> LayerTask:
    return LayerTask(
        generation="g", layout=LAYOUT, step=0, row=row, col=col, members=members, confident=confident, n_classes=2
    )


def shard(store: Store, col: int, layer: str = "classes") -> NDArray[np.uint8]:
    array = LAYOUT.array(store.zarr("g/cube.zarr"), layer, 1)
    return np.asarray(array[0, 0:512, 512 * col : 512 * col + 512])


def warped(path: Path) -> NDArray[np.uint8]:
    """The whole file on the whole area, nearest neighbour, by rasterio's exact transformer. (height, width)"""
    with (
        rasterio.open(path) as dataset,
        WarpedVRT(
            dataset, crs=AREA.crs, transform=AREA.affine, width=AREA.width, height=AREA.height, tolerance=1e-12,
            resampling=Resampling.nearest,
        ) as whole,
    ):  # fmt: skip
        return np.asarray(whole.read(1))


def looked_up(path: Path) -> NDArray[np.uint8]:
    """The same by pyproj and numpy: the pixel in which the centre of each pixel of the area lies."""
    with rasterio.open(path) as dataset:
        cols, rows = np.meshgrid(AREA.xs(), AREA.ys())
        x, y = Transformer.from_crs(AREA.crs, dataset.crs, always_xy=True).transform(cols, rows)
        col, row = ~dataset.transform * (np.asarray(x), np.asarray(y))
        inside = (col >= 0) & (col < dataset.width) & (row >= 0) & (row < dataset.height)
        pixels = dataset.read(1)
    return np.where(inside, pixels[np.where(inside, row, 0).astype(int), np.where(inside, col, 0).astype(int)], 255)


@pytest.mark.parametrize(("crs", "gsd"), KINDS.items())
def test_a_class_map_comes_by_nearest_neighbour_as_rasterio_warps_the_whole_file(
    store: Store, crs: str, gsd: float
) -> None:
    result = made("scene", scene_grid(crs, gsd), 1)
    result.commit(store)
    for col in (0, 1):
        task(Member(source=found(result)), col=col).do(store)
    for layer, name in (("classes", "landwater"), ("confidence", "landwater-confidence")):
        whole = warped(path_of(store, f"{result.prefix}/{name}.tif"))
        assert (whole != 255).mean() > 0.05
        ours = np.hstack([shard(store, 0, layer), shard(store, 1, layer)])
        assert np.array_equal(ours, whole)
        other = looked_up(path_of(store, f"{result.prefix}/{name}.tif"))
        assert np.mean(ours != other) < 1e-4, "but for centres on the edge between two pixels"


def test_scenes_of_two_zones_are_merged_by_confidence_pixel_by_pixel(store: Store) -> None:
    west = made("west", scene_grid("EPSG:32632", 30.0), 2)
    east = made("east", scene_grid("EPSG:32633", 30.0, east_m=12000), 3, "2020-06-01T10:05:00Z")
    for result in (west, east):
        result.commit(store)
    ordered = in_order([found(west), found(east)], "confident")
    task(*(Member(source=source) for source in ordered)).do(store)
    maps = [
        [warped(path_of(store, f"{one.prefix}/landwater{end}.tif"))[:, :512] for end in ("", "-confidence")]
        for one in (east, west)
    ]  # the later one first
    (late, late_trust), (early, early_trust) = maps
    take_early = (early != 255) & ((late == 255) | (early_trust > late_trust))
    assert take_early.any()
    assert (late[~take_early] != 255).any()
    assert np.array_equal(shard(store, 0), np.where(take_early, early, late))
    assert np.array_equal(shard(store, 0, "confidence"), np.where(take_early, early_trust, late_trust))
    task(*(Member(source=source) for source in ordered), confident=False).do(store)
    assert np.array_equal(shard(store, 0), np.where(late != 255, late, early))


def test_what_the_mask_calls_cloud_or_does_not_know_has_no_data(store: Store) -> None:
    grid = scene_grid("EPSG:32633", 30.0)
    result, clouds = made("scene", grid, 4), made("scene", grid, 5, product="cloudmask")
    for one in (result, clouds):
        one.commit(store)
    task(Member(source=found(result), mask=found(clouds), masked=(1,))).do(store)
    plain, mask = (warped(path_of(store, f"{one.prefix}/{one.product}.tif"))[:, :512] for one in (result, clouds))
    assert np.array_equal(shard(store, 0), np.where(mask == 0, plain, 255))


def test_the_mark_counts_the_shard_and_vouches_for_its_objects(store: Store) -> None:
    result = made("scene", scene_grid("EPSG:32633", 30.0), 6)
    result.commit(store)
    task(Member(source=found(result))).do(store)
    (mark,) = vouched(store, "g", LAYOUT, 0).values()
    tally = mark.counted.tally
    assert tally is not None
    pixels = shard(store, 0)
    assert tally.pixels == tuple(int((pixels == value).sum()) for value in (0, 1))
    assert tally.nodata == int((pixels == 255).sum())
    assert tally.areas_m2[1] == pytest.approx(tally.pixels[1] * 900, rel=2e-3)
    store.delete("g/cube.zarr/classes/c/0/0/0")
    assert not vouched(store, "g", LAYOUT, 0), "a mark is believed only as far as storage holds what it names"


def test_an_image_comes_as_everywhere_else_and_a_pixel_needs_all_bands(store: Store) -> None:
    grid = scene_grid("EPSG:32633", 30.0)
    coarse = replace(AREA, transform=(90, 0, 276480, 0, -90, 5591040), width=300, height=200)
    rng = np.random.default_rng(7)
    bands = {name: rng.integers(1, 5000, grid.shape).astype(np.uint16) for name in ("red", "nir")}
    bands["nir"][:50] = 0
    result = image_result("scene", "2020-06-01T10:00:00Z", grid, bands)
    result.commit(store)
    source = found(result)
    assert [(layer.name, layer.dtype, layer.nodata) for layer in source.layers] == [
        ("red", "uint16", 0),
        ("nir", "uint16", 0),
    ]
    values, valid = read_onto(store, source, grid, grid.window)
    assert np.array_equal(values["red"], bands["red"])
    assert np.array_equal(valid, bands["nir"] != 0)
    values, valid = read_onto(store, source, coarse, coarse.window)
    with rasterio.open(path_of(store, f"{result.prefix}/ndvi.tif")) as dataset:
        target = np.zeros(coarse.shape, np.uint16)
        reproject(
            dataset.read(1), target, src_transform=dataset.transform, src_crs=dataset.crs, src_nodata=0, dst_nodata=0,
            dst_transform=coarse.affine, dst_crs=coarse.crs, resampling=Resampling.average, XSCALE="1", YSCALE="1",
        )  # fmt: skip
    assert np.array_equal(values["red"][valid], target[valid])


def test_a_file_that_was_changed_since_its_commit_is_refused(store: Store) -> None:
    result = made("scene", scene_grid("EPSG:32633", 30.0), 8)
    result.commit(store)
    path = path_of(store, f"{result.prefix}/landwater.tif")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SceneError, match=r"landwater\.tif changed since it was checked"):
        task(Member(source=found(result))).do(store)


@pytest.mark.parametrize(("crs", "gsd"), KINDS.items())
def test_no_pixel_comes_from_beyond_what_a_scene_is_said_to_reach(store: Store, crs: str, gsd: float) -> None:
    result = made("scene", scene_grid(crs, gsd, 150), 9)
    result.commit(store)
    window = reached(scene_grid(crs, gsd, 150), AREA)
    inside = np.zeros(AREA.shape, bool)
    inside[window.slices(AREA.window)] = True
    whole = warped(path_of(store, f"{result.prefix}/landwater.tif")) != 255
    assert whole.any()
    assert not (whole & ~inside).any()
    assert window.size_px < 4 * whole.sum(), "and not much more than that"


def test_a_scene_elsewhere_reaches_nothing() -> None:
    assert not reached(scene_grid("EPSG:32632", 30.0, north_m=400_000), AREA)
    assert reached(AREA, AREA).contains(Window(0, 0, 1024, 512))


def test_a_task_takes_no_more_memory_than_it_says(store: Store) -> None:
    layout = CubeLayout(grid=replace(AREA, height=1024), layers=LAYOUT.layers, shard_px=1024)
    result = made("scene", scene_grid("EPSG:32632", 30.0, 900, east_m=15000, north_m=-15000), 1)
    result.commit(store)
    one = replace(task(Member(source=found(result), mask=found(result), masked=(1,))), layout=layout)
    tracemalloc.start()
    one.do(store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.1 * one.memory_bytes < peak <= one.memory_bytes
