"""Objects as rows of numbers: where each lies, its class and its score; and the merging of boxes that overlap. Numpy only.

Knows nothing of networks, of files or of where on Earth a pixel is.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

OBJECT = np.dtype(
    [
        ("row", "<i4"), ("col", "<i4"), ("class", "<i4"), ("logit", "<f4"), ("dx", "<f4"), ("dy", "<f4"),
        ("width", "<f4"), ("height", "<f4"),
    ]
)  # fmt: skip
"""One object: the pixel whose heat is largest, its class, and the logit of that heat; from the middle of that pixel to the
centre of the box in columns and rows, and the sides of the box, in pixels."""

Found = NDArray[np.void]
"""(n,) of `OBJECT`."""


def in_order(found: Found) -> Found:
    """Objects sorted by row, column and class."""
    return found[np.lexsort((found["class"], found["col"], found["row"]))]


def corners(found: Found) -> NDArray[np.float64]:
    """(n, 4) left, top, right and bottom edge of each box, in pixels from the grid's corner."""
    x = found["col"] + 0.5 + found["dx"].astype(np.float64)
    y = found["row"] + 0.5 + found["dy"].astype(np.float64)
    half_width, half_height = found["width"].astype(np.float64) / 2, found["height"].astype(np.float64) / 2
    return np.stack([x - half_width, y - half_height, x + half_width, y + half_height], axis=1)


def scores(found: Found) -> NDArray[np.float64]:
    """(n,) from 0 to 1, one by one: numpy's own exponential may round by an element's place."""
    return np.array([1 / (1 + math.exp(-value)) if value > -700 else 0.0 for value in found["logit"].tolist()], float)


def merge(found: Found, iou: float) -> Found:
    """Leave out each object that overlaps a likelier one of its class which stays: non-maximum suppression.

    The likelier of two has the higher logit, on a tie the lower row, then the lower column; so the result does not depend
    on the order of what is given.

    Args:
        found: of a whole grid.
        iou: intersection over union above which two boxes are taken for one object.

    Returns:
        What stays, by row, column and class.
    """
    from shapely import STRtree, box

    edges = corners(found)
    first = np.lexsort((found["col"], found["row"], -found["logit"].astype(np.float64)))
    rank = np.empty(len(found), np.int64)
    rank[first] = np.arange(len(found))
    near = STRtree(box(*edges.T)) if len(found) else None
    stays = np.ones(len(found), np.bool_)
    for number in first:
        if not stays[number] or near is None:
            continue
        others = np.sort(near.query(box(*edges[number])))
        others = others[(rank[others] > rank[number]) & (found["class"][others] == found["class"][number])]
        stays[others[overlap(edges[number], edges[others]) > iou]] = False
    return in_order(found[stays])


def overlap(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box (4,) with each of others (n, 4): left, top, right, bottom. (n,)"""
    low, high = np.maximum(one[:2], others[:, :2]), np.minimum(one[2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(one[2:] - one[:2])
    return np.asarray(shared / np.maximum(areas - shared, np.finfo(np.float64).tiny))
