"""Images of indices by the whole road: from a GeoTIFF to COG, Zarr and STAC, alone and in chains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rio_cogeo.cogeo import cog_validate

import earthloom
from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import plan
from earthloom.jobs.upkeep.verify import verify
from earthloom.tiling.errors import CardError, ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from tests.integration.test_images import OPTIONS, files, go
from tests.jobs.products.stac_validate import validate
from tests.scenes import landscape, write_scene

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    """(6, 560, 600); 0 is nodata, and nir + red is small over a lake, where EVI and BAI are far out."""
    made = landscape(600, 560, 6)
    made[:, 100:180, 300:460] = 0
    made[2:4, 300:340, 20:60] = 1
    return made


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, pixels: NDArray[np.uint16]) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "bay.tif", pixels, BANDS, nodata=0)


def reflectance(pixels: NDArray[np.uint16]) -> dict[str, NDArray[np.float32]]:
    return dict(zip(BANDS, pixels.astype(np.float32) * np.float32(1e-4), strict=True))


def test_ndvi_is_that_of_numpy_and_opens_everywhere(scene: Path, pixels: NDArray[np.uint16], tmp_path: Path) -> None:
    result = go(scene, tmp_path, "ndvi")
    assert result.exit_code == 0, result.scenes
    folder = tmp_path / result.results["bay"].prefix
    assert cog_validate(folder / "ndvi.tif", strict=True, quiet=True) == (True, [], [])
    bands, hole = reflectance(pixels), (pixels == 0).any(axis=0)
    wanted = (bands["nir"] - bands["red"]) / np.where(hole, 1, bands["nir"] + bands["red"])
    with rasterio.open(folder / "ndvi.tif") as cog:
        assert (cog.dtypes, cog.nodata, cog.descriptions) == (("int16",), -32768, ("ndvi",))
        assert (cog.scales, cog.offsets) == (pytest.approx((1e-4,)), (0.0,))
        stored = cog.read(1)
    np.testing.assert_array_equal(stored == -32768, hole)
    np.testing.assert_array_equal(stored[~hole], np.round(wanted[~hole] / np.float32(1e-4)))
    with xr.open_zarr(folder / "data.zarr", group="0") as data:
        np.testing.assert_allclose(data["ndvi"].values, np.where(hole, np.nan, wanted), atol=5.1e-5)
    with earthloom.open(str(tmp_path), "ndvi", scene="bay") as opened:
        np.testing.assert_array_equal(opened["ndvi"].values, stored)
    item = json.loads((folder / "item.json").read_bytes())
    validate(item)
    (band,) = item["assets"]["image"]["bands"]
    assert (band["name"], band["data_type"], band["raster:scale"]) == ("ndvi", "int16", pytest.approx(1e-4))
    assert verify(ObjectRef.parse(str(tmp_path))).exit_code == 0


def test_an_expression_without_a_value_is_nodata(scene: Path, pixels: NDArray[np.uint16], tmp_path: Path) -> None:
    result = go(scene, tmp_path, "index:ratio=log10(nir - 0.25) / (nir - red)")
    folder = tmp_path / result.results["bay"].prefix
    bands, hole = reflectance(pixels), (pixels == 0).any(axis=0)
    with np.errstate(all="ignore"):
        wanted = np.log10(bands["nir"] - np.float32(0.25)) / (bands["nir"] - bands["red"])
    defined = np.isfinite(wanted) & ~hole
    assert not defined[300:340, 20:60].any()
    assert 0.2 < defined.mean() < 0.8
    with rasterio.open(folder / "ratio.tif") as cog:
        assert cog.dtypes == ("float32",)
        assert np.isnan(cog.nodata)
        stored = cog.read(1)
    np.testing.assert_array_equal(np.isfinite(stored), defined)
    np.testing.assert_allclose(stored[defined], wanted[defined], rtol=1e-6)
    with xr.open_zarr(folder / "data.zarr", group="0") as data:
        np.testing.assert_array_equal(np.isfinite(data["ratio"].values), defined)
    validate(json.loads((folder / "item.json").read_bytes()))


def test_a_value_that_int16_cannot_hold_is_nodata(scene: Path, pixels: NDArray[np.uint16], tmp_path: Path) -> None:
    far = pixels.copy()
    far[0, 400:420, 100:140] = 5000  # a bright cloud: the denominator of EVI comes near 0
    far[2:4, 400:420, 100:140] = [[[3000]], [[9000]]]
    bands = reflectance(far)
    below = bands["nir"] + 6 * bands["red"] - np.float32(7.5) * bands["blue"] + 1
    with np.errstate(all="ignore"):
        evi = np.float32(2.5) * (bands["nir"] - bands["red"]) / below
    assert (np.abs(evi[400:420, 100:140]) > 3.3).all()
    result = go(write_scene(tmp_path / "in/far.tif", far, BANDS, nodata=0), tmp_path / "out", "evi")
    with rasterio.open(tmp_path / "out" / result.results["far"].prefix / "evi.tif") as cog:
        stored = cog.read(1)
    np.testing.assert_array_equal(stored == -32768, (far == 0).any(axis=0) | ~(np.abs(evi) <= 3.2767))


def test_an_index_has_the_same_bytes_for_every_block(scene: Path, tmp_path: Path) -> None:
    small, large = (go(scene, tmp_path / str(block), "savi", block=block) for block in (512, 1024))
    assert files(tmp_path / "512", small) == files(tmp_path / "1024", large)


def test_indices_follow_each_other_and_keep_what_was_asked_for(
    scene: Path, pixels: NDArray[np.uint16], tmp_path: Path
) -> None:
    result = go(scene, tmp_path, "ndvi", "index:both=min(ndvi, (nir - swir22) / (nir + swir22))", keep=("ndvi",))
    assert result.exit_code == 0, result.scenes
    folder = tmp_path / result.results["bay"].prefix
    bands, hole = reflectance(pixels), (pixels == 0).any(axis=0)
    with np.errstate(all="ignore"):
        ndvi, nbr = ((bands["nir"] - bands[b]) / (bands["nir"] + bands[b]) for b in ("red", "swir22"))
    with rasterio.open(folder / "ndvi-both.tif") as cog, rasterio.open(folder / "ndvi.tif") as kept:
        np.testing.assert_allclose(cog.read(1)[~hole], np.minimum(ndvi, nbr)[~hole], rtol=1e-5)
        np.testing.assert_allclose(kept.read(1)[~hole] * 1e-4, ndvi[~hole], atol=6e-5)


def test_an_index_of_an_enhanced_image_and_a_map_after_an_index(scene: Path, tmp_path: Path) -> None:
    image = go(scene, tmp_path / "one", "denoise", "nbr")
    assert image.exit_code == 0, image.scenes
    mapped = go(scene, tmp_path / "two", "ndvi", "water-index", keep=("ndvi",))
    assert mapped.exit_code == 0, mapped.scenes
    folder = tmp_path / "two" / mapped.results["bay"].prefix
    assert {"ndvi-water-index.tif", "ndvi.tif"} <= {path.name for path in folder.iterdir()}
    with pytest.raises(ConfigError, match="denoise takes all bands of a scene, and ndvi before it adds its own"):
        go(scene, tmp_path / "three", "ndvi", "denoise")


def test_a_fall_of_the_burn_ratio_is_between_two_dates(scene: Path, pixels: NDArray[np.uint16], tmp_path: Path) -> None:
    before = write_scene(
        tmp_path / "in/before.tif", landscape(600, 560, 6, seed=9), BANDS, nodata=0, date="2026:06:01 10:00:00"
    )
    result = go(scene, tmp_path / "out", "dnbr", before=str(before))
    assert result.exit_code == 0, result.scenes
    with rasterio.open(before) as source:
        earlier = reflectance(source.read())
    later, hole = reflectance(pixels), (pixels == 0).any(axis=0)
    with np.errstate(all="ignore"):
        first, second = ((b["nir"] - b["swir22"]) / (b["nir"] + b["swir22"]) for b in (earlier, later))
    with rasterio.open(tmp_path / "out" / result.results["bay"].prefix / "dnbr.tif") as cog:
        np.testing.assert_allclose(cog.read(1)[~hole] * 1e-4, (first - second)[~hole], atol=6e-5)


@pytest.mark.parametrize(("word", "refused"), [("index:nir", False), ("index:nir-thermal", True)])
def test_a_scene_without_a_band_of_the_expression_is_refused(
    word: str, refused: bool, scene: Path, tmp_path: Path
) -> None:
    options = load({"scenes": (str(scene),), "model": (word,), "out": str(tmp_path), **OPTIONS})
    assert ["thermal" in one.message for one in plan(options).refused] == [True] * refused


def test_code_stops_the_run_before_it_begins(scene: Path, tmp_path: Path) -> None:
    options = load({"scenes": (str(scene),), "model": ("index:__import__('os')",), "out": str(tmp_path), **OPTIONS})
    with pytest.raises(CardError, match="cannot read"):
        plan(options)


def test_keys_follow_the_expression_and_not_its_spelling(scene: Path, tmp_path: Path) -> None:
    def key(word: str) -> str:
        (made,) = plan(load({"scenes": (str(scene),), "model": (word,), "out": str(tmp_path), **OPTIONS})).scenes
        return made.key

    assert key("index:(nir-red)/(nir+red)") == key("index:( nir - red )/( nir + red )")
    assert key("index:(nir-red)/(nir+red)") != key("index:(nir-red)/(nir+red+1)")
