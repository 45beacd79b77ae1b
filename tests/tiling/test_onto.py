"""Scenes of any CRS on one given grid: the answer of pyproj and numpy, and of GDAL over the whole file, under every cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.warp import reproject

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.preflight import inspect
from earthloom.tiling.reading.read import Pixels, read_pixels
from earthloom.tiling.reading.tile_cache import TileCache
from earthloom.tiling.resampling import pixel_ratio, resampling
from earthloom.tiling.scene import Scene
from earthloom.tiling.window import Window
from tests.scenes import landscape, write_scene
from tests.tiling.test_read import asset, bands

AOI = Grid(crs="EPSG:32633", transform=(10, 0, 300000, 0, -10, 5600000), width=700, height=600)
"""Near the border of the zones 32 and 33, where their grids are turned against each other by 4 degrees."""

NEAR = Transformer.from_crs("EPSG:32633", "EPSG:32632", always_xy=True).transform(303500, 5597000)


def onto(path: Path, grid: Grid, *, nodata: float | None = 0, categorical: bool = False) -> Scene:
    """A scene of one file, planned onto `grid` as the intake does it."""
    pinned = asset(path)
    header = inspect(pinned)
    how = resampling(header.grid, grid, categorical=categorical)
    known = tuple(
        replace(band, resampling=how, categorical=categorical) for band in bands(header.count, header.dtypes[0], nodata)
    )
    return Scene(id="s", grid=grid, assets=(pinned,), bands=known, quantity="dn")


def pixels_of(scene: Scene, window: Window | None = None, **options: Any) -> Pixels:
    return read_pixels(scene, scene.bands, window or scene.grid.window, 0, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onto")


def make(folder: Path, kind: str) -> Path:
    """A scene that covers the middle of AOI, but not all of it, with a hole of nodata."""
    pixels = landscape(560, 480, 2)
    pixels[:, 200:260, 100:180] = 0
    x, y = NEAR[0] - 2800, NEAR[1] + 2400
    if kind == "utm32":
        return write_scene(
            folder / "utm32.tif", pixels, crs="EPSG:32632", transform=Affine(10, 0, x, 0, -10, y), nodata=0
        )
    if kind == "utm33":
        return write_scene(
            folder / "utm33.tif", pixels, crs="EPSG:32633", transform=Affine(10, 0, 300703, 0, -10, 5599401), nodata=0
        )
    if kind == "south-up":
        bottom = y - 4800
        transform = Affine(10, 0, x, 0, 10, bottom)
        return write_scene(
            folder / "south.tif", np.ascontiguousarray(pixels[:, ::-1]), crs="EPSG:32632", transform=transform, nodata=0
        )
    if kind == "fine":
        fine = np.repeat(np.repeat(pixels, 3, 1), 3, 2)
        fine = np.where(fine > 0, fine + np.arange(3)[None, None].repeat(fine.shape[2] // 3, 2).reshape(1, 1, -1), 0)
        return write_scene(
            folder / "fine.tif", fine.astype(np.uint16), crs="EPSG:32632", transform=Affine(10 / 3, 0, x, 0, -10 / 3, y),
            nodata=0,
        )  # fmt: skip
    to_lonlat = Transformer.from_crs("EPSG:32632", "EPSG:4326", always_xy=True).transform
    (west, north), (east, south) = to_lonlat(x, y), to_lonlat(x + 5600, y - 4800)
    transform = Affine((east - west) / 560, 0, west, 0, (south - north) / 480, north)
    return write_scene(folder / "lonlat.tif", pixels, crs="EPSG:4326", transform=transform, nodata=0)


def places(path: Path, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of the file, in pixels from the centre of its first one, of every pixel centre of the grid."""
    with rasterio.open(path) as source:
        xs, ys = np.meshgrid(grid.xs(), grid.ys())
        x, y = Transformer.from_crs(grid.crs, source.crs, always_xy=True).transform(xs, ys)
        cols, rows = ~source.transform * (np.asarray(x), np.asarray(y))
    return rows - 0.5, cols - 0.5


