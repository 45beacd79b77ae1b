"""The connected areas of a whole grid on one date, put together from the pieces of its shards.

Takes memory by the number of pieces, never of pixels. Knows nothing of storage or of alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.pieces import BOTTOM, LEFT, RIGHT, TOP, Measures, Pieces
from earthloom.tiling.components import Ints, join, meeting, number_sets
from earthloom.tiling.errors import PublishError

Shard = tuple[int, int]
"""(row, column) in the grid of shards."""

NONE = -1
"""Stands in place of an alert's position if there is no alert."""

_LEAST = ("first_day",)
_LARGEST = ("last_day", "newest_day", "count")
_TOTALS = ("px", "area", "confirmed_area", "observations", "confidence", "magnitude")
_NAMES = (*_TOTALS, *_LEAST, *_LARGEST, "row", "col")


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """The connected areas of one date, numbered from 0 by their first pixels in the row-major order of the grid."""

    measures: Measures
    of_piece: Mapping[Shard, Ints]
    """Component of each piece of a shard."""
    outlines: tuple[tuple[bytes | None, ...], ...]
    """For each component the outlines of its pieces, in the order of the shards; None for a piece that is as it was."""
    component: Ints
    """Components that share pixels with an alert of the date before, sorted; a pair occurs once."""
    alert: Ints
    """Positions of those alerts."""
    shared: Ints
    """Pixels that they share."""


def join_pieces(shards: Mapping[Shard, Pieces], alerts: Mapping[Shard, Ints]) -> Components:
    """Put the pieces of all shards together.

    Args:
        shards: pieces by shard; a shard without pieces may be left out.
        alerts: by shard, the position of the alert that each piece of the date before belonged to, or NONE.

    Raises:
        PublishError: if pieces refer to others of the date before that `alerts` does not have.
    """
    order = sorted(shards)
    sizes = np.array([shards[shard].measures.n for shard in order], np.int64)
    first = np.cumsum(sizes) - sizes
    offset = dict(zip(order, first.tolist(), strict=True))
    root = join(int(sizes.sum()), *_across(shards, offset))
    columns = {name: _concatenated([shards[shard].measures.columns()[name] for shard in order]) for name in _NAMES}
    number = _by_first_pixel(number_sets(root), columns["row"], columns["col"])
    n = int(number.max(initial=-1)) + 1

    members: list[list[bytes | None]] = [[] for _ in range(n)]
    outlines = (outline for shard in order for outline in shards[shard].outlines)
    for component, outline in zip(number.tolist(), outlines, strict=True):
        members[component].append(outline)
    of_piece = {
        shard: number[start : start + size]
        for shard, start, size in zip(order, first.tolist(), sizes.tolist(), strict=True)
    }
    component, alert, shared = _carried_over(shards, of_piece, alerts)
    return Components(
        measures=_merged(columns, number, n), of_piece=of_piece, outlines=tuple(map(tuple, members)),
        component=component, alert=alert, shared=shared,
    )  # fmt: skip


def _concatenated(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _across(shards: Mapping[Shard, Pieces], offset: Mapping[Shard, int]) -> tuple[Ints, Ints]:
    """Pairs of pieces that touch across an edge between two rows or two columns of shards.

    All runs along one such line are compared at once, so that shards which meet at a corner only are among them.
    """
    pairs = [_along(shards, offset, BOTTOM, TOP, axis=0), _along(shards, offset, RIGHT, LEFT, axis=1)]
    return _concatenated([left for left, _ in pairs]), _concatenated([right for _, right in pairs])


def _along(
    shards: Mapping[Shard, Pieces], offset: Mapping[Shard, int], far: int, near: int, axis: int
) -> tuple[Ints, Ints]:
    stride = 2 + max((int(pieces.end.max(initial=0)) for pieces in shards.values()), default=0)

    def intervals(side: int, step: int) -> tuple[Ints, Ints, Ints]:
        found: list[NDArray[np.int64]] = [np.empty((3, 0), np.int64)]
        for shard, pieces in shards.items():
            at = np.flatnonzero(pieces.side == side)
            line = (shard[axis] + step) * stride
            found.append(np.stack([pieces.start[at] + line, pieces.end[at] + line, pieces.label[at] + offset[shard]]))
        starts, ends, piece = np.concatenate(found, axis=1)
        order = np.argsort(starts, kind="stable")
        return starts[order], ends[order], piece[order]

    starts, ends, piece = intervals(far, 1)
    other_starts, other_ends, other_piece = intervals(near, 0)
    mine, theirs = meeting(starts, ends, other_starts, other_ends)
    return piece[mine], other_piece[theirs]


def _by_first_pixel(number: Ints, row: Ints, col: Ints) -> Ints:
    """Components numbered by their first pixels, whatever the order of the pieces was."""
    order = np.lexsort((col, row))
    first = np.unique(number[order], return_index=True)[1]  # place in that order of each component's first pixel
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[number] if number.size else number


def _merged(columns: Mapping[str, Ints], number: Ints, n: int) -> Measures:
    merged: dict[str, Ints] = {}
    for name in _TOTALS:
        merged[name] = np.zeros(n, np.int64)
        np.add.at(merged[name], number, columns[name])
    for name in _LEAST:
        merged[name] = np.full(n, np.iinfo(np.int64).max)
        np.minimum.at(merged[name], number, columns[name])
    for name in _LARGEST:
        merged[name] = np.full(n, np.iinfo(np.int64).min)
        np.maximum.at(merged[name], number, columns[name])
    order = np.lexsort((columns["col"], columns["row"]))
    first = order[np.unique(number[order], return_index=True)[1]]
    return Measures(**merged, row=columns["row"][first], col=columns["col"][first])


def _carried_over(
    shards: Mapping[Shard, Pieces], of_piece: Mapping[Shard, Ints], alerts: Mapping[Shard, Ints]
) -> tuple[Ints, Ints, Ints]:
    found: list[NDArray[np.int64]] = [np.empty((3, 0), np.int64)]
    for shard, pieces in shards.items():
        known = alerts.get(shard, np.empty(0, np.int64))
        if pieces.before.max(initial=NONE) >= known.size:
            raise PublishError(
                f"shard {shard[0]}_{shard[1]} goes on from {pieces.before.max() + 1} pieces of the date before, of which "
                f"{known.size} are recorded; remove the folder 'state' of these alerts and run again"
            )
        carried = known[pieces.before]
        kept = carried != NONE
        found.append(np.stack([of_piece[shard][pieces.now[kept]], carried[kept], pieces.shared[kept]]))
    component, alert, shared = np.concatenate(found, axis=1)
    (component, alert), which = np.unique(np.stack([component, alert]), axis=1, return_inverse=True)
    total = np.zeros(component.size, np.int64)
    np.add.at(total, which.reshape(-1), shared)
    return component, alert, total
