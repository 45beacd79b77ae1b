"""Chips in folders become one scene: their values and what has no data are those of the files, whatever their form."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from earthloom.jobs.learning.batches import Crops, Sampling
from earthloom.jobs.learning.config import load_training
from earthloom.jobs.learning.corpus import open_corpus
from earthloom.jobs.learning.folders import Mosaic, make_mosaic
from earthloom.jobs.learning.labels import IGNORE, LabelClass, LabelOptions
from earthloom.jobs.learning.start import First
from earthloom.jobs.learning.train import prepare
from earthloom.models.training.augment import Variety
from earthloom.tiling.errors import ConfigError, SceneError

SIDE = 16
BANDS = ("red", "green", "blue")
OPTIONS = LabelOptions(classes=(LabelClass(value=0, name="sea"), LabelClass(value=1, name="land")))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))


def laid_out(folder: Path, named: frozenset[int] = frozenset()) -> Mosaic:
    return make_mosaic(str(folder), OPTIONS, name="train", core_px=SIDE, gsd_m=10, number=0, named=named)


def chip(seed: int, dtype: str = "uint8", bands: int = 3) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, np.iinfo(dtype).max, (bands, SIDE, SIDE)).astype(dtype)


def tiff(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    options |= {"crs": "EPSG:32617", "transform": Affine(10, 0, 300000, 0, -10, 4500000)}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=pixels.dtype,
        **options,
    ) as file:
        file.write(pixels)


def read(made: Mosaic) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any]]:
    with rasterio.open(made.scene) as scene, rasterio.open(made.labels) as labels:
        return scene.read(), (scene.read_masks() != 0).all(axis=0), labels.read(1)


def training(folder: Path, bands: Sequence[str]) -> dict[str, Any]:
    return {
        "name": "shores", "out": str(folder / "model"), "schedule": {"steps": 1}, "chips": {"core_px": SIDE},
        "labels": {"classes": [{"value": 0, "name": "sea"}, {"value": 1, "name": "land"}]},
        "split": {"by": "block", "block_px": SIDE, "validation": 0, "test": 0},
        "model": {"architecture": "classifier", "encoder": "resnet18", "bands": list(bands)},
    }  # fmt: skip


def deep_png(path: Path, pixels: NDArray[np.uint16]) -> None:
    """Written by hand (ISO/IEC 15948): neither Pillow nor our GDAL writes 16 bits for each of three colours."""
    bands, height, width = pixels.shape
    rows = np.moveaxis(pixels, 0, -1).astype(">u2").reshape(height, -1)

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[bands], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", body) + part(b"IEND", b""))


def test_png_of_16_bits_keep_them_or_are_refused(tmp_path: Path) -> None:
    """Pillow makes 8 bits of those in colour without a word; those in grey were clipped at 255."""
    chips = [chip(seed, "uint16", 1) for seed in (0, 1)]
    for name, pixels in zip(("land", "sea"), chips, strict=True):
        deep_png(tmp_path / "chips" / name / "a.png", pixels)
    found, valid, labels = read(laid_out(tmp_path / "chips"))
    assert found.dtype == np.uint16
    assert np.array_equal(found, np.concatenate(chips, axis=2))
    assert valid.all()
    assert np.unique(labels).tolist() == [0, 1]
    deep_png(tmp_path / "chips" / "land" / "b.png", chip(2, "uint16", 3))
    with pytest.raises(SceneError, match=r"b\.png has 16 bits for each colour, of which 8 would be read"):
        laid_out(tmp_path / "chips")


@pytest.mark.parametrize("kind", ["nodata", "alpha", "transparent"])
def test_pixels_without_data_stay_so(tmp_path: Path, kind: str) -> None:
    hidden = np.zeros((SIDE, SIDE), np.bool_)
    hidden[:5, 3:] = True
    for name, seed in (("land", 0), ("sea", 1)):
        pixels = chip(seed)
        path = tmp_path / "chips" / name / ("a.png" if kind == "transparent" else "a.tif")
        if kind == "nodata":
            tiff(path, np.where(hidden & (seed == 0), 0, pixels), nodata=0)
            continue
        alpha = np.where(hidden & (seed == 0), 0, 255).astype(np.uint8)
        if kind == "alpha":
            tiff(path, np.concatenate([pixels, alpha[None]]))  # of four bands of 8 bits, GDAL takes the last for it
        else:
            path.parent.mkdir(parents=True)
            Image.fromarray(np.moveaxis(np.concatenate([pixels, alpha[None]]), 0, -1)).save(path)
    pixels, valid, _ = read(laid_out(tmp_path / "chips"))
    assert len(pixels) == 3
    assert np.array_equal(valid, np.concatenate([~hidden, np.ones_like(hidden)], axis=1))
    assert np.array_equal(pixels[:, :, SIDE:], chip(1))


def test_a_fourth_band_is_no_mask_where_the_file_calls_it_none(tmp_path: Path) -> None:
    for name, seed in (("land", 0), ("sea", 1)):
        tiff(tmp_path / "chips" / name / "a.tif", chip(seed, bands=4), photometric="MINISBLACK")
    pixels, valid, _ = read(laid_out(tmp_path / "chips"))
    assert len(pixels) == 4
    assert valid.all()
    with rasterio.open(laid_out(tmp_path / "chips").scene) as scene:
        assert rasterio.enums.ColorInterp.alpha not in scene.colorinterp


def test_a_fourth_band_is_data_where_the_user_names_it_though_gdal_calls_it_alpha(tmp_path: Path) -> None:
    """As of a scene: GDAL flags the near infrared so in every file of four bands of 8 bits that nothing else is said of."""
    for name, seed in (("land", 0), ("sea", 1)):
        pixels = chip(seed, bands=4)
        pixels[3, :4] = 0
        tiff(tmp_path / "chips" / name / "a.tif", pixels)
    assert len(read(laid_out(tmp_path / "chips"))[0]) == 3
    table = {"folder": str(tmp_path / "chips"), "name": "all", "gsd_m": 10.0, "quantity": "dn"}
    bands = (*BANDS, "nir")
    numbers = {name: number for number, name in enumerate(bands, 1)}
    config = load_training({**training(tmp_path, bands), "folders": [table | {"bands": numbers}]})
    (scene,) = open_corpus(config, bands).scenes
    assert [band.index for band in scene.bands] == [1, 2, 3, 4]
    pixels, valid, _ = read(laid_out(tmp_path / "chips", frozenset(numbers.values())))
    assert np.array_equal(pixels[:3, :, :SIDE], chip(0, bands=4)[:3])
    assert not pixels[3, :4].any()
    assert valid.all()


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_a_palette_becomes_colours(tmp_path: Path, kind: str) -> None:
    """Of a TIFF, the numbers of the colours were learned as if they were brightness."""
    colors = np.random.default_rng(3).integers(0, 256, (256, 3)).astype(np.uint8)
    for name, seed in (("land", 0), ("sea", 1)):
        numbers = chip(seed, bands=1)
        path = tmp_path / "chips" / name / f"a.{kind}"
        if kind == "tif":
            tiff(path, numbers)
            with rasterio.open(path, "r+") as file:
                file.write_colormap(1, dict(enumerate(map(tuple, colors.tolist()))))
            continue
        path.parent.mkdir(parents=True)
        picture = Image.fromarray(numbers[0], "P")
        picture.putpalette(colors.tobytes())
        picture.save(path)
    pixels, valid, _ = read(laid_out(tmp_path / "chips"))
    assert np.array_equal(pixels[:, :, :SIDE], np.moveaxis(colors[chip(0, bands=1)[0]], -1, 0))
    assert np.array_equal(pixels[:, :, SIDE:], np.moveaxis(colors[chip(1, bands=1)[0]], -1, 0))
    assert valid.all()


def test_a_chip_counts_once_and_what_is_not_used_is_named(tmp_path: Path) -> None:
    for name in ("sea/a.tif", "sea/copy.tif"):
        tiff(tmp_path / "chips" / name, chip(0))
    tiff(tmp_path / "chips" / "land" / "a.tif", chip(1))
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "chips" / "land" / "b.bmp")
    (tmp_path / "chips" / "land" / "more").mkdir()
    made = laid_out(tmp_path / "chips")
    assert (read(made)[2] != IGNORE).sum() == 2 * SIDE**2
    copies, others = made.notes
    assert copies.startswith("1 files of ")
    assert "copies of others there" in copies
    assert others.endswith("are not used: b.bmp, more")
    assert laid_out(tmp_path / "chips") == made, "said again when it is there"


def test_all_chips_of_two_classes_are_refused_at_once(tmp_path: Path) -> None:
    for name in ("sea", "land"):
        for seed in (0, 1):
            tiff(tmp_path / "chips" / name / f"{seed}.tif", chip(seed))
    with pytest.raises(
        ConfigError,
        match=r"^2 chips are copies .* another class: .*land/0\.tif and .*sea/0\.tif, .*sea/1\.tif; take one",
    ):
        laid_out(tmp_path / "chips")


def test_what_has_no_data_is_neither_measured_nor_shown(tmp_path: Path) -> None:
    """Fill was a value like any other: it moved mean and standard deviation, and the network saw it."""
    for number, name in enumerate(("sea", "land") * 4):
        pixels = np.full((3, SIDE, SIDE), 100 + number, np.uint8)
        pixels[:, :6] = 0
        tiff(tmp_path / "chips" / name / f"{number}.tif", pixels, nodata=0)
    table = {"folder": str(tmp_path / "chips"), "name": "all", "gsd_m": 10.0, "quantity": "dn"}
    numbers = {name: number for number, name in enumerate(BANDS, 1)}
    config = load_training({**training(tmp_path, BANDS), "folders": [table | {"bands": numbers}]})
    examples, card = prepare(config, open_corpus(config, BANDS), First(name="nothing"), BANDS)
    assert examples.index.valid.tolist() == [(SIDE - 6) * SIDE] * 8
    assert card.mean == (103.5,) * 3
    values, _ = Crops(examples, Sampling(variety=Variety(), balance=0, seed=0)).crop(0, 0)
    assert sorted(np.unique((values == 0).sum(dim=(1, 2)).numpy())) == [6 * SIDE]
