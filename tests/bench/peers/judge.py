"""How far a map is from one forward pass over the whole scene, and whether a GIS can use it. Knows no contender.

What a peer calls its result differs: a raster or an array of probabilities per class, or Earthloom's classes with their
confidence. All are judged by the likeliest class and its probability, which each of them has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

NOTHING = 255
_INSIDE_PX = 256
"""A pixel this far from the scene's border has nothing to do with how a contender pads it."""


@dataclass(frozen=True, slots=True)
class Map:
    """A part of a map: likeliest classes (h, w) uint8, 255 where there is none, and their probability (h, w) fp32."""

    classes: NDArray[np.uint8]
    confidence: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A map against the reference, over the parts that were compared."""

    compared_px: int
    """Pixels with data in the scene."""
    flips: float
    """Share of these whose class differs, or that have none."""
    flips_inside: float
    """The same at least 256 px away from the scene's border."""
    ring_error: float
    """Mean absolute difference of the winning probability on the scene's outermost ring; nothing counts as 0."""
    leaked_px: int
    """Pixels without data in the scene that have a class on the map."""
    nodata_px: int
    uncovered_px: int
    """Pixels with data in the scene that have no class on the map."""


def from_probabilities(scores: NDArray[np.generic], nodata: float | None) -> Map:
    """The map of (K, h, w) scores of any positive scale; NaN, the file's nodata, or a sum near 0 are no class."""
    values = scores.astype(np.float32)
    missing = ~np.isfinite(values).all(0)
    if nodata is not None:
        missing |= (values == np.float32(nodata)).all(0)
    values = np.where(missing, 0, values)
    full = 10000.0 if np.issubdtype(scores.dtype, np.integer) else 1.0
    missing |= values.sum(0) < 0.5 * full
    classes = np.where(missing, NOTHING, values.argmax(0)).astype(np.uint8)
    return Map(classes, np.where(missing, 0, values.max(0) / full).astype(np.float32))


def from_classes(classes: NDArray[np.uint8], confidence: NDArray[np.uint8], scale: float) -> Map:
    """The map of Earthloom's two products; both are 255 where there is nothing."""
    return Map(classes, np.where(classes == NOTHING, 0, confidence / scale).astype(np.float32))


def compare(parts: Iterable[tuple[Window, Map, Map, NDArray[np.bool_]]], shape: tuple[int, int]) -> Verdict:
    """Judge parts of a map of a scene of `shape`: (where, what was made, the reference, where the scene has data)."""
    n = flips = inside = n_inside = ring = leaked = n_nodata = uncovered = 0
    ring_error = 0.0
    for window, made, reference, valid in parts:
        rows = np.arange(window.row_off, window.row_off + window.height)[:, None]
        cols = np.arange(window.col_off, window.col_off + window.width)[None, :]
        depth = np.minimum(np.minimum(rows, shape[0] - 1 - rows), np.minimum(cols, shape[1] - 1 - cols))
        wrong = (made.classes != reference.classes) & valid
        deep, edge = valid & (depth >= _INSIDE_PX), valid & (depth == 0)
        n, flips = n + int(valid.sum()), flips + int(wrong.sum())
        n_inside, inside = n_inside + int(deep.sum()), inside + int((wrong & deep).sum())
        ring += int(edge.sum())
        ring_error += float(np.abs(made.confidence - reference.confidence)[edge].sum(dtype=np.float64))
        leaked += int((~valid & (made.classes != NOTHING)).sum())
        n_nodata += int((~valid).sum())
        uncovered += int((valid & (made.classes == NOTHING)).sum())
    return Verdict(
        compared_px=n, flips=flips / max(n, 1), flips_inside=inside / max(n_inside, 1), ring_error=ring_error / max(ring, 1),
        leaked_px=leaked, nodata_px=n_nodata, uncovered_px=uncovered,
    )  # fmt: skip


def is_cog(path: Path) -> bool:
    """A GeoTIFF that rio-cogeo finds no fault with; tiled, with overviews."""
    from rio_cogeo.cogeo import cog_validate

    valid, errors, warnings = cog_validate(str(path), quiet=True)
    return bool(valid) and not errors and not warnings


def keeps_grid(path: Path, scene: Path) -> bool:
    """The file has the scene's size, CRS and transform."""
    with rasterio.open(path) as made, rasterio.open(scene) as source:
        same: bool = made.shape == source.shape and made.crs == source.crs and made.transform == source.transform
        return same
