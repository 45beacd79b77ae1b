"""Floods and fires as the recipes want them: two dates beside each other, and labels. Weights made of them cannot ship.

Knows nothing of training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from earthloom.models.training.augment import IGNORE
from earthloom.tiling.errors import MissingObjectError

_REFLECTANCE = 1e-4
_GSD_M = 10.0
_APART_M = 100_000.0  # the pictures have no place of their own: each gets one, far from all others


def lay_out_floods(data: Path, folder: Path) -> None:
    """OMBRIA's samples as `after/`, `before/` (the picture of Sentinel-2 and the grey of Sentinel-1) and `labels/`.

    Raises:
        MissingObjectError: if the data is absent.
    """
    source = data / "flood_ombria"
    masks = sorted((source / "S2" / "MASK").glob("*.png"))
    if not masks:
        raise MissingObjectError(f"{source} is not there; --data names the folder that holds flood_ombria")
    for number, mask in enumerate(masks):
        place = {"crs": "EPSG:3857", "transform": from_origin(number * _APART_M, 0, _GSD_M, _GSD_M)}
        for date in ("AFTER", "BEFORE"):
            bands = np.concatenate([_picture(source / sensor / date / mask.name) for sensor in ("S2", "S1")])
            _write(bands, folder / date.lower() / f"{mask.stem}.tif", **place)
        flooded = (_picture(mask) > 127).astype(np.uint8)
        _write(flooded, folder / "labels" / f"{mask.stem}.tif", nodata=IGNORE, **place)


def lay_out_burns(data: Path, folder: Path) -> None:
    """Eight fires as `scenes/` (reflectance of near and short-wave infrared after it, and dNBR) and `labels/`.

    Raises:
        MissingObjectError: if the data is absent.
    """
    source = data / "burnscar_california"
    masks = sorted((source / "masks").glob("*.tif"))
    if not masks:
        raise MissingObjectError(f"{source} is not there; --data names the folder that holds burnscar_california")
    for mask in masks:
        with rasterio.open(source / "post_fire" / mask.name) as dataset:
            infrared = dataset.read([4, 5]).astype(np.float32) * _REFLECTANCE
            place = {"crs": dataset.crs, "transform": dataset.transform}
        with rasterio.open(source / "dnbr" / mask.name) as dataset:
            fall = dataset.read([1]).astype(np.float32)
        with rasterio.open(mask) as dataset:
            burned = (dataset.read() == 1).astype(np.uint8)
        _write(np.concatenate([infrared, fall]), folder / "scenes" / mask.name, **place)
        _write(burned, folder / "labels" / mask.name, nodata=IGNORE, **place)


def _picture(path: Path) -> NDArray[np.uint8]:
    """(C, H, W)"""
    with Image.open(path) as image:
        pixels = np.asarray(image, np.uint8)
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def _write(values: NDArray[Any], target: Path, **profile: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with rasterio.open(
        target, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype.name, tiled=True,
        compress="deflate", **profile,
    ) as out:  # fmt: skip
        out.write(values)
