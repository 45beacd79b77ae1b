"""The connected areas of one date as one shard sees them: pieces, which are joined across shards later.

A **piece** is a connected set of active pixels within one shard. Knows nothing of other shards, of storage or of alerts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts import packing
from earthloom.jobs.monitoring.alerts.labelling import Runs, label, overlaps
from earthloom.jobs.monitoring.alerts.outlines import trace
from earthloom.jobs.monitoring.alerts.pixels import CONFIRMED, PixelStates
from earthloom.tiling.components import Ints
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.window import Window

TOP, BOTTOM, LEFT, RIGHT = range(4)
_RUN_BYTES, _PIECE_BYTES = 720, 1200
"""Measured: corners of outlines and their joining, of each run; measures, WKB and Arrow's copies, of each piece."""
_AREA_BITS = 26
"""Rounding a pixel's area to 2^-26 of it errs by less than 1e-8, and 2^36 pixels still add up within 63 bits."""


def area_unit_m2(grid: Grid) -> float:
    """The unit in which areas are added up, in square metres: a power of two, so that it multiplies without rounding.

    Sums of whole units do not depend on the order of adding, and so not on shards.
    """
    return float(2.0 ** (math.floor(math.log2(grid.gsd_m() ** 2)) - _AREA_BITS))


def pixel_area_units(grid: Grid, window: Window) -> NDArray[np.int64]:
    """True area of each pixel of a window, in units of `area_unit_m2`. (h, w)"""
    return np.rint(pixel_areas_m2(grid, window) / area_unit_m2(grid)).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """The measures of n areas of active pixels: whole numbers. Each (n,) int64."""

    px: Ints
    area: Ints
    """In units of `area_unit_m2`; so is the next."""
    confirmed_area: Ints
    first_day: Ints
    """The earliest of its pixels, in days since 1970-01-01."""
    last_day: Ints
    """The latest of its pixels."""
    newest_day: Ints
    """On which the newest of its pixels was first seen changed."""
    count: Ints
    """Observations of the change of the pixel that has most."""
    observations: Ints
    """Observations of all its pixels, added up."""
    confidence: Ints
    """Sum over these of the stored probability."""
    magnitude: Ints
    """Sum over these of the stored magnitude."""
    row: Ints
    """Row of its first pixel in the row-major order of the grid."""
    col: Ints

    @property
    def n(self) -> int:
        return int(self.px.size)

    def columns(self) -> dict[str, Ints]:
        """The arrays by name."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """The pieces of one shard on one date that may belong to an alert, numbered from 0 by their first pixels."""

    measures: Measures
    outlines: tuple[bytes | None, ...]
    """WKB in pixel coordinates; None where the piece is the same as on the date before, and lies within the shard."""
    side: NDArray[np.uint8]
    """For each run of pixels along an edge that the shard shares with another, which edge: TOP, BOTTOM, LEFT or RIGHT."""
    start: Ints
    """First column of the run on the grid, or row along a vertical edge."""
    end: Ints
    label: Ints
    """The piece that it belongs to."""
    now: Ints
    """Pieces that share pixels with pieces of the date before."""
    before: Ints
    """Those, by their numbers on that date."""
    shared: Ints
    """Pixels that they share."""

    def encode(self) -> bytes:
        """As one object; see `decode`."""
        import pyarrow as pa

        columns = packing.table_of(self.measures.columns())
        columns = columns.append_column("outline", pa.array(self.outlines, pa.binary()))
        pairs = {"now": self.now, "before": self.before, "shared": self.shared}
        edges = {"side": self.side, "start": self.start, "end": self.end, "label": self.label}
        return packing.pack([columns, packing.table_of(edges), packing.table_of(pairs)])

    @classmethod
    def decode(cls, data: bytes, where: str) -> Pieces:
        """Inverse of `encode`.

        Raises:
            PublishError: if the bytes are damaged.
        """
        columns, edges, pairs = packing.unpack(data, 3, where)
        outlines = tuple(columns.column("outline").to_pylist())
        measures = Measures(**packing.arrays_of(columns.drop_columns(["outline"])))
        return cls(measures=measures, outlines=outlines, **packing.arrays_of(edges), **packing.arrays_of(pairs))


def find(
    states: PixelStates, tracked: NDArray[np.bool_], areas: NDArray[np.int64], window: Window, whole: Window,
    min_area: float,
) -> Runs:  # fmt: skip
    """The pieces of a shard after a date, as runs of their pixels.

    A piece is left out if it cannot belong to an alert: it is smaller than the least area, does not reach a shard's edge
    beyond which it could go on, and is not what became of a piece that was not left out. In a noisy map most are.

    Args:
        states: states of the shard's pixels, after the date.
        tracked: (h, w), the pixels of the pieces of the date before.
        areas: (h, w), `pixel_area_units` of the shard.
        window: the shard on the grid.
        whole: the grid.
        min_area: with which an alert begins, in units of `area_unit_m2`.
    """
    active = states.active
    runs = label(active)
    edge = _edges(runs, window, whole)
    area = runs.sum_pixels(areas[active])
    keep = (area >= min_area) | (runs.sum_pixels(tracked[active]) > 0)
    keep[edge[3]] = True
    return runs.select(keep)


def describing_bytes(runs: Runs) -> int:
    """Most that `describe` and encoding its pieces take of pieces that are these runs, beside arrays of the shard's pixels."""
    return runs.row.size * _RUN_BYTES + runs.n_components * _PIECE_BYTES


