"""Overview levels: one 2 x 2 reduction, cascaded, the same wherever it is applied. Arrays in, arrays out.

Each level is made from the level above it with ceil sizes, so a level can be made block by block (blocks on even
offsets) and does not depend on how the scene was cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import TilingError

_WIDE: dict[str, np.dtype[Any]] = {"u1": np.dtype(np.uint16), "u2": np.dtype(np.uint32)}
"""What sums of four pixels fit into, where that is less than 64 bits: half the time."""


def level_shapes(height: int, width: int, *, smallest_px: int = 512) -> list[tuple[int, int]]:
    """(rows, columns) of level 0, 1, … down to the first that fits one tile of `smallest_px`."""
    shapes = [(height, width)]
    while max(shapes[-1]) > smallest_px:
        rows, cols = shapes[-1]
        shapes.append((-(-rows // 2), -(-cols // 2)))
    return shapes


def reduce_mode(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Commonest class of each 2 x 2 cell, nodata (255) not counted, ties to the lowest value. (h, w) -> ceil halves.

    No class is invented: the result is one of the cell's own values, or 255 where the cell holds nothing else.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise TilingError(f"class maps are uint8 (h, w) arrays, got {pixels.dtype} {pixels.shape}")
    quarters = [quarter.astype(np.int16) for quarter in _quarters(pixels)]
    best = np.zeros(quarters[0].shape, np.int16)
    for value in quarters:
        count = sum((value == other).astype(np.int16) for other in quarters)
        key = np.where(value == NODATA, 0, count * 256 + (NODATA - value))  # more votes first, then the lower value
        np.maximum(best, key, out=best)
    return (NODATA - best % 256).astype(np.uint8)


def reduce_mean(pixels: NDArray[Any], nodata: float = NODATA) -> NDArray[Any]:
    """Mean of the valid pixels of each 2 x 2 cell, halves rounded up; `nodata` where none is valid.

    Args:
        pixels: (h, w), of any integer or floating dtype.
        nodata: stored value; NaN for a floating dtype means that every NaN is nodata.

    Returns:
        (ceil(h / 2), ceil(w / 2)) of the same dtype; a mean of integers that would be nodata moves by one step.
    """
    kind = pixels.dtype
    wide = _WIDE.get(kind.str[1:], np.dtype(np.int64 if kind.kind in "iu" else np.float64))
    quarters = _quarters(pixels, nodata)
    total, count = np.zeros(quarters[0].shape, wide), np.zeros(quarters[0].shape, np.uint16)
    for quarter in quarters:
        valid = quarter != nodata if not np.isnan(nodata) else ~np.isnan(quarter)
        total += np.where(valid, quarter, 0).astype(wide)
        count += valid
    if kind.kind not in "iu":
        return np.where(count > 0, total / np.maximum(count, 1), nodata).astype(kind)
    mean = (2 * total + count) // np.maximum(2 * count, 1)
    taken = mean == nodata
    mean = mean.astype(kind)
    mean[taken] = int(nodata) + (1 if nodata < np.iinfo(kind).max else -1)
    mean[count == 0] = int(nodata)
    return mean


def _quarters(pixels: NDArray[Any], nodata: float = NODATA) -> list[NDArray[Any]]:
    rows, cols = pixels.shape
    even = np.pad(pixels, ((0, rows % 2), (0, cols % 2)), constant_values=nodata)
    return [even[row::2, col::2] for row in (0, 1) for col in (0, 1)]