@pytest.mark.parametrize("kind", ["utm32", "utm33", "south-up", "lonlat"])
def test_values_are_those_that_pyproj_and_numpy_interpolate(folder: Path, kind: str) -> None:
    path = make(folder, kind)
    scene = onto(path, AOI)
    assert {band.resampling for band in scene.bands} == {"bilinear"}
    found = pixels_of(scene)
    rows, cols = places(path, AOI)
    with rasterio.open(path) as source:
        band = source.read(1).astype(float)
    height, width = band.shape
    inside = (rows > 0) & (rows < height - 1) & (cols > 0) & (cols < width - 1)
    row, col = np.where(inside, np.floor(rows), 0).astype(int), np.where(inside, np.floor(cols), 0).astype(int)
    four = np.stack([band[row, col], band[row, col + 1], band[row + 1, col], band[row + 1, col + 1]])
    down, right = rows - row, cols - col
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    whole = inside & (four > 0).all(axis=0)
    assert whole.mean() > 0.4
    assert found.valid[whole].all()
    np.testing.assert_allclose(found.values[0][whole], (four * weights).sum(axis=0)[whole], atol=0.51)
    outside = (rows < -0.51) | (rows > height - 0.49) | (cols < -0.51) | (cols > width - 0.49)
    assert outside.mean() > 0.2
    assert not found.valid[outside].any(), "beyond the file there is nodata"
    assert not found.valid[inside & (four == 0).all(axis=0)].any(), "nodata stays nodata"


def test_categories_are_those_of_the_nearest_pixel(folder: Path) -> None:
    path = make(folder, "utm32")
    found = pixels_of(onto(path, AOI, categorical=True))
    rows, cols = (np.rint(axis).astype(int) for axis in places(path, AOI))
    with rasterio.open(path) as source:
        band = source.read(1)
    inside = (rows >= 0) & (rows < band.shape[0]) & (cols >= 0) & (cols < band.shape[1])
    expected = np.where(inside, band[np.where(inside, rows, 0), np.where(inside, cols, 0)], 0)
    assert np.mean(found.values[0] != expected) < 1e-4, "but for places on the edge between two pixels"


