"""The boundaries of labelled pixels as closed rings, by whole arrays at a time. Numpy only; knows no geometry library.

A **corner** is a point of the pixels' lattice at which a boundary turns. Along each line of the lattice, corners are the
ends of straight segments, in pairs; so each is visited by one horizontal and one vertical segment, and rings follow. Where
two pixels meet at a corner only, the boundary visits it twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.labelling import label

_TOP_LEFT, _TOP_RIGHT, _BOTTOM_LEFT, _BOTTOM_RIGHT = 1, 2, 4, 8
_FALLING, _RISING = _TOP_LEFT | _BOTTOM_RIGHT, _TOP_RIGHT | _BOTTOM_LEFT
_VISITS = np.zeros(16, np.uint8)
"""The number of turns of a boundary at a point of the lattice, by the set ones among the four pixels around it."""
_VISITS[[1, 2, 4, 8, 7, 11, 13, 14]] = 1
_VISITS[[_FALLING, _RISING]] = 2

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """Boundaries as ragged arrays in the layout of GeoArrow: each of the last three counts from 0 where the next begins."""

    points: NDArray[np.float64]
    """(p, 2) x and y in pixels; the last point of a ring repeats its first."""
    ring_ends: NDArray[np.int64]
    """(r + 1,) points up to each ring. The first ring of a polygon is its shell, the others are its holes."""
    polygon_ends: NDArray[np.int64]
    """(q + 1,) rings up to each polygon: a set of pixels connected by edges."""
    outline_ends: NDArray[np.int64]
    """(n + 1,) polygons up to each label."""


def trace_rings(labels: NDArray[np.int32]) -> Rings:
    """The boundaries of labelled pixels.

    Args:
        labels: (h, w), from 1 without gaps; 0 is outside. Neighbours that share an edge have one label.
    """
    polygons = label(labels > 0, diagonal=False).image(labels.shape)
    code = _neighbours(labels)
    at = np.flatnonzero(_VISITS[code]).astype(np.int32)
    kind = code.reshape(-1)[at]
    del code
    twice = _VISITS[kind] == 2
    first = (
        np.flatnonzero(twice) + np.cumsum(twice)[twice] - 1
    )  # of the two visits of a corner, which follow each other
    kind, at = np.repeat(kind, _VISITS[kind]), np.repeat(at, _VISITS[kind])
    corners = np.stack([at % (labels.shape[1] + 1), at // (labels.shape[1] + 1)], axis=1)  # x, y
    del at, twice

    # Along a row, visits 2k and 2k + 1 are the ends of segment k. Travelled with the pixels on its right, y pointing down:
    # to the right where they lie below it.
    left = np.arange(0, kind.size, 2, dtype=np.int32)
    below = (kind[left] & _BOTTOM_RIGHT) > 0
    departure = np.where(below, left, left + 1)
    place = _vertical_places(corners[:, 0])
    rising = first[kind[first] == _RISING]
    place[rising], place[rising + 1] = place[rising + 1], place[rising]  # each visit goes round one pixel
    ring = _cycles(_next(departure, place))
    # A ring that visits a corner twice touches itself. Going round what is outside instead parts it in two.
    again = first[ring[first >> 1] == ring[(first + 1) >> 1]]
    place[again], place[again + 1] = place[again + 1], place[again]
    follows = _next(departure, place)
    del place, kind
    ring = _cycles(follows)
    heads = np.flatnonzero(ring == np.arange(ring.size))
    pixels = corners[left[heads], 1] - ~below[heads], corners[left[heads], 0]
    return _assembled(follows, ring, corners[departure], corners[departure ^ 1], polygons[pixels], labels[pixels])


def _neighbours(labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The set ones among the four pixels around each point of the lattice, as bits. (h + 1, w + 1)"""
    around = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), np.uint8)
    around[1:-1, 1:-1] = labels > 0
    code: NDArray[np.uint8] = around[:-1, :-1] | around[:-1, 1:] << 1
    code |= around[1:, :-1] << 2
    code |= around[1:, 1:] << 3
    return code


def _vertical_places(col: Ints) -> Ints:
    """Position of each visit when they are sorted by column: 2k and 2k + 1 are the ends of a vertical segment."""
    order = np.argsort(col, kind="stable")
    place = np.empty(col.size, np.int32)
    place[order] = np.arange(col.size, dtype=np.int32)
    return place


def _next(departure: Ints, place: Ints) -> Ints:
    """The horizontal segment that follows each: from the far end up or down the vertical one."""
    visit = np.empty(place.size, np.int32)
    visit[place] = np.arange(place.size, dtype=np.int32)
    follows: Ints = visit[place[departure ^ 1] ^ 1] >> 1
    return follows


def _cycles(follows: Ints) -> Ints:
    """For each member of a permutation's cycles the least member of its cycle, by doubling the reach of each look ahead."""
    least = np.arange(follows.size, dtype=np.int32)
    jump = follows
    while not np.array_equal(least, least[follows]):
        least = np.minimum(least, least[jump])
        jump = jump[jump]
    return least


def _ranks(follows: Ints, ring: Ints) -> tuple[Ints, Ints]:
    """(place in its cycle of each member, counted from the least; members of each cycle, at the least)."""
    own = np.arange(follows.size, dtype=np.int32)
    ends = ring == own
    jump = np.where(ends, own, follows)
    ahead = np.where(ends, 0, 1).astype(np.int32)
    while True:
        further = ahead[jump]
        if not further.any():
            break
        ahead += further
        jump = jump[jump]
    sizes = np.bincount(ring, minlength=follows.size).astype(np.int32)
    return np.where(ends, 0, sizes[ring] - ahead), sizes


def _assembled(follows: Ints, ring: Ints, start: Ints, end: Ints, polygon: Ints, outline: Ints) -> Rings:
    """Put rings in the order of their outlines and polygons, shells before holes.

    Args:
        follows, ring: for each horizontal segment the next one, and the first one of its ring.
        start, end: (m, 2) x and y of its ends in the direction of travel.
        polygon, outline: of each ring, in the order of their first segments.
    """
    rank, sizes = _ranks(follows, ring)
    heads = np.flatnonzero(ring == np.arange(ring.size))
    area = np.zeros(ring.size, np.int64)  # of what a ring encloses, negative for holes: the integral of -y dx
    np.subtract.at(area, ring, start[:, 1].astype(np.int64) * (end[:, 0] - start[:, 0]))
    order = np.lexsort((area[heads] < 0, polygon, outline))
    heads, outline = heads[order], outline[order]
    ring_ends = np.concatenate([[0], np.cumsum(2 * sizes[heads].astype(np.int64) + 1)])
    offset = np.zeros(ring.size, np.int64)
    offset[heads] = ring_ends[:-1]
    points = np.empty((int(ring_ends[-1]), 2))
    at = offset[ring] + 2 * rank
    points[at], points[at + 1] = start, end
    points[ring_ends[1:] - 1] = points[ring_ends[:-1]]
    shells = np.flatnonzero(area[heads] > 0)
    polygon_ends = np.append(shells, heads.size)
    outline_ends = np.searchsorted(outline[shells], np.arange(1, int(outline.max(initial=0)) + 2))
    return Rings(points=points, ring_ends=ring_ends, polygon_ends=polygon_ends, outline_ends=outline_ends)
