"""Connected areas of equal value in an array, numbered in reading order. Knows nothing of what the values mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def label_areas(values: NDArray[Any], wanted: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the connected areas of equal value; pixels are neighbours across an edge, not across a corner.

    Works on runs of pixels in rows, of which those that touch are joined.

    Args:
        values: (rows, columns) of any dtype that compares.
        wanted: (rows, columns), the pixels that belong to an area.

    Returns:
        (rows, columns) int32, 0 where nothing is wanted, else 1 to n in the row-major order of the areas' first pixels;
        and n.
    """
    labels = np.zeros(wanted.shape, np.int32)
    if not wanted.any():
        return labels, 0
    fresh = np.ones(wanted.shape, bool)  # a run begins here, if the pixel is wanted
    fresh[:, 1:] = (values[:, 1:] != values[:, :-1]) | ~wanted[:, :-1]
    places = np.flatnonzero(wanted)
    heads = np.flatnonzero(fresh.ravel()[places])
    starts = places[heads]
    lengths = np.diff(np.append(heads, places.size))
    value = values.ravel()[starts]
    ends, width = starts + lengths, wanted.shape[1]
    upper, lower = meeting(starts + width, ends + width, starts, ends, corners=False)
    same = value[upper] == value[lower]
    numbers = number_sets(join(starts.size, upper[same], lower[same]))
    labels.ravel()[places] = np.repeat(numbers + 1, lengths)
    return labels, int(numbers.max()) + 1


def meeting(
    begins: Ints, ends: Ints, other_begins: Ints, other_ends: Ints, *, corners: bool = True
) -> tuple[Ints, Ints]:
    """Which intervals [begin, end) of two lines of pixels touch: positions in the first and in the second.

    Several pairs of lines may be given at once, each moved by a number of its own. The second list is sorted, and its
    intervals do not overlap.

    Args:
        corners: whether it is enough that one begins where another ends.
    """
    low = np.searchsorted(other_ends, begins, side="left" if corners else "right")
    high = np.searchsorted(other_begins, ends, side="right" if corners else "left")
    return _pairs(low, np.maximum(high, low))


def join(n: int, left: Ints, right: Ints) -> Ints:
    """Sets of the numbers below n in which `left[i]` and `right[i]` are together: for each number the least of its set.

    Least labels are handed on along the pairs, and each chain of labels is halved, until nothing changes; the number of
    rounds grows with the logarithm of the longest chain (Shiloach and Vishkin, 1982).
    """
    root = np.arange(n)
    while left.size:
        a, b = root[left], root[right]
        apart = a != b
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while True:
            further = root[root]
            if np.array_equal(further, root):
                break
            root = further
    return root


def number_sets(root: Ints) -> Ints:
    """The sets of `join`, numbered from 0 in the order of their least members. (n,)"""
    first = root == np.arange(root.size)
    return (np.cumsum(first) - 1)[root]


def _pairs(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """(i, j) for every i and every j from low[i] to below high[i]."""
    counts = high - low
    mine = np.repeat(np.arange(low.size), counts)
    within = np.arange(mine.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return mine, low[mine] + within
