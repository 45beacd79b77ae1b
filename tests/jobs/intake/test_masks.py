"""Which pixels of a file are valid, against `rasterio.dataset_mask` and the file's alpha; what becomes of palettes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NodataShadowWarning

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, expand, open_scene
from earthloom.tiling.aoi import parse_aoi
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.sandbox import Disposables
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

_inspectors = Disposables()  # its child goes with this process
TIGHT = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
RGB = (("red", 1), ("green", 2), ("blue", 3))


def opened(path: Path | str, onto: str | None = None, **options: Any) -> OpenedScene:
    (request,) = expand([str(path)])
    return open_scene(request, SceneOptions(**options), _inspectors, onto=parse_aoi(onto).grid(512) if onto else None)


def on_half_pixels(path: Path, **options: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The (C, 120, 140) values of a file and where they are valid, on a grid of a file twice as fine."""
    fine = write_scene(
        path.with_name("fine.tif"), landscape(140, 120, 1), transform=rasterio.Affine(5, 0, 3e5, 0, -5, 45e5)
    )
    found = opened(f"{path},{fine}", **options)
    bands = tuple(band for band in found.scene.bands if band.asset == 0)
    read = read_pixels(found.scene, bands, found.scene.grid.window, 0)
    return read.values, read.valid


def valid(found: OpenedScene, *names: str) -> NDArray[np.bool_]:
    """Where the named bands, or all, are valid."""
    bands = found.scene.select(names or tuple(band.name for band in found.scene.bands))
    return read_pixels(found.scene, bands, found.scene.grid.window, 0).valid


def theirs(path: Path) -> NDArray[np.bool_]:
    warnings.filterwarnings("ignore", category=NodataShadowWarning)
    with rasterio.open(path) as dataset:
        mask: NDArray[np.bool_] = dataset.dataset_mask() > 0
        return mask


def colours(seed: int = 0) -> NDArray[np.uint8]:
    """(3, 60, 70), a half of whose pixels are 0 or 255 in some band."""
    rng = np.random.default_rng(seed)
    made: NDArray[np.uint8] = rng.choice(np.array([0, 0, 30, 90, 255], np.uint8), (3, 60, 70))
    made[:, 40:, 50:] = 0
    return made


def with_alpha(path: Path, place: int, n_bands: int, dtype: str = "uint8", nodata: float | None = None) -> NDArray[Any]:
    """A file of `n_bands` whose band at `place` is flagged as alpha; gives its pixels."""
    pixels = np.stack([*(landscape(70, 60, n_bands) % 200 + 20).astype(dtype)])
    pixels[place - 1] = np.random.default_rng(1).choice(np.array([0, 1, 255], dtype), (60, 70))
    pixels[:, :3, :3] = 0
    write_scene(path, pixels, nodata=nodata, photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha if i == place else ColorInterp.gray for i in range(1, n_bands + 1)]
    return pixels


@TIGHT
@given(n_bands=st.integers(2, 7), place=st.integers(1, 7), dtype=st.sampled_from(["uint8", "uint16", "float32"]))
def test_alpha_is_a_mask_wherever_it_stands(n_bands: int, place: int, dtype: str, tmp_path: Path) -> None:
    place = min(place, n_bands)
    pixels = with_alpha(tmp_path / "a.tif", place, n_bands, dtype)
    found = opened(tmp_path / "a.tif")
    assert [band.index for band in found.scene.bands] == [i for i in range(1, n_bands + 1) if i != place]
    np.testing.assert_array_equal(valid(found), pixels[place - 1] > 0)
    np.testing.assert_array_equal(valid(found, found.scene.bands[-1].name), pixels[place - 1] > 0)
    assert any(f"band {place} of a is alpha, so it is a mask and no channel" in note for note in found.notes)


