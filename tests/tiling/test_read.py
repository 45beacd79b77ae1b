from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.tile_cache import TileCache
from earthloom.tiling.scene import Asset, Band, Scene
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.window import Window
from tests.scenes import landscape, write_scene

GRID = Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=90, height=70)


def asset(path: Path) -> Asset:
    return pin(ObjectRef.parse(str(path)))


def scene(*paths: Path, bands: tuple[Band, ...], grid: Grid = GRID) -> Scene:
    return Scene(id="s", grid=grid, assets=tuple(map(asset, paths)), bands=bands, quantity="dn")


def bands(n: int, dtype: str = "uint16", nodata: float | None = None) -> tuple[Band, ...]:
    return tuple(Band(name=f"b{i}", asset=0, index=i, dtype=dtype, nodata=nodata) for i in range(1, n + 1))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = landscape(90, 70, 3)
    pixels[:, 20:25, 30:60] = 0
    return write_scene(tmp_path_factory.mktemp("read") / "s.tif", pixels, nodata=0)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    col=st.integers(-40, 90),
    row=st.integers(-40, 70),
    width=st.integers(1, 140),
    height=st.integers(1, 120),
    halo=st.integers(0, 100),
)
def test_a_window_is_a_part_of_the_reflected_scene(
    path: Path, col: int, row: int, width: int, height: int, halo: int
) -> None:
    with rasterio.open(path) as source:
        whole, mask = source.read(), source.read_masks(1) > 0
    margin = 300  # numpy reflects by the halo; beyond it there is nothing
    values = np.pad(
        np.pad(whole, ((0, 0), (halo, halo), (halo, halo)), mode="reflect"), ((0, 0), (margin,) * 2, (margin,) * 2)
    )
    valid = np.pad(np.pad(mask, halo, mode="reflect"), margin)
    window = Window(col, row, width, height)
    if not window & Window(-halo, -halo, 90 + 2 * halo, 70 + 2 * halo):
        return
    pixels = read_pixels(scene(path, bands=bands(3, nodata=0)), bands(3, nodata=0), window, halo)
    base = Window(-halo - margin, -halo - margin, values.shape[2], values.shape[1])
    rows, cols = window.slices(base)
    assert (pixels.values == values[:, rows, cols]).all()
    assert (pixels.valid == valid[rows, cols]).all()


def test_a_pixel_is_valid_only_if_every_band_is(tmp_path: Path) -> None:
    pixels = landscape(90, 70, 2).astype(np.float32)
    pixels[0, 1, 1], pixels[1, 2, 2], pixels[0, 3, 3] = np.nan, -999, np.inf
    path = write_scene(tmp_path / "f.tif", pixels, nodata=-999)
    known = bands(2, "float32", -999.0)
    found = read_pixels(scene(path, bands=known), known, GRID.window, 0)
    assert np.argwhere(~found.valid).tolist() == [[1, 1], [2, 2], [3, 3]]
    assert np.isfinite(found.values).all()


def test_a_mask_inside_the_file_counts(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "m.tif", landscape(90, 70, 2))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        mask = np.full((70, 90), 255, np.uint8)
        mask[5:9, 6:10] = 0
        dataset.write_mask(mask)
    found = read_pixels(scene(path, bands=bands(2)), bands(2), GRID.window, 0)
    assert np.array_equal(~found.valid, mask == 0)


