"""Images and chains by the whole road: from a GeoTIFF to what an analyst opens, whatever the blocks."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from numpy.typing import NDArray
from PIL import Image
from rasterio import Affine
from rio_cogeo.cogeo import cog_validate

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.upkeep.verify import verify
from earthloom.models.cards.card import ModelClass
from earthloom.models.cards.file import write_card
from earthloom.models.zoo.rules import threshold_card
from earthloom.tiling.errors import InputError
from earthloom.tiling.storage.objects import ObjectRef
from tests import maps
from tests.hostile import tiff
from tests.jobs.products.stac_validate import validate
from tests.maps import SMALL, fetched
from tests.scenes import landscape, write_scene

BANDS = ("blue", "green", "red", "nir", "swir16")
STORED = ("red", "green", "blue", *BANDS[3:])
"""As viewers take them."""


OPTIONS = SMALL | {"quantity": "boa_reflectance"}


def go(scene: Path | str, out: Path, *model: str, **options: Any) -> RunResult:
    return maps.go(scene, out=out, model=model, **OPTIONS | options)


def files(out: Path, result: RunResult) -> dict[str, bytes]:
    """Everything that is the same whoever computed it."""
    prefix = out / next(iter(result.results.values())).prefix
    return {
        path.relative_to(prefix).as_posix(): path.read_bytes()
        for path in sorted(prefix.rglob("*"))
        if path.is_file() and path.name != "result.json" and path.parent.name != "blocks"
    }


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    made = landscape(700, 600, 5)
    made[:, 100:180, 300:460] = 0
    return made


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, pixels: NDArray[np.uint16]) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene") / "bay.tif", pixels, BANDS, nodata=0)


def test_an_image_keeps_grid_dtype_scale_and_nodata(scene: Path, pixels: NDArray[np.uint16], tmp_path: Path) -> None:
    result = go(scene, tmp_path, "dehaze")
    assert result.exit_code == 0, result.scenes
    folder = tmp_path / result.results["bay"].prefix
    assert cog_validate(folder / "dehaze.tif", strict=True, quiet=True) == (True, [], [])
    with rasterio.open(folder / "dehaze.tif") as cog, rasterio.open(scene) as source:
        assert (cog.crs, cog.transform, cog.shape) == (source.crs, source.transform, source.shape)
        assert (cog.dtypes, cog.nodata, cog.descriptions) == (("uint16",) * 5, 0, STORED)
        assert cog.scales == pytest.approx((1e-4,) * 5)
        image = cog.read()
        with xr.open_zarr(folder / "data.zarr", group="0", mask_and_scale=False) as data:
            for band, name in zip(image, STORED, strict=True):
                assert (data[name].values == band).all()
                assert data[name].rio.crs == cog.crs
        statistics = json.loads((folder / "item.json").read_bytes())["assets"]["image"]["bands"]
        for band, found in zip(image, statistics, strict=True):
            known = band[band > 0].astype(float)
            assert found["statistics"]["mean"] == pytest.approx(known.mean(), abs=1e-5)
            assert (found["statistics"]["minimum"], found["statistics"]["maximum"]) == (known.min(), known.max())
    image = image[[STORED.index(name) for name in BANDS]]
    hole = (pixels == 0).any(axis=0)
    assert ((image == 0).all(axis=0) == hole).all()
    for stored, clear in zip(pixels[:, ~hole].astype(int), image[:, ~hole], strict=True):
        haze = (stored - clear)[clear > 1]  # the darkest are cut at 0, and 0 is stored as 1
        assert haze.min() >= 0
        assert haze.max() > 0
    item = pystac.Item.from_file(str(folder / "item.json"))
    validate(item.to_dict(include_self_link=False, transform_hrefs=False))
    assert item.collection_id == "dehaze"
    assert "earthloom:class_areas" not in item.properties
    assert verify(ObjectRef.parse(str(tmp_path))).exit_code == 0
    assert (folder / "quicklook.png").stat().st_size > 1000
    again = go(scene, tmp_path, "dehaze")
    assert [progress.status for progress in again.scenes.values()] == ["already published"]


def test_a_nodata_value_that_the_dtype_can_only_come_near_is_published(tmp_path: Path) -> None:
    pixels = (landscape(200, 150, 5) / 10_000).astype(np.float32)
    pixels[:, 20:40, 30:90] = 0.1
    scene = write_scene(tmp_path / "near.tif", pixels, BANDS)
    result = go(scene, tmp_path / "out", "denoise", nodata=0.1, scale=1.0)
    assert result.exit_code == 0, result.scenes
    with rasterio.open(tmp_path / "out" / result.results["near"].prefix / "denoise.tif") as cog:
        assert cog.nodata == np.float32(0.1)
        assert (cog.read_masks(1) == 0).sum() == 20 * 60


@pytest.mark.parametrize("model", ["stretch", "denoise", "destripe", "dehaze"])
def test_an_image_has_the_same_bytes_for_every_block(model: str, scene: Path, tmp_path: Path) -> None:
    small, large = (go(scene, tmp_path / str(block), model, block=block) for block in (512, 1024))
    assert (small.exit_code, large.exit_code) == (0, 0), small.scenes
    assert files(tmp_path / "512", small) == files(tmp_path / "1024", large)


@pytest.mark.long
def test_super_resolution_halves_the_pixels_and_a_chain_maps_them(tmp_path: Path) -> None:
    fetched("sr-x2")
    pixels = landscape(300, 270, 5)
    pixels[:, 40:90, 130:200] = 0
    scene = write_scene(tmp_path / "in/bay.tif", pixels, BANDS, nodata=0)
    small, large = (
        go(scene, tmp_path / str(block), "sr-x2", "water-index", keep=("sr-x2",), block=block) for block in (512, 2048)
    )
    assert (small.exit_code, large.exit_code) == (0, 0), small.scenes
    made = files(tmp_path / "512", small)
    assert made == files(tmp_path / "2048", large)
    folder = tmp_path / "512" / small.results["bay"].prefix
    with (
        rasterio.open(scene) as source,
        rasterio.open(folder / "sr-x2.tif") as fine,
        rasterio.open(folder / "sr-x2-water-index.tif") as classes,
    ):
        assert fine.shape == classes.shape == (2 * source.height, 2 * source.width)
        assert fine.bounds == source.bounds
        assert fine.transform == source.transform * fine.transform.scale(0.5)
        hole = np.kron((source.read() == 0).any(axis=0), np.ones((2, 2), bool))
        assert ((classes.read(1) == 255) == hole).all()
        kept = fine.read(masked=True)
        assert (np.ma.getmaskarray(kept) == hole).all()
    green, swir = (
        kept[number].astype(float) * 1e-4 for number in (fine_bands(folder).index(n) for n in ("green", "swir16"))
    )
    with rasterio.open(folder / "sr-x2-water-index.tif") as classes:
        wet = classes.read(1) == 1
    sure = ~hole & (abs(green - swir) > 2e-4)  # the image is stored in whole numbers, the chain is not
    assert (wet == (green > swir))[sure].all()


def fine_bands(folder: Path) -> list[str]:
    with rasterio.open(folder / "sr-x2.tif") as fine:
        return list(fine.descriptions)


def test_a_pair_of_dates_gives_a_burn_map_that_follows_the_formula(tmp_path: Path) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    names = ("nir", "swir22")
    before, after = landscape(600, 520, 2, 1), landscape(600, 520, 2, 2)
    early = write_scene(tmp_path / "in/early.tif", before, names, date="2026:06:01 10:00:00")
    late = write_scene(tmp_path / "in/late.tif", after, names, date="2026:08:01 10:00:00")
    result = go(late, tmp_path / "out", "burn-severity", before=str(early))
    assert result.exit_code == 0, result.scenes
    with rasterio.open(tmp_path / "out" / result.results["late"].prefix / "burn-severity.tif") as cog:
        classes = cog.read(1)
    nbr = [(nir - swir) / (nir + swir) for nir, swir in (before.astype(float), after.astype(float))]
    difference, edges = nbr[0] - nbr[1], np.array([-0.251, -0.101, 0.099, 0.269, 0.439, 0.659])
    raw = np.pad((difference > 0.15) & (nbr[1] < 0), 8, mode="reflect")  # the scene is reflected by the card's halo
    y, x = np.mgrid[-2:3, -2:3]
    disc = np.hypot(y, x) < 2.4
    closed = ndimage.binary_erosion(ndimage.binary_dilation(raw, disc), disc, border_value=1)
    burnt = ndimage.binary_dilation(ndimage.binary_erosion(closed, disc, border_value=1), disc)[8:-8, 8:-8]
    assert 0.05 < burnt.mean() < 0.95
    severity = np.digitize(difference, edges)
    wanted = np.where(burnt, np.maximum(severity, 3), np.minimum(severity, 2))
    near = np.minimum(np.abs(difference[..., None] - edges).min(-1), np.abs(nbr[1]))
    assert (wanted == classes)[near > 1e-4].mean() > 0.999
    swapped = go(early, tmp_path / "out", "burn-severity", before=str(late))
    assert swapped.exit_code == 2
    assert "2026-08-01" in str(swapped.scenes["early"].error)
    alone = run_error(late, tmp_path / "out", "burn-severity")
    assert "`before=<scene>`" in alone


def read(out: Path, result: RunResult) -> NDArray[np.generic]:
    folder = out / next(iter(result.results.values())).prefix
    with rasterio.open(next(folder.glob("*.tif"))) as cog:
        found: NDArray[np.generic] = cog.read()
        return found


def test_a_stretch_behind_another_image_sees_that_image_whatever_the_block(scene: Path, tmp_path: Path) -> None:
    options = {"scale": 1e-4, "quantity": "toa_reflectance"}
    whole = go(scene, tmp_path / "whole", "dehaze", "stretch", block=1024, **options)
    cut = go(scene, tmp_path / "cut", "dehaze", "stretch", **options)
    assert (whole.exit_code, cut.exit_code) == (0, 0), (whole.scenes, cut.scenes)
    assert np.array_equal(read(tmp_path / "whole", whole), read(tmp_path / "cut", cut))
    first = go(scene, tmp_path / "first", "dehaze", **options)
    hazeless = tmp_path / "first" / first.results["bay"].prefix / "dehaze.tif"
    alone = go(hazeless, tmp_path / "alone", "stretch", **options)
    between = np.abs(read(tmp_path / "whole", whole).astype(int) - read(tmp_path / "alone", alone))
    assert between.max() <= 1, "stored in steps of 0.0001 in between"


def test_a_stretch_behind_a_mask_does_not_see_what_is_hidden(pixels: NDArray[np.uint16], tmp_path: Path) -> None:
    cloudy = pixels.copy()
    cloudy[:, 200:400, :300] = 9000
    hidden = (cloudy == 9000).all(axis=0)
    scene = write_scene(tmp_path / "cloudy/bay.tif", cloudy, BANDS, nodata=0)
    hole = write_scene(tmp_path / "hole/bay.tif", np.where(hidden, 0, cloudy), BANDS, nodata=0)
    card = threshold_card(
        "bright", "blue - 0.8", classes=(ModelClass(value=0, name="dark", color="#000000"),
                                         ModelClass(value=1, name="bright", color="#ffffff")),
        title="", description="", citation="",
    )  # fmt: skip
    (tmp_path / "bright").mkdir()
    write_card(tmp_path / "bright", replace(card, masks=(1,)))
    masked = go(scene, tmp_path / "a", str(tmp_path / "bright"), "stretch")
    assert masked.exit_code == 0, masked.scenes
    seen = read(tmp_path / "a", masked)
    assert (seen[:, hidden] == 0).all()
    assert np.array_equal(seen, read(tmp_path / "b", go(hole, tmp_path / "b", "stretch")))
    assert not np.array_equal(seen, read(tmp_path / "c", go(scene, tmp_path / "c", "stretch")))


def sharpened(folder: Path, shift_px: int) -> RunResult:
    """A panchromatic band of 512 px whose pixels lie so many too far right, and bands of half as many."""
    fine = landscape(512 + 16, 512, 3)
    pan = fine.mean(axis=0, keepdims=True).astype(np.uint16)[:, :, 8 - shift_px : 520 - shift_px]
    coarse = fine[:, :, 8:520].reshape(3, 256, 2, 256, 2).mean((2, 4)).astype(np.uint16)
    one = write_scene(folder / "pan.tif", pan, ("pan",), transform=Affine(10, 0, 300000, 0, -10, 4500000))
    many = write_scene(folder / "ms.tif", coarse, BANDS[:3], transform=Affine(20, 0, 300000, 0, -20, 4500000))
    return go(f"{many},pan={one}", folder / "out", "pansharpen", scene_id="bay")


def test_a_panchromatic_band_that_lies_beside_the_others_is_told_and_refused_beyond_one_of_their_pixels(
    tmp_path: Path,
) -> None:
    right = sharpened(tmp_path / "right", 0)
    assert right.exit_code == 0, right.scenes
    assert not [text for _, text in right.notes if "pan lies" in text]
    beside = sharpened(tmp_path / "beside", 1)
    (told,) = [text for _, text in beside.notes if "pan lies" in text]
    assert "1.0 px right and 0.0 px" in told
    far = sharpened(tmp_path / "far", -5)
    assert far.exit_code == 1, "no scene is left"
    assert "5.0 px left" in str(far.scenes["bay"].error)


def run_error(scene: Path, out: Path, *model: str, **options: Any) -> str:
    """What a run that cannot be planned says, as an error or of its scene."""
    try:
        result = go(scene, out, *model, **options)
    except InputError as error:
        return str(error)
    assert result.exit_code == 2
    return str(next(iter(result.scenes.values())).error)


def test_a_mask_takes_clouds_out_of_a_map_before_and_after(tmp_path: Path) -> None:
    fetched("cloudmask")
    scene = write_scene(tmp_path / "in/bay.tif", landscape(280, 200, 5), BANDS, nodata=0)
    whole = go(scene, tmp_path, "water-index")
    masked = go(scene, tmp_path, "water-index", mask_clouds=True)
    after = go(scene, tmp_path, "water-index", "cloudmask")
    assert (masked.exit_code, after.exit_code) == (0, 0), (masked.scenes, after.scenes)
    maps = []
    for result in (whole, masked, after):
        folder = tmp_path / result.results["bay"].prefix
        with rasterio.open(next(path for path in folder.glob("*.tif") if "confidence" not in path.name)) as cog:
            maps.append(cog.read(1))
    plain, before_map, after_map = maps
    assert np.array_equal(before_map, after_map), "an index sees one pixel: when it is masked does not matter"
    seen = before_map != 255
    assert (before_map[seen] == plain[seen]).all()
    assert (plain[~seen] != 255).any() or seen.sum() == (plain != 255).sum()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (("water-index", "dehaze"), {}, "land, water in the middle"),
        (("water-index",), {"keep": ("dehaze",)}, "no such stage"),
        (("water-index+burn-nbr",), {}, "same bands"),
        (("dehaze+stretch",), {}, "only segmentations make an ensemble"),
        (("landwaters",), {}, "the zoo has"),
    ],
)
def test_stages_that_make_no_chain_are_refused(
    model: tuple[str, ...], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(64, 64, 6), (*BANDS, "swir22"))
    assert message in run_error(scene, tmp_path / "out", *model, **options)


def test_products_of_real_and_whole_numbers_share_a_collection(tmp_path: Path) -> None:
    """And a second run over one more scene, with other bands, adds to the same table."""
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    names = ("blue", "green", "red")
    whole = write_scene(tmp_path / "whole.tif", rng.integers(1, 4, (3, 64, 64)).astype("int16"), names, nodata=-9999)
    real = write_scene(tmp_path / "real.tif", rng.random((3, 64, 64)).astype("float32"), names, nodata=np.nan)
    one = write_scene(tmp_path / "one.tif", rng.random((1, 64, 64)), ("nir",), nodata=None)
    for scenes in ((whole, real), (one,)):
        options = OPTIONS | {"model": "destripe", "scale": 1.0}
        assert maps.go(*scenes, out=tmp_path / "out", **options).exit_code == 0
    table = pq.read_table(tmp_path / "out" / "collections" / "destripe" / "items.parquet", columns=["id"])
    assert table.num_rows == 3
    assert verify(ObjectRef.parse(str(tmp_path / "out"))).exit_code == 0


@pytest.mark.parametrize(
    ("names", "stored", "dtype", "model", "photometric"),
    [
        (("red", "green", "blue"), ("red", "green", "blue"), "uint8", "stretch", 2),
        (("red", "green", "blue", "nir"), ("red", "green", "blue", "nir"), "uint16", "dehaze", 2),
        (("blue", "green", "red", "nir"), ("red", "green", "blue", "nir"), "uint16", "dehaze", 2),
        (("nir", "red", "green"), ("nir", "red", "green"), "float32", "dehaze", 1),
    ],
)
def test_red_is_red_in_every_viewer(
    names: tuple[str, ...], stored: tuple[str, ...], dtype: str, model: str, photometric: int, tmp_path: Path
) -> None:
    pixels = landscape(200, 150, len(names))
    scene = write_scene(tmp_path / "bay.tif", (pixels >> 6 if dtype == "uint8" else pixels).astype(dtype), names)
    result = go(scene, tmp_path / "out", model)
    path = tmp_path / "out" / result.results["bay"].prefix / f"{model}.tif"
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as cog:
        assert cog.descriptions == stored
        assert [color.name for color in cog.colorinterp] == [n if n != "nir" else "undefined" for n in stored]
        assert cog.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    with Image.open(path) if dtype == "uint8" else nullcontext() as picture:  # a viewer that knows no GDAL
        assert picture is None or picture.mode == "RGB"
    assert tiff.get_array(path, tiff.PHOTOMETRIC)[0] == photometric
