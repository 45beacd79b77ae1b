"""Bands on another grid than the scene's: one warp, the same however it is cut, that invents no value and keeps masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.quantity import NodataIn
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.resampling import Resampling
from earthloom.tiling.scene import Band, Scene
from tests.scenes import write_scene
from tests.tiling.test_read import GRID, bands, scene

TWICE = rasterio.Affine(20, 0, 300000, 0, -20, 4500000)
"""Of files whose pixels are two by two of GRID's."""


def _one(
    path: Path, grid: Grid, n: int, dtype: str, nodata: float | None, resampling: Resampling = "bilinear"
) -> tuple[Scene, tuple[Band, ...]]:
    known = tuple(replace(band, resampling=resampling) for band in bands(n, dtype, nodata))
    return scene(path, bands=known, grid=grid), known


def test_a_warp_onto_coarser_pixels_does_not_depend_on_the_cut(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 20, (1, 600, 600)).astype(np.uint16)
    grid = Grid(crs=GRID.crs, transform=(33, 0, 300007, 0, -33, 4499993), width=1200, height=300)
    source, known = _one(write_scene(tmp_path / "s.tif", pixels, nodata=0), grid, 1, "uint16", 0.0)
    whole = read_pixels(source, known, grid.window, 0)
    assert len(np.unique(whole.values)) > 10
    for part in grid.window.split(77):
        found = read_pixels(source, known, part, 0)
        inside = part.slices(grid.window)
        np.testing.assert_array_equal(found.values, whole.values[(slice(None), *inside)])


def test_nodata_of_one_band_is_no_value_after_a_warp(tmp_path: Path) -> None:
    pixels = np.full((2, 35, 45), 1000, np.int16)
    pixels[0, 10:20, 10:20] = -9999
    path = write_scene(tmp_path / "s.tif", pixels, transform=TWICE, nodata=-9999)
    found = read_pixels(*_one(path, GRID, 2, "int16", -9999.0), GRID.window, 0)
    assert not found.valid[22:38, 22:38].any()
    assert (found.values[0][found.valid] == 1000).all()


@pytest.mark.parametrize("fill", [float(np.finfo("f4").min), -3.4e38, 1.7e38, 9.97e36, np.nan, np.inf])
@pytest.mark.parametrize("resampling", ["bilinear", "average"])
def test_fill_that_nobody_declares_is_mixed_into_no_valid_pixel(
    tmp_path: Path, fill: float, resampling: Resampling
) -> None:
    pixels = np.full((1, 70, 90), 0.25, np.float32)
    pixels[0, 20:41, 20:41] = fill
    for size, shift in ((10, 0.0), (20, 0.0), (20, 1e-7), (7, 0.0), (7, 1e-7)):  # of the file's pixels, in metres
        place = rasterio.Affine(size, 0, 300000 + shift, 0, -size, 4500000)
        path = write_scene(tmp_path / f"{size}-{shift}.tif", pixels, transform=place)
        found = read_pixels(*_one(path, GRID, 1, "float32", None, resampling), GRID.window, 0)
        np.testing.assert_allclose(found.values[0][found.valid], 0.25, rtol=1e-6)
        assert not found.values[0][~found.valid].any(), "what is not valid is 0, so that no network meets it"
        assert found.valid.any()
        assert not found.valid.all()


@pytest.mark.parametrize("resampling", ["bilinear", "average"])
@pytest.mark.parametrize("n_bands", [1, 3])
@pytest.mark.parametrize("fill", [np.nan, np.inf, -3.4e38])
def test_what_is_no_measurement_costs_as_many_pixels_as_declared_nodata_however_it_is_cut(
    fill: float, n_bands: int, resampling: Resampling, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(0.1, 0.2, (n_bands, 300, 900)).astype(np.float32)
    holes = rng.random(pixels.shape) < 0.02
    holes[:, :, :300] = False  # most of it has none
    size = 20 if resampling == "bilinear" else 4
    place = rasterio.Affine(size, 0, 300003, 0, -size, 4500004)
    grid = Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=90 * size, height=30 * size)
    found = []
    for number, declared in ((fill, None), (-9999.0, -9999.0), (fill, -9999.0)):
        path = write_scene(
            tmp_path / f"{number}-{declared}.tif",
            np.where(holes, np.float32(number), pixels),
            transform=place,
            nodata=declared,
        )
        source, known = _one(path, grid, n_bands, "float32", declared, resampling)
        read = read_pixels(source, known, grid.window, 0)
        for part in grid.window.split(401):
            again = read_pixels(source, known, part, 0)
            np.testing.assert_array_equal(again.valid, read.valid[part.slices(grid.window)])
            np.testing.assert_array_equal(again.values, read.values[(slice(None), *part.slices(grid.window))])
        found.append(read)
    _, wanted, _ = found
    for read in found:
        np.testing.assert_array_equal(read.valid, wanted.valid)
        np.testing.assert_allclose(read.values[:, read.valid], wanted.values[:, read.valid], rtol=1e-6)
    assert wanted.valid[20:-20, 20:-20].mean() > 0.9


