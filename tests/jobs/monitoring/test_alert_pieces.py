"""What a shard leaves to the join: pieces that can matter, drawn anew only where they changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from earthloom.jobs.monitoring.alerts.components import NONE, join_pieces
from earthloom.jobs.monitoring.alerts.pieces import BOTTOM, RIGHT, Pieces, describe, find
from earthloom.jobs.monitoring.alerts.pixels import CONFIRMED, PROVISIONAL, PixelStates
from earthloom.tiling.errors import PublishError
from earthloom.tiling.window import Window

WHOLE = Window(0, 0, 20, 12)
SHARD = Window(0, 0, 10, 8)
NOBODY = np.zeros(SHARD.shape, np.bool_)
ONES = np.ones(SHARD.shape, np.int64)


def pixels(*parts: tuple[slice, slice]) -> PixelStates:
    states = PixelStates.idle(SHARD.shape)
    for part in parts:
        states.phase[part] = PROVISIONAL
        states.count[part], states.first_day[part], states.last_day[part] = 2, 100, 110
        states.confidence[part] = 400
    return states


def described(
    states: PixelStates, tracked: NDArray[np.bool_] = NOBODY, least: float = 4
) -> tuple[Pieces, NDArray[np.bool_]]:
    return describe(find(states, tracked, ONES, SHARD, WHOLE, least), states, tracked, ONES, SHARD, WHOLE)


def found(states: PixelStates, tracked: NDArray[np.bool_] = NOBODY, least: float = 4) -> Pieces:
    return described(states, tracked, least)[0]


def test_a_speck_is_left_out_unless_it_could_be_part_of_an_alert() -> None:
    inside, outer, border = np.s_[2:3, 2:4], np.s_[0:1, 5:6], np.s_[4:5, 9:10]
    assert found(pixels(inside, outer)).measures.n == 0, "too small, also at the edge of the grid"
    assert found(pixels(inside), least=2).measures.n == 1
    assert found(pixels(border)).measures.n == 1, "it may go on in the next shard"
    before = NOBODY.copy()
    before[2, 3] = True
    assert found(pixels(inside, outer), before).measures.n == 1, "it is what became of an alert"


def test_a_piece_that_stays_as_it_is_is_not_drawn_again_unless_it_touches_another_shard() -> None:
    inside, border = np.s_[2:5, 2:5], np.s_[5:8, 6:9]
    first, tracked = described(pixels(inside, border))
    assert all(outline is not None for outline in first.outlines)
    same = found(pixels(inside, border), tracked)
    assert [outline is None for outline in same.outlines] == [True, False]
    assert (same.now.tolist(), same.before.tolist()) == ([0, 1], [0, 1])
    grown = found(pixels(np.s_[1:5, 2:5], border), tracked)
    assert [outline is None for outline in grown.outlines] == [False, False]
    shrunk = found(pixels(np.s_[2:5, 2:4], border), tracked)
    assert [outline is None for outline in shrunk.outlines] == [False, False]
    moved, _ = described(pixels(np.s_[2:5, 3:6]), tracked)
    assert moved.outlines[0] is not None


def test_pieces_are_measured_and_stored_as_they_are() -> None:
    states = pixels(np.s_[2:5, 2:5], np.s_[5:8, 6:10])
    states.phase[2:4, 2:5] = CONFIRMED
    states.first_day[3, 3], states.last_day[4, 4], states.count[2, 2] = 90, 120, 7
    pieces = found(states)
    told = {name: values.tolist() for name, values in pieces.measures.columns().items()}
    assert told == {
        "px": [9, 12], "area": [9, 12], "confirmed_area": [6, 0], "first_day": [90, 100], "last_day": [120, 110],
        "newest_day": [100, 100],
        "count": [7, 2], "observations": [9 * 2 + 5, 24], "confidence": [3600, 4800], "magnitude": [0, 0], "row": [2, 5],
        "col": [2, 6],
    }  # fmt: skip
    edges = sorted(
        zip(*(values.tolist() for values in (pieces.side, pieces.start, pieces.end, pieces.label)), strict=True)
    )
    assert edges == [(BOTTOM, 6, 10, 1), *((RIGHT, row, row + 1, 1) for row in (5, 6, 7))]
    again = Pieces.decode(pieces.encode(), "a test")
    assert again.encode() == pieces.encode()
    assert again.outlines == pieces.outlines
    with pytest.raises(PublishError, match="remove the folder"):
        Pieces.decode(pieces.encode()[:-30], "a test")


def test_pieces_of_another_history_are_refused() -> None:
    pieces = found(pixels(np.s_[2:5, 2:5]))
    pieces = replace(pieces, now=np.array([0]), before=np.array([3]), shared=np.array([1]))
    with pytest.raises(PublishError, match="4 pieces of the date before, of which 2 are recorded"):
        join_pieces({(0, 0): pieces}, {(0, 0): np.array([NONE, 5])})
