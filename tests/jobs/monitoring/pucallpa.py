"""Eight Landsat years of the Ucayali at Pucallpa as a cube of water maps by an index: real change, with no model between."""

from __future__ import annotations

import numpy as np
import rasterio
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from tests.jobs.monitoring.cubes import make_cube
from tests.scenes import real

FOLDER = "timeseries_landsat_pucallpa"
YEARS = (1985, 1990, 1995, 2000, 2005, 2010, 2015, 2020)
_STEEPNESS = 8.0  # of the index from land to water; about a tenth of it is unsure


def water(bands: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Land (0) and water (1) by the modified index of Xu (2006), and a made-up probability that grows with its distance
    from 0.

    Args:
        bands: (4, h, w): SWIR 1, NIR, red, green.
    """
    swir, _, _, green = bands.astype(np.float64)
    index = (green - swir) / np.maximum(green + swir, 1)
    chance = 1 / (1 + np.exp(-_STEEPNESS * index))
    valid = bands.any(axis=0)
    classes = np.where(valid, index > 0, NODATA).astype(np.uint8)
    confidence = np.where(valid, np.rint(np.maximum(chance, 1 - chance) * CONFIDENCE_STEPS), NODATA).astype(np.uint8)
    return classes, confidence


def scene(year: int) -> tuple[NDArray[np.uint8], Grid]:
    """(4, h, w) pixels of a year and where they lie; skips the test where the data are not here."""
    with rasterio.open(real(f"{FOLDER}/{year}.tif")) as dataset:
        grid = Grid(crs="EPSG:4326", transform=tuple(dataset.transform)[:6], width=dataset.width, height=dataset.height)
        return dataset.read(), grid


def cube(store: Store, prefix: str, shard_px: int = 512) -> Cube:
    """Write and commit the cube, a date per year."""
    scenes = [scene(year) for year in YEARS]
    maps = [water(bands) for bands, _ in scenes]
    return make_cube(
        store, prefix, scenes[0][1], shard_px, [f"{year}-07-01" for year in YEARS], np.stack([m for m, _ in maps]),
        np.stack([c for _, c in maps]), ("land", "water"),
    )  # fmt: skip