def describe(
    runs: Runs, states: PixelStates, tracked: NDArray[np.bool_], areas: NDArray[np.int64], window: Window, whole: Window
) -> tuple[Pieces, NDArray[np.bool_]]:
    """The pieces of a shard after a date with measures and outlines, and which pixels they consist of.

    Args:
        runs: of `find`, of the same states; so are the others.
    """
    side, start, end, piece = _edges(runs, window, whole)
    earlier = label(tracked)
    now, before, shared = overlaps(runs, earlier)

    image = runs.image(states.shape)
    mask = image > 0
    px = runs.sum(runs.length)
    same = np.zeros(px.size, bool)
    single = np.bincount(now, minlength=px.size)[now] == 1
    same[now] = single & (shared == px[now]) & (shared == earlier.sum(earlier.length)[before])
    same[piece] = False
    drawn = np.flatnonzero(~same)
    number = np.zeros(px.size + 1, np.int32)
    number[drawn + 1] = np.arange(1, drawn.size + 1)
    outlines: list[bytes | None] = [None] * px.size
    for position, outline in zip(drawn.tolist(), trace(number[image], window, drawn.size), strict=True):
        outlines[position] = outline.wkb

    row, col = runs.first_pixels()
    count = states.count[mask]
    measures = Measures(
        px=px, area=runs.sum_pixels(areas[mask]),
        confirmed_area=runs.sum_pixels(np.where(states.phase[mask] == CONFIRMED, areas[mask], 0)),
        first_day=-runs.max_pixels(-states.first_day[mask]), last_day=runs.max_pixels(states.last_day[mask]),
        newest_day=runs.max_pixels(states.first_day[mask]),
        count=runs.max_pixels(count), observations=runs.sum_pixels(count),
        confidence=runs.sum_pixels(states.confidence[mask]), magnitude=runs.sum_pixels(states.magnitude[mask]),
        row=row + window.row_off, col=col + window.col_off,
    )  # fmt: skip
    pieces = Pieces(
        measures=measures, outlines=tuple(outlines), side=side, start=start, end=end, label=piece, now=now, before=before,
        shared=shared,
    )  # fmt: skip
    return pieces, mask


def _edges(runs: Runs, window: Window, whole: Window) -> tuple[NDArray[np.uint8], Ints, Ints, Ints]:
    """(side, start, end, label) of each run of pixels along the edges that a shard shares with others."""
    parts: list[tuple[int, Any, Any, Any]] = []
    for side, edge, there in (
        (TOP, 0, window.row_off > whole.row_off), (BOTTOM, window.height - 1, window.row_end < whole.row_end),
    ):  # fmt: skip
        at = np.flatnonzero(runs.row == edge) if there else np.empty(0, np.intp)
        parts.append((side, runs.start[at] + window.col_off, runs.end[at] + window.col_off, runs.label[at]))
    for side, along, edge, there in (
        (LEFT, runs.start, 0, window.col_off > whole.col_off),
        (RIGHT, runs.end, window.width, window.col_end < whole.col_end),
    ):
        at = np.flatnonzero(along == edge) if there else np.empty(0, np.intp)
        rows = runs.row[at] + window.row_off
        parts.append((side, rows, rows + 1, runs.label[at]))
    sides = [np.full(len(starts), side, np.uint8) for side, starts, _, _ in parts]
    start, end, labels = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    return np.concatenate(sides), start, end, labels