def test_mask_and_nodata_both_count_after_a_warp(tmp_path: Path) -> None:
    pixels = np.full((1, 35, 45), 1000, np.int16)
    pixels[0, :3] = -9999
    path = write_scene(tmp_path / "s.tif", pixels, transform=TWICE, nodata=-9999)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        mask = np.full((35, 45), 255, np.uint8)
        mask[20:25] = 0
        dataset.write_mask(mask)
    found = read_pixels(*_one(path, GRID, 1, "int16", -9999.0), GRID.window, 0)
    assert not found.valid[:5].any()
    assert not found.valid[41:49].any()
    assert found.valid[8:38].all()


@pytest.mark.parametrize("nodata", [0.0, None])
@pytest.mark.parametrize("n_bands", [1, 3])
def test_small_holes_stay_however_many_bands_a_file_has_and_whatever_says_where_they_are(
    n_bands: int, nodata: float | None, tmp_path: Path
) -> None:
    """Nodata and a mask of the same pixels are valid alike: where the file's pixel around the middle is."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(200, 6000, (n_bands, 35, 45)).astype(np.uint16)
    holes = rng.random((35, 45)) < 0.15
    pixels[:, holes] = 0
    path = write_scene(tmp_path / "s.tif", pixels, transform=TWICE, nodata=nodata)
    if nodata is None:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.where(holes, 0, 255).astype(np.uint8))
    found = read_pixels(*_one(path, GRID, n_bands, "uint16", nodata), GRID.window, 0)
    assert np.array_equal(found.valid, np.kron(~holes, np.ones((2, 2), bool))[: GRID.height, : GRID.width])
    alone = read_pixels(*_one(path, GRID, 1, "uint16", nodata), GRID.window, 0)
    np.testing.assert_array_equal(alone.valid, found.valid)
    np.testing.assert_array_equal(alone.values[0], found.values[0])


@pytest.mark.parametrize("resampling", ["bilinear", "average"])
@pytest.mark.parametrize("nodata_in", ["any", "all"])
@pytest.mark.parametrize("hides", ["mask", "alpha", "both"])
def test_what_a_mask_hides_beside_nodata_is_mixed_into_no_pixel_however_it_is_cut(
    hides: str, nodata_in: NodataIn, resampling: Resampling, tmp_path: Path
) -> None:
    """What is valid is 1000 everywhere, so whatever else comes out is of hidden pixels or of fill."""
    rng = np.random.default_rng(0)
    size, n_rows, n_cols = (20, 200, 300) if resampling == "bilinear" else (4, 1000, 1500)
    hidden, fill = (np.kron(rng.random((20, 30)) < 0.2, np.ones((n_rows // 20,) * 2, bool)) for _ in range(2))
    pixels = np.where(hidden, 60000, np.where(fill, 0, 1000)).astype(np.uint16)
    opaque = np.where(hidden, 0, 65535).astype(np.uint16)
    bands, color = ([pixels], None) if hides == "mask" else ([pixels, opaque], (ColorInterp.gray, ColorInterp.alpha))
    place = rasterio.Affine(size, 0, 300003, 0, -size, 4500004)
    path = write_scene(tmp_path / "s.tif", np.stack(bands), transform=place, nodata=0)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        if color:
            dataset.colorinterp = color
        if hides != "alpha":
            dataset.write_mask(np.where(hidden, 0, 255).astype(np.uint8))
    grid = Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=600, height=400)
    source, (known,) = _one(path, grid, 1, "uint16", 0.0, resampling)
    known = replace(known, alpha=None if hides == "mask" else 2, nodata_in=nodata_in)
    found = read_pixels(source, (known,), grid.window, 0)
    assert set(np.unique(found.values[0][found.valid])) == {1000}
    if resampling == "bilinear":  # valid where the pixel of the file around its middle is, as GDAL has it
        cols, rows = np.meshgrid((grid.xs() - place.c) / size, (grid.ys() - place.f) / -size)
        inside = (rows >= 0) & (cols >= 0) & (rows < n_rows) & (cols < n_cols)
        seen = (~hidden & ~fill)[rows.astype(int).clip(0, n_rows - 1), cols.astype(int).clip(0, n_cols - 1)] & inside
        assert np.array_equal(found.valid, seen)
    for part in grid.window.split(170):
        again = read_pixels(source, (known,), part, 0)
        np.testing.assert_array_equal(again.valid, found.valid[part.slices(grid.window)])
        np.testing.assert_array_equal(again.values[0], found.values[0][part.slices(grid.window)])


def test_a_band_for_alpha_is_the_mask_after_a_warp_and_never_data(tmp_path: Path) -> None:
    pixels = np.full((4, 35, 45), 100, np.uint8)
    pixels[3, 20:25] = 0
    path = write_scene(tmp_path / "s.tif", pixels, transform=TWICE)
    assert not read_pixels(*_one(path, GRID, 3, "uint8", None), GRID.window, 0).valid[41:49].any()
    source, known = _one(path, GRID, 4, "uint8", None)
    with pytest.raises(SceneError, match=r"declared as alpha.*-colorinterp_4 undefined"):
        read_pixels(source, tuple(replace(band, alpha=0) for band in known), GRID.window, 0)
