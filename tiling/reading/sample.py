"""A look at the values of a file: what a few hundred pixels in its middle hold. Knows nothing of what they mean."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.reading import identity
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import Asset

_SIDE_PX = 64
_MOST = (2, 98)
"""Percentiles between which values are taken to lie: a few saturated or filled pixels say nothing."""

Span = tuple[float, float]


def sample_apart(pool: Disposables, asset: Asset) -> tuple[Span | None, ...]:
    """Between what numbers most stored values lie in the middle of each band, read in a child of `pool`.

    None for a band without valid pixels there.

    Raises:
        SceneError, StorageError: as any read of the file may.
    """
    memory = identity.memory_of(asset) if asset.ref.scheme == "file" else None
    return pool.call(asset.ref.name, _sample, asset, memory)


def _sample(asset: Asset, memory: identity.Memory | None) -> tuple[Span | None, ...]:
    from rasterio.windows import Window

    os.environ |= {"GDAL_CACHEMAX": "64", "GDAL_NUM_THREADS": "1"}
    identity.remember(memory)
    with open_asset(asset) as dataset:
        width, height = min(_SIDE_PX, dataset.width), min(_SIDE_PX, dataset.height)
        window = Window((dataset.width - width) // 2, (dataset.height - height) // 2, width, height)
        pixels = dataset.read(window=window, masked=True)
    return tuple(_span(np.asarray(band.compressed(), np.float64)) for band in pixels)


def _span(values: NDArray[np.float64]) -> Span | None:
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = np.percentile(known, _MOST)
    return float(low), float(high)
