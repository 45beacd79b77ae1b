"""Overview levels: one 2 x 2 reduction, cascaded, the same wherever it is applied. Arrays in, arrays out.

Each level is made from the level above it with ceil sizes, so a level can be made block by block (blocks on even
offsets) and does not depend on how the scene was cut.
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import TilingError
from earthloom.tiling.rounding import ceil_div

_WIDE: dict[str, np.dtype[Any]] = {"u1": np.dtype(np.uint16), "u2": np.dtype(np.uint32)}
"""What sums of four pixels fit into, where that is less than 64 bits: half the time."""


def level_shapes(height: int, width: int, *, smallest_px: int = 512) -> list[tuple[int, int]]:
    """(rows, columns) of level 0, 1, … down to the first that fits one tile of `smallest_px`."""
    shapes = [(height, width)]
    while max(shapes[-1]) > smallest_px:
        rows, cols = shapes[-1]
        shapes.append((ceil_div(rows, 2), ceil_div(cols, 2)))
    return shapes


def reduce_mode(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Commonest class of each 2 x 2 cell, nodata (255) not counted, ties to the lowest value. (h, w) -> ceil halves.

    No class is invented: the result is one of the cell's own values, or 255 where the cell holds nothing else.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise TilingError(f"class maps are uint8 (h, w) arrays, got {pixels.dtype} {pixels.shape}")
    quarters = _quarters(pixels)
    twice = np.full(quarters[0].shape, NODATA, np.uint8)  # the lowest value that two of the four have
    for one, other in combinations(quarters, 2):
        np.minimum(twice, one | NODATA * (one != other).view(np.uint8), out=twice)
    return np.where(twice == NODATA, reduce(np.minimum, quarters), twice)


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
    valid = [quarter != nodata if not np.isnan(nodata) else ~np.isnan(quarter) for quarter in quarters]
    if kind.kind in "iu" and all(known.all() for known in valid):  # a shift in place of a division by what was counted
        first, *others = (quarter.astype(wide) for quarter in quarters)
        return _stored((sum(others, first) + 2) >> 2, kind, nodata)
    total, count = np.zeros(quarters[0].shape, wide), np.zeros(quarters[0].shape, np.uint16)
    for quarter, known in zip(quarters, valid, strict=True):
        total += np.where(known, quarter, 0).astype(wide)
        count += known
    if kind.kind not in "iu":
        return np.where(count > 0, total / np.maximum(count, 1), nodata).astype(kind)
    mean = _stored((2 * total + count) // np.maximum(2 * count, 1), kind, nodata)
    mean[count == 0] = int(nodata)
    return mean


def _stored(mean: NDArray[Any], kind: np.dtype[Any], nodata: float) -> NDArray[Any]:
    """Whole numbers in their dtype, none of them nodata."""
    stored = mean.astype(kind)
    stored[mean == nodata] = int(nodata) + (1 if nodata < np.iinfo(kind).max else -1)
    return stored


def _quarters(pixels: NDArray[Any], nodata: float = NODATA) -> list[NDArray[Any]]:
    rows, cols = pixels.shape
    even = np.pad(pixels, ((0, rows % 2), (0, cols % 2)), constant_values=nodata) if rows % 2 or cols % 2 else pixels
    # each in one piece, for what is scattered is worked on value by value
    return [np.ascontiguousarray(even[row::2, col::2]) for row in (0, 1) for col in (0, 1)]
