"""Floods and fires as the recipes want them: two dates beside each other, and labels. Weights made of them cannot ship.

Knows nothing of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin

from earthloom.models.training.augment import IGNORE
from earthloom.tiling.errors import MissingObjectError

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
        corner_m = number * _APART_M
        for date in ("AFTER", "BEFORE"):
            bands = np.concatenate([_picture(source / sensor / date / mask.name) for sensor in ("S2", "S1")])
            _write(bands, corner_m, folder / date.lower() / f"{mask.stem}.tif", None)
        flooded = (_picture(mask) > 127).astype(np.uint8)
        _write(flooded, corner_m, folder / "labels" / f"{mask.stem}.tif", IGNORE)


def _picture(path: Path) -> NDArray[np.uint8]:
    """(C, H, W)"""
    with Image.open(path) as image:
        pixels = np.asarray(image, np.uint8)
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def _write(values: NDArray[np.uint8], corner_m: float, target: Path, nodata: int | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    with rasterio.open(
        target, "w", driver="GTiff", height=height, width=width, count=count, dtype="uint8", nodata=nodata, tiled=True,
        compress="deflate", crs="EPSG:3857", transform=from_origin(corner_m, 0, _GSD_M, _GSD_M),
    ) as out:  # fmt: skip
        out.write(values)
