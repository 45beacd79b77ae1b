"""A look at the values of a file: its smallest overview, or a few thousand pixels in its middle, or around it where there is
no data. Knows not what they mean."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.reading import identity
from earthloom.tiling.reading.fill import HUGE
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import Asset

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_SIDE_PX = 64
_OVERVIEW_PX = 512
"""Longest side of an overview that is read whole: one tile, in most files beside the header."""
_PLACES = ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3), (2, 0), (0, 2), (2, 4), (4, 2), (0, 0), (0, 4), (4, 0), (4, 4))
"""Places of windows, (down, across) in quarters of the file: the first with data is looked at."""

_PERCENTS = np.arange(101)


@dataclass(frozen=True, slots=True)
class Sample:
    """Stored values of one band."""

    count: int
    """Valid pixels that were looked at."""
    percentiles: tuple[float, ...]
    """The lowest value that 0, 1, … 100 % of them do not exceed."""

    @property
    def span(self) -> tuple[float, float]:
        """The two values between which most lie: a few saturated or filled pixels say nothing."""
        return self.percentiles[2], self.percentiles[98]


def sample_apart(
    pool: Disposables, asset: Asset, bands: Mapping[int, float | None] | None = None
) -> tuple[Sample | None, ...]:  # fmt: skip
    """What bands of a file hold, read in a child of `pool`; None for one without valid pixels there.

    Args:
        bands: numbers from 1, each with a stored value that is no data, beside what the file says. Default: the first.

    Raises:
        SceneError, StorageError: as any read of the file may.
    """
    memory = identity.memory_of(asset) if asset.ref.scheme == "file" else None
    return pool.call(asset.ref.name, _sample, asset, dict(bands or {1: None}), memory)


def _sample(
    asset: Asset, bands: dict[int, float | None], memory: identity.Memory | None
) -> tuple[Sample | None, ...]:  # fmt: skip
    os.environ |= {"GDAL_CACHEMAX": "64", "GDAL_NUM_THREADS": "1"}
    identity.remember(memory)
    found: tuple[Sample | None, ...] = (None,) * len(bands)
    with open_asset(asset) as dataset:
        for pixels in _parts(dataset, tuple(bands)):
            found = tuple(
                _summary(np.asarray(band.compressed()), fill) for band, fill in zip(pixels, bands.values(), strict=True)
            )
            if any(found):
                break
    return found


def _parts(dataset: DatasetReader, bands: tuple[int, ...]) -> Iterator[Any]:
    """Masked arrays (bands, rows, columns): the smallest overview, where there is one that is small; else windows in the
    middle and, for scenes without data there, around it."""
    from rasterio.windows import Window

    factor = max(dataset.overviews(1), default=1)
    rows, cols = math.ceil(dataset.height / factor), math.ceil(dataset.width / factor)
    if factor > 1 and max(rows, cols) <= _OVERVIEW_PX:
        yield dataset.read(list(bands), out_shape=(len(bands), rows, cols), masked=True)
        return
    width, height = min(_SIDE_PX, dataset.width), min(_SIDE_PX, dataset.height)
    places = [
        ((dataset.width - width) * across // 4, (dataset.height - height) * down // 4) for down, across in _PLACES
    ]
    for col, row in dict.fromkeys(places):
        yield dataset.read(list(bands), window=Window(col, row, width, height), masked=True)


def _summary(values: NDArray[Any], fill: float | None) -> Sample | None:
    measured = np.abs(values, dtype=np.float64) < HUGE  # nor infinity, nor NaN
    known = values[measured if fill is None else measured & (values != fill)].astype(np.float64)
    if not known.size:
        return None
    return Sample(known.size, tuple(np.percentile(known, _PERCENTS, method="inverted_cdf").tolist()))