@pytest.mark.parametrize("kind", ["utm33", "fine"])
@pytest.mark.parametrize("gsd", [10, 15, 33])
def test_one_crs_is_warped_as_rasterio_warps_the_whole_file(folder: Path, kind: str, gsd: int) -> None:
    path = make(folder, kind)
    with rasterio.open(path) as source:
        crs, left, top = source.crs.to_string(), source.transform.c, source.transform.f
    grid = Grid(crs=crs, transform=(gsd, 0, left - 777, 0, -gsd, top + 333), width=8000 // gsd, height=7000 // gsd)
    scene = onto(path, grid)
    how = scene.bands[0].resampling
    assert how == ("bilinear" if (kind, gsd) == ("utm33", 10) else "average")
    found = pixels_of(scene)
    by_rasterio = {}
    for name in (how, "nearest"):
        by_rasterio[name] = np.zeros((2, *grid.shape), np.uint16)
        with rasterio.open(path) as source:
            reproject(
                source.read(), by_rasterio[name], src_transform=source.transform, src_crs=source.crs, src_nodata=0,
                dst_nodata=0, dst_transform=grid.affine, dst_crs=crs, resampling=rasterio.enums.Resampling[name],
                UNIFIED_SRC_NODATA="NO", XSCALE="1", YSCALE="1",
            )  # fmt: skip
    np.testing.assert_array_equal(found.values, by_rasterio[how])
    known = by_rasterio["nearest" if how == "bilinear" else how] > 0  # no pixel is made of what lies beside nodata
    np.testing.assert_array_equal(found.valid, known.all(axis=0))


@pytest.mark.parametrize(("gsd", "left", "top"), [(40, 0, 0), (33, -777, 333), (15, 5, -5)])
def test_coarser_pixels_are_the_mean_of_all_that_they_cover_by_area(
    tmp_path: Path, gsd: int, left: int, top: int
) -> None:
    pixels = np.random.default_rng(0).integers(1, 10000, (1, 1100, 1300)).astype(np.uint16)
    path = write_scene(tmp_path / "s.tif", pixels, transform=Affine(10, 0, 300000, 0, -10, 4500000), nodata=0)
    grid = Grid(
        crs="EPSG:32617",
        transform=(gsd, 0, 300000 + left, 0, -gsd, 4500000 + top),
        width=14000 // gsd,
        height=12000 // gsd,
    )
    down = np.clip((np.arange(grid.height + 1) * gsd - top) / 10, 0, 1100)
    right = np.clip((np.arange(grid.width + 1) * gsd + left) / 10, 0, 1300)
    sums = np.pad(pixels[0].astype(float).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    by_row = np.stack([np.interp(down, np.arange(1101), column) for column in sums.T], axis=1)
    total = np.stack([np.interp(right, np.arange(1301), row) for row in by_row])
    area = np.outer(np.diff(down), np.diff(right))
    mean = np.diff(np.diff(total, axis=0), axis=1) / np.maximum(area, 1e-9)
    found = pixels_of(onto(path, grid))
    whole = area > 0.999 * (gsd / 10) ** 2
    np.testing.assert_allclose(found.values[0][whole], mean[whole], atol=0.51)
    assert found.valid[whole].all()
    assert not found.valid[area < 1e-6].any(), "no value where the file covers nothing"


def test_a_grid_that_is_moved_by_whole_pixels_keeps_every_value(folder: Path) -> None:
    path = make(folder, "utm32")
    with rasterio.open(path) as source:
        band, transform = source.read(), source.transform
    grid = Grid(crs="EPSG:32632", transform=tuple(transform * Affine.translation(-40, 25))[:6], width=600, height=400)
    found = pixels_of(onto(path, grid))
    assert (found.values[:, :, 40:] == band[:, 25:425]).all()
    assert not found.valid[:, :40].any()


CUTS = ["utm32", "lonlat", "fine"]


@pytest.fixture(scope="module")
def wholes(folder: Path) -> dict[str, tuple[Scene, Pixels]]:
    coarse = replace(AOI, transform=(27, 0, 300000, 0, -27, 5600000), width=259, height=222)
    scenes = {kind: onto(make(folder, kind), coarse if kind == "fine" else AOI) for kind in CUTS}
    return {kind: (scene, pixels_of(scene)) for kind, scene in scenes.items()}


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(CUTS), col=st.integers(0, 699), row=st.integers(0, 599), width=st.integers(1, 700),
    height=st.integers(1, 600), cached=st.booleans(),
)  # fmt: skip
def test_any_window_is_a_part_of_the_whole(
    wholes: dict[str, tuple[Scene, Pixels]], kind: str, col: int, row: int, width: int, height: int, cached: bool
) -> None:
    scene, whole = wholes[kind]
    window = Window(col % scene.grid.width, row % scene.grid.height, width, height) & scene.grid.window
    found = pixels_of(scene, window, cache=TileCache() if cached else None)
    rows, cols = window.slices(scene.grid.window)
    np.testing.assert_array_equal(found.values, whole.values[:, rows, cols])
    np.testing.assert_array_equal(found.valid, whole.valid[rows, cols])


def test_the_grids_turned_against_each_other_do_not_blur(folder: Path) -> None:
    """GDAL widens its kernel by the extent of each piece in the file, which grows with the angle between the grids."""
    noise = np.random.default_rng(1).integers(1000, 9000, (1, 480, 560)).astype(np.uint16)
    transform = Affine(10, 0, NEAR[0] - 2800, 0, -10, NEAR[1] + 2400)
    path = write_scene(folder / "noise.tif", noise, crs="EPSG:32632", transform=transform, nodata=0)
    found = pixels_of(onto(path, AOI))
    assert found.values[0][found.valid].std() == pytest.approx(noise.std() * 2 / 3, rel=0.02), "as interpolation gives"


def test_which_way_is_taken_follows_from_both_grids_alone() -> None:
    south_up = replace(AOI, transform=(10, 0, 300000, 0, 10, 5594000))
    lonlat = Grid(crs="EPSG:4326", transform=(0.0001, 0, 12.2, 0, -0.0001, 50.5), width=700, height=600)
    assert resampling(AOI, AOI, categorical=True) is None
    assert resampling(south_up, AOI, categorical=False) == "bilinear"
    assert resampling(AOI, south_up, categorical=True) == "nearest"
    assert pixel_ratio(replace(AOI, transform=(20, 0, 300000, 0, -20, 5600000)), AOI) == pytest.approx(0.5)
    assert pixel_ratio(AOI, replace(AOI, transform=(20, 0, 300000, 0, -30, 5600000))) == pytest.approx(3)
    assert pixel_ratio(lonlat, AOI) == pytest.approx(10 / 7.07, rel=0.02), "a degree of longitude is short up here"
    assert resampling(lonlat, AOI, categorical=False) == "average"


def test_a_reader_that_nobody_told_how_to_resample_refuses(folder: Path) -> None:
    scene = onto(make(folder, "utm33"), AOI)
    silent = replace(scene, bands=tuple(replace(band, resampling=None) for band in scene.bands))
    with pytest.raises(SceneError, match=r"s: utm33\.tif lies on .* and the scene on .*, but nothing says how"):
        pixels_of(silent)
