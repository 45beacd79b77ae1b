"""What a scene looks like behind the objects that were found in it: thinned pixels, which shards keep beside their objects.

The scene itself is not at hand when a result is published, and a picture needs few of its pixels: of each 2^n x 2^n of the
result the first, n so large that the whole is no larger than a picture. Knows nothing of storage.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.quicklook import true_color
from earthloom.models.inference.stack import Stack
from earthloom.tiling.window import Window
from earthloom.tiling.writing.pyramid import Pyramid

BACKDROP = "backdrop"
"""Name of the pixels in a shard."""

_MOST = float(np.finfo(np.float16).max)


def backdrop_part(source: Stack, part: Window, pyramid: Pyramid, level: int, scale: int) -> bytes:
    """A shard's pixels: its row and column as int32, and (3, h, w) as float16, physical values, NaN where there is no data.

    Args:
        source: the scene over at least the shard.
        part: the shard's window, in the result.
        level: level of the result that the picture is as large as.
        scale: pixels of the result per pixel of the scene and side.
    """
    step = 1 << level
    rows, cols = (
        np.arange(first, end, step) // scale - offset
        for first, end, offset in (
            (part.row_off, part.row_end, source.window.row_off), (part.col_off, part.col_end, source.window.col_off),
        )
    )  # fmt: skip
    bands = [source.names.index(name) for name in true_color(source.names)]
    stored = np.stack([np.asarray(source.values[band])[np.ix_(rows, cols)] for band in bands])
    values = stored * source.gain[bands, None, None] + source.bias[bands, None, None]
    values = np.where(source.valid[np.ix_(rows, cols)], np.clip(values, -_MOST, _MOST), np.nan)
    place = np.array([part.row_off // pyramid.shard_px, part.col_off // pyramid.shard_px], "<i4")
    return place.tobytes() + values.astype("<f2").tobytes()


def backdrop(parts: bytes, pyramid: Pyramid, level: int) -> NDArray[np.float32]:
    """The whole picture of what `backdrop_part` kept of each shard, in any order; (3, rows, columns) of the level."""
    whole = Window(0, 0, *reversed(pyramid.shapes[level]))
    pixels = np.full((3, *whole.shape), np.nan, np.float32)
    at = 0
    while at < len(parts):
        row, col = np.frombuffer(parts, "<i4", 2, at).tolist()
        part = pyramid.part(level, row, col)
        kept = np.frombuffer(parts, "<f2", 3 * part.size_px, at + 8)
        pixels[(slice(None), *part.slices(whole))] = kept.reshape(3, *part.shape)
        at += 8 + kept.nbytes
    return pixels