@pytest.mark.parametrize("place", [1, 3, 5])
def test_alpha_is_heeded_on_another_grid_and_mixes_nothing(place: int, tmp_path: Path) -> None:
    pixels = np.full((5, 60, 70), 100, np.uint8)
    pixels[:, :, 30:] = 1
    pixels[place - 1] = np.where(np.arange(70) < 30, 255, 0)
    write_scene(tmp_path / "a.tif", pixels, photometric="MINISBLACK")
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha if i == place else ColorInterp.gray for i in range(1, 6)]
    values, known = on_half_pixels(tmp_path / "a.tif")
    assert known[:, :60].all()
    assert not known[:, 61:].any()
    assert set(np.unique(values[:, known])) == {100}


@pytest.mark.parametrize("option", [{"bands": (*RGB, ("nir", 4))}, {"sensor": "naip"}])
@pytest.mark.parametrize("nodata", [None, 0])
def test_a_band_that_is_named_as_data_wins_over_the_flag(
    option: dict[str, Any], nodata: float | None, tmp_path: Path
) -> None:
    pixels = (landscape(70, 60, 4) % 200 + 20).astype(np.uint8)
    pixels[3, 10:20] = 0
    path = write_scene(tmp_path / "a.tif", pixels, nodata=nodata)  # GDAL takes the fourth of four for alpha
    found = opened(path, **option)
    assert [band.name for band in found.scene.bands] == ["red", "green", "blue", "nir"]
    assert valid(found).all()
    assert valid(found, "red").all()
    with pytest.raises(SceneError, match=r"-colorinterp_4 undefined a\.tif"):
        opened(path, onto="EPSG:32617,5,300000,4499400,300700,4500000", **option)


@pytest.mark.parametrize(
    ("description", "is_data"),
    [("B8", True), ("NIR", True), ("Near infrared", True), ("Alpha", False), ("Band 4", False)],
)
def test_a_name_in_the_file_tells_data_from_alpha(description: str, is_data: bool, tmp_path: Path) -> None:
    pixels = (landscape(70, 60, 4) % 200 + 20).astype(np.uint8)
    found = opened(write_scene(tmp_path / "a.tif", pixels, ("red", "green", "blue", description)))
    assert len(found.scene.bands) == (4 if is_data else 3)


def test_a_file_of_alpha_alone_is_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "a.tif", landscape(70, 60, 1))
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha]
    with pytest.raises(SceneError, match="nothing but alpha"):
        opened(tmp_path / "a.tif")


def test_a_file_of_one_band_and_alpha_is_named_like_one_of_one_band(tmp_path: Path) -> None:
    for name, place in (("x_B03", 2), ("x_B11", 1)):
        with_alpha(tmp_path / f"{name}.tif", place, 2, "uint16")
    by_preset = opened(f"{tmp_path}/x_B03.tif,{tmp_path}/x_B11.tif", sensor="sentinel2-l2a")
    by_hand = opened(f"green={tmp_path}/x_B03.tif,swir16={tmp_path}/x_B11.tif")
    for found in (by_preset, by_hand):
        assert [(band.name, band.index) for band in found.scene.bands] == [("green", 1), ("swir16", 2)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colours_beside_alpha_are_black_where_they_are_0(dtype: str, tmp_path: Path) -> None:
    pixels = colours().astype(dtype)
    known = np.random.default_rng(3).choice(np.array([0, 255], dtype), (60, 70))
    write_scene(tmp_path / "a.tif", np.concatenate([pixels, known[None]]), nodata=0, photometric="RGB", alpha="YES")
    found = opened(tmp_path / "a.tif", bands=RGB)
    np.testing.assert_array_equal(valid(found), theirs(tmp_path / "a.tif"))
    np.testing.assert_array_equal(valid(found), known > 0)


@TIGHT
@given(
    nodata=st.sampled_from([None, 0, 255]), mask=st.sampled_from(["none", "alpha", "internal"]), seed=st.integers(0, 99)
)
def test_colours_in_8_bits_are_valid_where_rasterio_says(
    nodata: float | None, mask: str, seed: int, tmp_path: Path
) -> None:
    path, pixels = tmp_path / "a.tif", colours(seed)
    known = np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), (60, 70))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        made = np.concatenate([pixels, known[None]]) if mask == "alpha" else pixels
        write_scene(path, made, nodata=nodata, photometric="RGB", alpha="YES" if mask == "alpha" else "NO")
        if mask == "internal":
            with rasterio.open(path, "r+") as dataset:
                dataset.write_mask(known)
    found = opened(path, bands=RGB)
    # where nodata shadows alpha, rasterio compares alpha with it, and has the mask upside down where that is 255
    right = known > 0 if mask == "alpha" else theirs(path)
    np.testing.assert_array_equal(valid(found), right)
    np.testing.assert_array_equal(valid(found, "red"), right)
    if nodata is not None and mask == "none":
        assert any("`nodata_in=any` counts each band" in note for note in found.notes)
        strict = opened(path, bands=RGB, nodata_in="any")
        np.testing.assert_array_equal(valid(strict), (pixels != nodata).all(axis=0))