def test_a_fourth_band_that_is_read_as_data_is_no_mask(tmp_path: Path) -> None:
    pixels = (landscape(90, 70, 4) // 40).astype(np.uint8)
    pixels[3, 10:20, 10:20] = 0
    path = write_scene(tmp_path / "naip.tif", pixels)
    three = bands(3, "uint8")
    assert not read_pixels(scene(path, bands=three), three, GRID.window, 0).valid[10:20, 10:20].any()
    every = tuple(replace(band, alpha=0) for band in bands(4, "uint8"))
    for wanted in (every, every[:3]):
        assert read_pixels(scene(path, bands=every), wanted, GRID.window, 0).valid.all()


def test_bands_come_in_the_order_asked_for_also_when_one_is_asked_for_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL 3.10 with decoder threads gives wrong pixels for a band that is named twice in one read."""
    monkeypatch.setenv("GDAL_NUM_THREADS", "2")
    pixels = landscape(600, 600, 3)
    path = write_scene(tmp_path / "s.tif", pixels, interleave="pixel")
    known = bands(3)
    wide = Grid(crs=GRID.crs, transform=GRID.transform, width=600, height=600)
    found = read_pixels(scene(path, bands=known, grid=wide), (known[2], known[0], known[2]), wide.window, 0)
    assert (found.values == pixels[[2, 0, 2]]).all()


def test_a_coarser_file_is_warped_once_over_the_whole_grid_however_it_is_cut(tmp_path: Path) -> None:
    fine = write_scene(tmp_path / "fine.tif", landscape(90, 70, 1))
    coarse = write_scene(
        tmp_path / "coarse.tif", landscape(45, 35, 1, 5), transform=rasterio.Affine(20, 0, 300000, 0, -20, 4500000)
    )
    known = (
        Band(name="a", asset=0, index=1, dtype="uint16"),
        Band(name="b", asset=1, index=1, dtype="uint16", resampling="bilinear"),
    )
    both = scene(fine, coarse, bands=known)
    whole = read_pixels(both, known, GRID.window, 0)
    with rasterio.open(coarse) as source, WarpedVRT(
        source, crs="EPSG:32617", transform=GRID.affine, width=90, height=70, resampling=Resampling.bilinear, tolerance=1e-12
    ) as warped:  # fmt: skip
        assert (whole.values[1] == warped.read(1)).all()
    assert whole.valid.all()
    for part in GRID.window.split(13):
        found = read_pixels(both, known, part, 0)
        rows, cols = part.slices(GRID.window)
        assert (found.values == whole.values[:, rows, cols]).all()


def test_quality_bands_are_never_averaged(tmp_path: Path) -> None:
    fine = write_scene(tmp_path / "fine.tif", landscape(90, 70, 1))
    flags = (landscape(45, 35, 1, 5) % 2 * 1000).astype(np.uint16)
    coarse = write_scene(tmp_path / "qa.tif", flags, transform=rasterio.Affine(20, 0, 300000, 0, -20, 4500000))
    known = (
        Band(name="a", asset=0, index=1, dtype="uint16"),
        Band(name="qa", asset=1, index=1, dtype="uint16", categorical=True, resampling="nearest"),
    )
    found = read_pixels(scene(fine, coarse, bands=known), known, GRID.window, 0)
    assert set(np.unique(found.values[1])) <= {0, 1000}


def test_ground_that_a_file_does_not_cover_is_not_valid(tmp_path: Path) -> None:
    fine = write_scene(tmp_path / "fine.tif", landscape(90, 70, 1))
    half = write_scene(
        tmp_path / "half.tif", landscape(20, 35, 1), transform=rasterio.Affine(20, 0, 300000, 0, -20, 4500000)
    )
    known = (
        Band(name="a", asset=0, index=1, dtype="uint16"),
        Band(name="b", asset=1, index=1, dtype="uint16", resampling="bilinear"),
    )
    found = read_pixels(scene(fine, half, bands=known), known, GRID.window, 0)
    assert found.valid[:, :39].all()
    assert not found.valid[:, 41:].any()


def test_a_damaged_tile_is_an_error_that_names_scene_file_and_window(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "s.tif", landscape(90, 70, 1))
    with rasterio.open(path) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[start : start + 64] = b"\0" * 64
    path.write_bytes(data)
    with pytest.raises(SceneError, match=r"s: cannot decode .*s\.tif.*Window\(col_off=0"):
        read_pixels(scene(path, bands=bands(1)), bands(1), GRID.window, 0)


def tiled(path: Path, *, sparse: bool, interleave: str = "pixel") -> Path:
    """1024 x 768 px of three bands in tiles of 256; the upper left 512 px do not exist in the file."""
    profile = {
        "driver": "GTiff", "width": 1024, "height": 768, "count": 3, "dtype": "uint16", "crs": "EPSG:32617",
        "transform": GRID.affine, "tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": interleave,
        "compress": "deflate", "sparse_ok": sparse, "nodata": 0,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, 768, 256):
            for col in range(0, 1024, 256):
                if row < 512 and col < 512:
                    continue
                part = rasterio.windows.Window(col, row, 256, 256)
                dataset.write(rng.integers(1, 999, (3, 256, 256)).astype(np.uint16), window=part)
    return path


LARGE = replace(GRID, width=1024, height=768)


def test_where_a_sparse_file_has_no_tile_nothing_is_read(tmp_path: Path) -> None:
    known = bands(3, nodata=0)
    sparse = scene(tiled(tmp_path / "s.tif", sparse=True), bands=known, grid=LARGE)
    core = Window(0, 0, 256, 256)
    found = read_pixels(sparse, known, core.grow(64), 64, decide=core)
    assert found.values.shape == (3, 384, 384)
    assert not found.valid.any()
    assert (found.cost.decoded_px, found.cost.file_bytes) == (0, 0)
    half = Window(256, 0, 512, 256)
    found = read_pixels(sparse, known, half.grow(64), 64, decide=half)
    whole = read_pixels(sparse, known, half.grow(64), 64)
    np.testing.assert_array_equal(found.values, whole.values)
    np.testing.assert_array_equal(found.valid, whole.valid)
    assert found.valid.any()
    unsaid = scene(tmp_path / "s.tif", bands=bands(3), grid=LARGE)
    assert read_pixels(unsaid, bands(3), core, 0, decide=core).valid.all(), "absent tiles of such a file are zeros"


@pytest.mark.parametrize(("interleave", "n_decoded"), [("pixel", 3), ("band", 2)])
def test_a_read_says_what_it_decoded(interleave: str, n_decoded: int, tmp_path: Path) -> None:
    known = bands(3, nodata=0)
    source = scene(tiled(tmp_path / "s.tif", sparse=False, interleave=interleave), bands=known, grid=LARGE)
    cost = read_pixels(source, known[:2], Window(500, 500, 20, 20), 0).cost
    assert cost.decoded_px == 4 * 256 * 256 * n_decoded
    with rasterio.open(tmp_path / "s.tif") as dataset:
        sizes = [dataset.block_size(band, row, col) for band in (1, 2) for row in (1, 2) for col in (1, 2)]
    assert cost.file_bytes == sum(sizes[:4] if interleave == "pixel" else sizes)


def test_through_a_cache_come_the_same_pixels_and_fewer_tiles_are_decoded(tmp_path: Path) -> None:
    known = bands(3, nodata=0)
    source = scene(tiled(tmp_path / "s.tif", sparse=False), bands=known, grid=LARGE)
    cache, plain_px, cached_px = TileCache(), 0, 0
    for core in LARGE.window.split(256):
        read = core.grow(32)
        plain = read_pixels(source, known, read, 32)
        cached = read_pixels(source, known, read, 32, decide=core, cache=cache)
        np.testing.assert_array_equal(cached.values, plain.values)
        np.testing.assert_array_equal(cached.valid, plain.valid)
        plain_px, cached_px = plain_px + plain.cost.decoded_px, cached_px + cached.cost.decoded_px
    assert cached_px == 3 * LARGE.window.size_px
    assert plain_px > 4 * cached_px


def test_absent_tiles_are_nodata_only_if_they_would_be_read_as_such(tmp_path: Path) -> None:
    known = bands(3, nodata=999)
    source = scene(tiled(tmp_path / "s.tif", sparse=True), bands=known, grid=LARGE)
    core = Window(0, 0, 512, 512)
    assert read_pixels(source, known, core, 0, decide=core).valid.all()


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_a_colour_that_is_absent_from_a_sparse_file_hides_no_other(tmp_path: Path, interleave: str) -> None:
    """Deep water without red: rasterio has it as valid where nodata counts in all colours only."""
    pixels = np.zeros((3, 512, 512), np.uint8)
    pixels[0, :, 256:], pixels[1:, :256] = 80, 60
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0, photometric="RGB", interleave=interleave, sparse_ok=True)
    colours = tuple(replace(band, nodata_in="all") for band in bands(3, "uint8", 0))
    source = scene(path, bands=colours, grid=replace(GRID, width=512, height=512))
    with rasterio.open(path) as dataset:
        truth = dataset.dataset_mask() > 0
    for core in source.grid.window.split(256):
        found = read_pixels(source, colours, core, 0, decide=core)
        np.testing.assert_array_equal(found.valid, truth[core.slices(source.grid.window)])


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, -0.1)])
def test_impossible_reflectance_is_nodata_in_its_own_pixel_only(tmp_path: Path, scale: float, offset: float) -> None:
    pixels = np.full((1, 70, 90), 0.2 / scale, np.float32)
    for place, value in (((10, 10), 1e20), ((20, 30), -1e20), ((40, 50), 3e24), ((60, 60), 2e5 / scale)):
        pixels[0][place] = value
    pixels[0, 5, 5] = 65535  # unscaled, maybe; to be told by whoever looks at values
    known = tuple(replace(band, scale=scale, offset=offset) for band in bands(1, "float32", None))
    source = scene(write_scene(tmp_path / "s.tif", pixels), bands=known)
    found = read_pixels(replace(source, quantity="toa_reflectance"), known, source.grid.window, 0)
    assert np.argwhere(~found.valid).tolist() == [[10, 10], [20, 30], [40, 50], [60, 60]]
    assert read_pixels(replace(source, quantity="dn"), known, source.grid.window, 0).valid.all()
