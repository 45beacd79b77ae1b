"""A published class map against labels, window by window: counts of what was right and what was taken for what.

Memory does not grow with the scene: a window of the map, its labels, and counts are held. All counts are integers, so
they do not depend on the order or size of windows. Knows nothing of files, models and reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.matching import Matching
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window

BLOCKS = 400
"""About how many blocks all scenes together are cut into, for intervals and for finding the worst places."""
_SMALLEST_PX = 32
_THUMBNAIL_PX = 640

RIGHT = 0
"""Value in an error map: the mapped class is that of the label."""
MOST_PAIRS = 250
"""Error maps name each pair of classes as long as there are no more of them; else they hold 0 and 1."""

Read = Callable[[Window], NDArray[np.uint8]]
"""(rows, columns) of a window of the scene's grid."""


@dataclass(slots=True, kw_only=True)
class SceneCounts:
    """The counts of one scene. Confusion matrices are (K, K) int64, labels by row."""

    confusion: NDArray[np.int64]
    histogram: NDArray[np.int64]
    """(251, 2) pixels by stored confidence, and by whether they are right."""
    blocks: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)
    """Confusion matrix by row and column of each block that has scored pixels."""
    regions: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    thumbnail: NDArray[np.uint8]
    """Every n-th pixel of the error map."""
    unlabelled_px: int = 0
    """Mapped, and without a label."""
    unmapped_px: int = 0
    """Pixels with a label, and nodata in the map."""
    left_out_px: int = 0
    """Pixels with a label, and of a class of the model that is not scored."""


def block_side_px(total_px: int) -> int:
    """Side of the blocks: a power of two, so that all scenes together have about `BLOCKS`."""
    side = max(_SMALLEST_PX, int(np.sqrt(max(total_px, 1) / BLOCKS)))
    return 1 << (side.bit_length() - 1)


def error_codes(n_classes: int) -> NDArray[np.uint8]:
    """(K * K + 1,) value in the error map by label * K + mapped class; the last is of pixels that are not scored.

    The pairs of unlike classes are numbered from 1 in row-major order, or are all 1 where they are too many.
    """
    K = n_classes
    wrong = ~np.eye(K, dtype=bool).ravel()
    numbered = np.cumsum(wrong) if K * (K - 1) <= MOST_PAIRS else np.ones(K * K)
    return np.append(np.where(wrong, numbered, RIGHT), NODATA).astype(np.uint8)


def compare(
    extent: Window, matching: Matching, *, classes: Read, confidence: Read, labels: Read,
    regions: tuple[Read, tuple[str, ...]] | None, window_px: int, block_px: int,
    keep: Callable[[Window, NDArray[np.uint8]], None],
) -> SceneCounts:  # fmt: skip
    """Go over a scene once.

    Args:
        extent: the scene's grid.
        matching: the K scored classes.
        classes: gives the stored class map.
        confidence: gives the stored confidence.
        labels: gives positions of scored classes, IGNORE where unknown.
        regions: gives the number of a region, IGNORE where there is none; and their names.
        window_px: side of what is read at once.
        block_px: side of the blocks that are counted by themselves.
        keep: is given each window's part of the error map, in row-major order.
    """
    K = len(matching.names)
    of_model, codes = matching.table(), error_codes(K)
    n_regions = len(regions[1]) if regions else 0
    step = ceil_div(max(extent.width, extent.height), _THUMBNAIL_PX)
    counts = SceneCounts(
        confusion=np.zeros((K, K), np.int64), histogram=np.zeros((CONFIDENCE_STEPS + 1, 2), np.int64),
        thumbnail=np.full((ceil_div(extent.height, step), ceil_div(extent.width, step)), NODATA, np.uint8),
        regions={name: np.zeros((K, K), np.int64) for name in (regions[1] if regions else ())},
    )  # fmt: skip
    for window in extent.split(window_px):
        label, stored = labels(window), classes(window)
        mapped = of_model[stored]
        labelled, scored = label != IGNORE, (label != IGNORE) & (mapped != IGNORE)
        counts.unlabelled_px += int(((stored != NODATA) & ~labelled).sum())
        counts.unmapped_px += int((labelled & (stored == NODATA)).sum())
        counts.left_out_px += int((labelled & (stored != NODATA) & ~scored).sum())
        pair = np.where(scored, label.astype(np.uint16) * np.uint16(K) + mapped, np.uint16(K * K))
        errors = codes[pair]
        keep(window, errors)
        counts.thumbnail[
            ceil_div(window.row_off, step) : ceil_div(window.row_end, step),
            ceil_div(window.col_off, step) : ceil_div(window.col_end, step),
        ] = errors[-window.row_off % step :: step, -window.col_off % step :: step]
        if not scored.any():
            continue
        right = (label == mapped)[scored]
        each = np.bincount(confidence(window)[scored].astype(np.intp) * 2 + right, minlength=counts.histogram.size)
        counts.histogram += each.reshape(-1, 2)
        for place, part in _blocks(window, block_px):
            found = np.bincount(pair[part].ravel(), minlength=K * K + 1)[: K * K].reshape(K, K)
            if found.any():
                counts.confusion += found
                before = counts.blocks.get(place)
                counts.blocks[place] = found if before is None else before + found
        if regions:
            inside = regions[0](window)
            by_region = np.bincount(
                (np.where(inside == IGNORE, n_regions, inside).astype(np.intp) * (K * K + 1) + pair).ravel(),
                minlength=(n_regions + 1) * (K * K + 1),
            ).reshape(n_regions + 1, K * K + 1)  # fmt: skip
            for number, name in enumerate(regions[1]):
                counts.regions[name] += by_region[number, : K * K].reshape(K, K)
    return counts


def _blocks(window: Window, side_px: int) -> list[tuple[tuple[int, int], tuple[slice, slice]]]:
    """Row and column of each block of the scene that a window touches, with where it lies in the window."""
    return [
        ((block.row_off // side_px, block.col_off // side_px), (block & window).slices(window))
        for block in window.align(side_px).split(side_px)
    ]


def add_up(parts: Mapping[str, SceneCounts], n_classes: int) -> NDArray[np.int64]:
    """The confusion matrix of all scenes."""
    total = np.zeros((n_classes, n_classes), np.int64)
    for counts in parts.values():
        total += counts.confusion
    return total