@TIGHT
@given(
    dtype=st.sampled_from(["uint16", "int16", "float32"]), nodata=st.sampled_from([0, 7, 90]), seed=st.integers(0, 99)
)
def test_other_bands_are_valid_where_all_are(dtype: str, nodata: float, seed: int, tmp_path: Path) -> None:
    pixels = (colours(seed) % 100).astype(dtype)
    path = write_scene(tmp_path / "a.tif", pixels, nodata=nodata)
    np.testing.assert_array_equal(valid(opened(path)), (pixels != nodata).all(axis=0))
    np.testing.assert_array_equal(valid(opened(path, nodata_in="all")), theirs(path))


def test_colours_in_8_bits_keep_what_is_black_in_one_of_them_on_another_grid(tmp_path: Path) -> None:
    pixels = np.full((3, 60, 70), 90, np.uint8)
    pixels[2, 10:30] = 0
    pixels[:, :, 40:] = 0
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0, photometric="RGB")
    values, known = on_half_pixels(path, bands=RGB)
    assert known[:, :80].all()
    assert not known[:, 81:].any()
    assert set(np.unique(values[:2, known])) == {90}
    assert (values[2, 21:59, :80] == 0).all()


def test_the_fill_of_a_presets_product_counts_in_each_band(tmp_path: Path) -> None:
    pixels = np.concatenate([colours(), colours(1)])
    path = write_scene(tmp_path / "a.tif", pixels, nodata=0, photometric="RGB")
    found = opened(path, sensor="landsat7-etm-dn", sun_elevation=45)
    np.testing.assert_array_equal(valid(found), (pixels != 0).all(axis=0))


@pytest.mark.parametrize("value", [np.finfo(np.float32).min, np.float32(-3.4e38), np.float32("inf"), np.float32("nan")])
@pytest.mark.parametrize("declared", [None, -3.4e38, -3.4028234663852886e38])
def test_the_lowest_float_is_no_measurement_however_it_is_spelt(
    value: np.float32, declared: float | None, tmp_path: Path
) -> None:
    pixels = landscape(70, 60, 2).astype(np.float32) / 1e4
    pixels[0, :, 30:] = value
    found = opened(write_scene(tmp_path / "a.tif", pixels, nodata=declared))
    np.testing.assert_array_equal(valid(found), np.broadcast_to(np.arange(70) < 30, (60, 70)))


def paletted(path: Path) -> Path:
    write_scene(path, (landscape(70, 60, 1) % 8).astype(np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (i * 30, 255 - i * 30, 9, 255) for i in range(8)})
    return path


@pytest.mark.parametrize("option", [{}, {"bands": (("red", 1),)}, {"quantity": "unit"}])
def test_a_palette_is_refused_with_the_command_that_expands_it(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"has a palette.*gdal_translate -expand rgb a\.tif a-rgb\.tif"):
        opened(paletted(tmp_path / "a.tif"), **option)


def test_a_palette_beside_an_image_is_taken_for_classes(tmp_path: Path) -> None:
    write_scene(tmp_path / "image.tif", landscape(70, 60, 1))
    found = opened(f"{tmp_path}/image.tif,{paletted(tmp_path / 'kinds.tif')}")
    assert [band.categorical for band in found.scene.bands] == [False, True]
    assert any("kinds has a palette, so it is taken for classes" in note for note in found.notes)
