"""Scenes for tests: small GeoTIFFs made by code, tiny crops of real ones, and whole real ones where their folder is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

DATA = Path(os.environ.get("EARTHLOOM_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def real(name: str) -> Path:
    """A file of the data folder, or skip."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here; point EARTHLOOM_DATA at the folder of real scenes")
    return path


def shipped(name: str) -> Path:
    """A crop of a real scene that is part of the project (`tests.record_crops`)."""
    return Path(__file__).parent / "data" / f"{name}.tif"


def mirrored(pixels: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Real pixels (bands, rows, columns) enlarged by mirror images of themselves, which have no edge between them."""
    return np.pad(pixels, ((0, 0), (0, height - pixels.shape[1]), (0, width - pixels.shape[2])), mode="symmetric")


def landscape(width: int, height: int, n_bands: int, seed: int = 0) -> NDArray[np.uint16]:
    """Smooth hills with noise, (n_bands, height, width): reflectance * 10000, everywhere above 0."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:height, 0:width]
    bands = []
    for _ in range(n_bands):
        a, b, c = rng.uniform(20, 90, 3)
        hills = np.sin(rows / a) + np.cos(cols / b) + np.sin((rows + cols) / c)
        bands.append(2500 + 700 * hills + rng.normal(0, 120, (height, width)))
    pixels: NDArray[np.uint16] = np.clip(np.stack(bands), 1, 9000).astype(np.uint16)
    return pixels


def write_scene(
    path: Path, pixels: NDArray[Any], names: tuple[str | None, ...] | None = None, *, crs: str | None = "EPSG:32617",
    transform: Affine | None = None, nodata: float | None = None, date: str | None = "2026:07:01 10:00:00", **options: Any,
) -> Path:  # fmt: skip
    """Write (bands, rows, columns) as a tiled GeoTIFF whose bands are called `names`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff", "width": pixels.shape[2], "height": pixels.shape[1], "count": pixels.shape[0],
        "dtype": pixels.dtype.name, "crs": crs, "transform": transform or Affine(10, 0, 300000, 0, -10, 4500000),
        "nodata": nodata, "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", **options,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
        if names:
            dataset.descriptions = names
        if date:
            dataset.update_tags(TIFFTAG_DATETIME=date)
    return path
