"""`python -m infra.models_pictures [model-NAME fails-NAME …]`: models at work, and where they fail: image and result.

Runs each model by `jobs.execution.driver` on a part of a real scene of EARTHLOOM_DATA and writes docs/images/model-<name>.jpg
or docs/images/fails-<name>.jpg.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rasterio.windows import Window

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.jobs.products.quicklook import true_color
from earthloom.tiling.storage.settings import apply
from infra.models_page import IMAGES, ROOT

DATA = Path(os.environ.get("EARTHLOOM_DATA", ROOT.parent / "shared" / "data"))
_SIDE_PX = 440
_NO_CLASS = 255
_S2 = ("blue", "green", "red", "nir", "swir16")
_ETM = ("blue", "green", "red", "nir", "swir16", "lwir", "swir22")
_L1C = ("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09", "cirrus",
        "swir16", "swir22")  # fmt: skip
_S2_OPTIONS = {"scale": 1e-4, "quantity": "boa_reflectance"}
_8BIT = {"scale": 1 / 255, "quantity": "reflectance"}
_ETM_OPTIONS = {"sensor": "landsat7-etm-dn", "sun_elevation": 60.0}


@dataclass(frozen=True)
class Case:
    """Where a model is shown."""

    file: str
    names: tuple[str, ...]
    window: tuple[int, int, int]
    """(column, row, side) of the part."""
    options: dict[str, Any] = field(default_factory=dict)
    before: str = ""
    """The earlier scene of a pair."""
    noise: float = 0.0
    """Standard deviation of noise that is added first, in stored values."""
    stripes: float = 0.0
    """The same of stripes along columns."""
    haze: float = 0.0
    """Added to blue at the thickest place, less to longer waves and to the rest of the scene."""
    pan: bool = False
    """Make a panchromatic band and coarse others of it first."""
    marked: str = ""
    """File with the boxes of what is there, of a detector: `ships`, each with `bbox_xywh_px`."""


_SALT = "scenes/landsat7_great_salt_lake_7band.tif"
_PORT = "ships_s2/durban.tif"
CASES: dict[str, Case] = {
    "landwater": Case(_SALT, _ETM, (300, 200, 700), _ETM_OPTIONS),
    "water-index": Case(_PORT, _S2, (300, 300, 500), _S2_OPTIONS),
    "sr-x2": Case(_PORT, _S2, (500, 500, 160), _S2_OPTIONS),
    "sr-x4": Case(_PORT, _S2, (500, 500, 110), _S2_OPTIONS),
    "pansharpen": Case(_PORT, _S2, (500, 500, 240), _S2_OPTIONS, pan=True),
    "pansharpen-brovey": Case(_PORT, _S2, (500, 500, 240), _S2_OPTIONS, pan=True),
    "denoise": Case(_PORT, _S2, (500, 500, 220), _S2_OPTIONS, noise=150.0),
    "destripe": Case(_SALT, _ETM, (300, 200, 260), _ETM_OPTIONS, stripes=4.0),
    "dehaze": Case(_PORT, _S2, (0, 0, 1038), _S2_OPTIONS, haze=1500.0),
    "stretch": Case(_PORT, _S2, (300, 300, 440), _S2_OPTIONS),
    "stretch-clahe": Case(_PORT, _S2, (300, 300, 440), _S2_OPTIONS),
    "cloudmask": Case("clouds_s2/s2_l1c_13band.tif", _L1C, (0, 0, 512), {"scale": 1e-4, "quantity": "toa_reflectance"}),
    "flood": Case(
        "timeseries_landsat_pucallpa/2020.tif",
        ("swir16", "nir", "red", "green"),
        (60, 0, 377),
        _8BIT,
        before="timeseries_landsat_pucallpa/1985.tif",
    ),
    "burn-nbr": Case(
        "burnscar_california/post_fire/*", ("red", "green", "blue", "nir", "swir22"), (0, 0, 700), _S2_OPTIONS
    ),
    "true-colour": Case(_PORT, _S2, (300, 300, 440), _S2_OPTIONS),
    "deforestation": Case("deforestation_amazon/images/*", ("red", "green", "blue"), (0, 0, 512), {"quantity": "unit"}),
    "buildings": Case("buildings_kitsap/rgb.tif", ("red", "green", "blue"), (800, 3900, 700), {"quantity": "unit"}),
    "ships": Case(_PORT, _S2, (400, 380, 440), _S2_OPTIONS, marked="ships_s2/durban_ships.json"),
}
FAILS: dict[str, Case] = {
    "ships": Case(_PORT, _S2, (690, 230, 260), _S2_OPTIONS, marked="ships_s2/durban_ships.json"),
    "landwater": Case("ships_s2/gdynia.tif", _S2, (380, 340, 200), _S2_OPTIONS),
    "water-index": Case(_PORT, _S2, (385, 495, 220), _S2_OPTIONS),
    "buildings": Case("buildings_kitsap/rgb.tif", ("red", "green", "blue"), (500, 4480, 400), {"quantity": "unit"}),
    "deforestation": Case(
        "deforestation_amazon/images/Amazon_832_43.tif", ("red", "green", "blue"), (0, 0, 512), {"quantity": "unit"}
    ),
}
"""Where a model is wrong, with pixels that may be shown; `infra.models_page` says what is to be seen."""


def picture(name: str, case: Case, folder: Path) -> Image.Image:
    """Run a model on its case and draw both sides."""
    scene = _part(sorted(DATA.glob(case.file))[0], case, folder / "scene.tif", "2020:06:01 10:00:00")
    options = dict(case.options)
    if case.before:
        options["before"] = str(_part(DATA / case.before, case, folder / "before.tif", "1985:06:01 10:00:00"))
    reference = f"{folder}/coarse.tif,pan={folder}/pan.tif" if case.pan else str(scene)
    result = run(
        load({"scenes": (reference,), "model": name, "out": str(folder / "out"), "executor": "local", "scene_id": "part"}
             | options)
    )  # fmt: skip
    if result.exit_code:
        sys.exit(f"{name}: {[progress.error for progress in result.scenes.values()]}")
    prefix = folder / "out" / result.results["part"].prefix
    made = next(path for path in sorted(prefix.glob("*.tif")) if "confidence" not in path.name)
    shown = folder / "coarse.tif" if case.pan else scene
    limits = _limits(shown)
    left = _rgb(shown, limits)
    if case.marked:
        return _objects(left, case, next(prefix.glob("*.parquet")), name)
    with rasterio.open(made) as dataset:
        if dataset.nodata != _NO_CLASS:
            right = _rgb(made, None if name.startswith(("stretch", "true-colour")) else limits)
            return _beside(left, right, f"before and after {name}", {})
        palette = {value: color[:3] for value, color in dataset.colormap(1).items()}
        classes = {text: palette[int(tag[6:])] for tag, text in dataset.tags(1).items() if tag.startswith("CLASS_")}
        table = np.array([palette.get(value, (255, 255, 255)) for value in range(256)], np.uint8)
        table[_NO_CLASS] = 255
        return _beside(left, Image.fromarray(table[dataset.read(1)]), f"{name}: image and map", classes)


_FOUND, _MARKED = (255, 95, 31), (60, 220, 255)


def _objects(image: Image.Image, case: Case, table: Path, name: str) -> Image.Image:
    """The scene with the boxes that are marked, and with those that were found."""
    found = pyarrow.parquet.read_table(table, columns=["left_px", "top_px", "width_px", "height_px"]).to_pydict()
    marked = [ship["bbox_xywh_px"] for ship in json.loads((DATA / case.marked).read_bytes())["ships"]]
    col, row, _ = case.window
    near = [(x - col, y - row, width, height) for x, y, width, height in marked]
    left = _boxed(image, near, _MARKED)
    right = _boxed(image, list(zip(*found.values(), strict=True)), _FOUND)
    return _beside(left, right, f"{name}: marked, and found", {"marked": _MARKED, "found": _FOUND})


def _boxed(image: Image.Image, boxes: Sequence[tuple[float, ...]], color: tuple[int, int, int]) -> Image.Image:
    """Boxes (left, top, width, height) in pixels on the image, which is brought to the size that is shown."""
    scale = _SIDE_PX / image.width
    made = image.resize((_SIDE_PX, round(scale * image.height)), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(made)
    for x, y, width, height in boxes:
        draw.rectangle([scale * x, scale * y, scale * (x + width), scale * (y + height)], outline=color, width=2)
    return made


def _part(source: Path, case: Case, target: Path, date: str) -> Path:
    col, row, side = case.window
    with rasterio.open(source) as dataset:
        window = Window(col, row, min(side, dataset.width - col), min(side, dataset.height - row))
        pixels, profile = dataset.read(window=window)[: len(case.names)], dataset.profile
        crs = dataset.crs or "EPSG:32633"
        transform = dataset.window_transform(window) if dataset.crs else rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    if case.noise or case.stripes or case.haze:
        rng, (n_bands, height, width) = np.random.default_rng(0), pixels.shape
        added = rng.normal(0, case.noise, pixels.shape) + rng.normal(0, case.stripes, (n_bands, 1, width))
        rows, cols = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        added += (
            case.haze * np.exp(-3 * ((rows + 0.4) ** 2 + (cols - 0.3) ** 2)) * 0.7 ** np.arange(n_bands)[:, None, None]
        )
        pixels = np.clip(pixels + added, 1, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    options = {
        "driver": "GTiff", "crs": crs, "dtype": profile["dtype"], "nodata": profile.get("nodata"), "tiled": True,
        "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    if case.pan:
        even = pixels[:, : pixels.shape[1] // 2 * 2, : pixels.shape[2] // 2 * 2].astype(np.float64)
        coarse = even.reshape(len(even), even.shape[1] // 2, 2, even.shape[2] // 2, 2).mean((2, 4))
        half = transform * rasterio.Affine.scale(2)
        _write(
            target.with_name("pan.tif"), even[:3].mean(0)[None].astype(pixels.dtype), ("pan",), transform, date, options
        )
        _write(target.with_name("coarse.tif"), coarse.astype(pixels.dtype), case.names, half, date, options)
    _write(target, pixels, case.names, transform, date, options)
    return target


def _write(
    path: Path, pixels: NDArray[Any], names: tuple[str, ...], transform: Any, date: str, options: dict[str, Any]
) -> None:
    with rasterio.open(
        path, "w", width=pixels.shape[2], height=pixels.shape[1], count=pixels.shape[0], transform=transform, **options
    ) as dataset:
        dataset.write(pixels)
        dataset.descriptions = names
        dataset.update_tags(TIFFTAG_DATETIME=date)


def _channels(path: Path) -> list[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """Red, green and blue as stored, and where they are valid."""
    with rasterio.open(path) as dataset:
        names = true_color([name or "" for name in dataset.descriptions])
        bands = [dataset.read(dataset.descriptions.index(name) + 1).astype(np.float64) for name in names]
        nodata = dataset.nodata
    return [(band, np.isfinite(band) & (band != nodata if nodata is not None else True)) for band in bands]


def _limits(path: Path) -> list[tuple[float, float]]:
    return [tuple(np.percentile(band[valid], (1, 99))) for band, valid in _channels(path)]


def _rgb(path: Path, limits: list[tuple[float, float]] | None) -> Image.Image:
    """In natural colours between these limits; an image of 8 bits for display as it is."""
    channels = _channels(path)
    out = np.zeros((*channels[0][0].shape, 3), np.uint8)
    for number, (band, valid) in enumerate(channels):
        low, high = limits[number] if limits else (0.0, 255.0)
        out[..., number] = np.where(valid, np.clip((band - low) / max(high - low, 1e-9), 0, 1) * 255, 255)
    return Image.fromarray(out)


def _beside(left: Image.Image, right: Image.Image, title: str, classes: dict[str, tuple[int, int, int]]) -> Image.Image:
    """Both at one size under a title, with the classes below where there are any."""
    size = (_SIDE_PX, round(_SIDE_PX * left.height / left.width))
    canvas = Image.new("RGB", (2 * _SIDE_PX + 30, size[1] + 64), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    draw.text((10, 6), title, fill=(27, 34, 44), font=font)
    for x, one in ((10, left), (20 + _SIDE_PX, right)):
        kind = Image.Resampling.NEAREST if one.width < _SIDE_PX else Image.Resampling.BOX
        canvas.paste(one.resize(size, kind), (x, 30))
    x = 10
    for text, color in classes.items():
        draw.rectangle((x, size[1] + 40, x + 14, size[1] + 54), fill=color, outline=(150, 150, 150))
        draw.text((x + 20, size[1] + 38), text, fill=(60, 66, 76), font=font)
        x += 40 + round(font.getlength(text))
    return canvas


def main(names: list[str]) -> None:
    apply()
    cases = {f"model-{name}": case for name, case in CASES.items()} | {
        f"fails-{name}": case for name, case in FAILS.items()
    }
    for stem in names or cases:
        with tempfile.TemporaryDirectory(prefix="earthloom-picture-") as folder:
            target = IMAGES / f"{stem}.jpg"
            picture(stem.partition("-")[2], cases[stem], Path(folder)).save(target, quality=84)
            print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
