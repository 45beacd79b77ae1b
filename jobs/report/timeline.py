"""The picture of a run's profile: a row per lane, one colour per phase, and how busy each worker's device was.

Draws with Pillow and its built-in font only. Knows nothing of how blocks are computed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.report.trace import (
    PHASES,
    BlockTimes,
    Mark,
    apart,
    busy,
    busy_percent,
    by_lane,
    earliest,
    intervals,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_INK, _QUIET, _LINE, _PAPER = (27, 34, 44), (96, 106, 120), (205, 210, 217), (255, 255, 255)
_IDLE, _DRIVER = (240, 242, 245), (126, 118, 153)
_COLORS = {"read": (86, 140, 214), "wait": (208, 200, 184), "compute": (38, 150, 104), "write": (232, 152, 58)}
_STACKED = ("compute", "read", "write", "wait")
"""From the foot of a row upwards, where a column of the picture holds several phases."""
_WIDTH, _MARGIN, _GUTTER, _HEAD, _FOOT = 1400, 28, 200, 104, 46
_PLOT_PX, _LABEL_PX = _WIDTH - _GUTTER - _MARGIN, _GUTTER - _MARGIN - 10
_ROOM_PX, _MIN_LANE_PX, _MAX_LANE_PX, _GAP = 1600, 6, 22, 8
_MAX_MARK_ROWS, _MARK_PX = 4, 18
_MAX_TICKS = 12
_STEPS_S = (
    *(m * 10.0**e for e in range(-3, 1) for m in (1, 2, 5)), 10.0, 20.0, 30.0,
    *(60.0 * m for m in (1, 2, 5, 10, 20, 30, 60, 120, 180, 360, 720, 1440)),
)  # fmt: skip


def picture(times: Sequence[BlockTimes], *, marks: Sequence[Mark], title: str) -> bytes:
    """Draw the times of blocks, 1400 px wide and at most 1830 high.

    A column that holds several phases is divided between them from the foot upwards, so that thousands of blocks still
    tell how a lane spent its time. Above the lanes of each worker stands the share of time in which it computed.

    Args:
        times: of the blocks.
        marks: what the driver did, drawn on top.
        title: the first line.

    Returns:
        A PNG file. Where there is no room for all workers, the first ones are drawn and the others counted.
    """
    from PIL import Image, ImageDraw

    workers = by_lane(times)
    zero = earliest(times, marks)
    ends = [*(one.ended_s for one in times), *(end for _, _, end in marks)]
    span_s = max(max(ends, default=zero) - zero, 1e-3)
    lane_px, drawn = _fitting({worker: len(lanes) for worker, lanes in workers.items()})
    rows = apart(marks)[:_MAX_MARK_ROWS]
    foot = _HEAD + _MARK_PX * len(rows) + sum(_GAP + lane_px * (1 + len(workers[worker])) for worker in drawn)
    canvas = Image.new("RGB", (_WIDTH, foot + _FOOT), _PAPER)
    draw = ImageDraw.Draw(canvas)
    _head(draw, title, times, len(workers), span_s)
    _driver(draw, rows, zero, span_s)
    top = _HEAD + _MARK_PX * len(rows)
    edges = zero + np.linspace(0, span_s, _PLOT_PX + 1)
    for worker in drawn:
        top += _GAP
        _worker(canvas, draw, top, worker, workers[worker], edges, lane_px)
        top += lane_px * (1 + len(workers[worker]))
    _axis(draw, foot + 6, span_s)
    if len(drawn) < len(workers):
        _text(draw, (_MARGIN, foot + 12), f"and {len(workers) - len(drawn)} more workers", 12, _QUIET, _LABEL_PX)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _fitting(lanes: Mapping[str, int]) -> tuple[int, list[str]]:
    """Height of a lane, and the workers for which there is room, from the number of lanes of each."""
    n_rows = sum(1 + count for count in lanes.values())
    lane_px = max(_MIN_LANE_PX, min(_MAX_LANE_PX, (_ROOM_PX // 2 - _GAP * len(lanes)) // max(n_rows, 1)))
    drawn, height = [], 0
    for worker, count in lanes.items():
        height += _GAP + lane_px * (1 + count)
        if height <= _ROOM_PX:
            drawn.append(worker)
    return lane_px, drawn


def _head(draw: ImageDraw, title: str, times: Sequence[BlockTimes], n_workers: int, span_s: float) -> None:
    _text(draw, (_MARGIN, 16), title, 24, _INK, _WIDTH - 2 * _MARGIN)
    told = ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in ((len(times), "block"), (n_workers, "worker")))
    told = f"{told}, {sum(one.computed_px for one in times) / 1e6:.1f} Mpx, {span_s:.1f} s"
    _text(draw, (_MARGIN, 48), told if times else "no block was computed", 14, _QUIET, _WIDTH)
    x = _GUTTER
    for phase in PHASES:
        draw.rectangle((x, 76, x + 12, 88), fill=_COLORS[phase])
        _text(draw, (x + 18, 75), phase, 12, _INK, 100)
        x += 18 + _wide(phase, 12) + 22
    _text(draw, (x, 75), "first row of a worker: share of time in which its device computed", 12, _QUIET, _WIDTH - x)


def _driver(draw: ImageDraw, rows: Sequence[Sequence[Mark]], zero: float, span_s: float) -> None:
    if rows:
        _text(draw, (_MARGIN, _HEAD + 1), "driver", 12, _INK, _LABEL_PX)
    for number, row in enumerate(rows):
        top = _HEAD + number * _MARK_PX
        for name, start, end in row:
            left, right = (_GUTTER + (at - zero) / span_s * _PLOT_PX for at in (start, end))
            draw.rectangle((left, top, max(left, right - 2), top + _MARK_PX - 4), fill=_DRIVER)
            if right - left > 24:
                _text(draw, (round(left) + 4, top + 1), name, 11, _PAPER, round(right - left) - 6)


def _worker(
    canvas: Image, draw: ImageDraw, top: int, worker: str, lanes: Mapping[int, Sequence[BlockTimes]],
    edges: NDArray[np.float64], lane_px: int,
) -> None:  # fmt: skip
    """Name, share and row of the device, and a row for each lane."""
    from PIL.Image import fromarray

    blocks = [one for lane in lanes.values() for one in lane]
    share = f"{busy_percent(blocks):.0f} %"
    _text(draw, (_MARGIN, top - 1), worker, 12, _INK, _LABEL_PX - _wide(share, 12) - 8)
    _text(draw, (_MARGIN + _LABEL_PX - _wide(share, 12), top - 1), share, 12, _COLORS["compute"], _LABEL_PX)
    device = _stacked([_share(busy(blocks), edges)], [_COLORS["compute"]], lane_px - 1)
    canvas.paste(fromarray(device), (_GUTTER, top))
    for number, lane in enumerate(lanes.values(), start=1):
        spent = [_share(intervals(lane, phase), edges) for phase in _STACKED]
        strip = _stacked(spent, [_COLORS[phase] for phase in _STACKED], lane_px * 5 // 6)
        canvas.paste(fromarray(strip), (_GUTTER, top + number * lane_px))


def _share(intervals: Sequence[tuple[float, float]], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each column between `edges` (n + 1,) that disjoint, sorted intervals cover, (n,)."""
    if not intervals:
        return np.zeros(len(edges) - 1)
    ends = np.asarray(intervals).ravel()
    covered = np.repeat(np.cumsum([0.0, *(end - start for start, end in intervals)]), 2)[1:-1]
    shares: NDArray[np.float64] = np.diff(np.interp(edges, ends, covered)) / np.diff(edges)
    return shares


def _stacked(
    shares: Sequence[NDArray[np.float64]], colors: Sequence[tuple[int, int, int]], height_px: int
) -> NDArray[np.uint8]:
    """(height, columns, 3): each column divided from the foot upwards by the shares (columns,), the rest idle."""
    tops = np.cumsum(shares, axis=0)[:, None, :]
    middles = ((np.arange(height_px)[::-1] + 0.5) / height_px)[None, :, None]
    palette = np.array([*colors, _IDLE], np.uint8)
    pixels: NDArray[np.uint8] = palette[(tops <= middles).sum(axis=0)]
    return pixels


def _axis(draw: ImageDraw, top: int, span_s: float) -> None:
    step = next((step for step in _STEPS_S if span_s / step <= _MAX_TICKS), math.ceil(span_s / 86400 / 12) * 86400.0)
    unit, seconds = ("s", 1) if step < 60 else ("min", 60) if step < 3600 else ("h", 3600)
    draw.line((_GUTTER, top, _GUTTER + _PLOT_PX, top), fill=_LINE)
    for number in range(int(span_s / step + 1e-9) + 1):
        x = _GUTTER + number * step / span_s * _PLOT_PX
        draw.line((x, top, x, top + 5), fill=_QUIET)
        told = f"{round(number * step / seconds, 3):g} {unit}"
        draw.text((min(x, _WIDTH - _wide(told, 11) - 4), top + 8), told, font=_font(11), fill=_QUIET)


@lru_cache(maxsize=8)
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)  # type: ignore[return-value]  # FreeType is in every wheel of Pillow


def _wide(text: str, size: int) -> int:
    return math.ceil(_font(size).getlength(text))


def _text(draw: ImageDraw, at: tuple[int, int], text: str, size: int, fill: tuple[int, int, int], room_px: int) -> None:
    """Text from its upper-left corner, cut to `room_px` with an ellipsis."""
    if _wide(text, size) > room_px:
        while text and _wide(f"{text}…", size) > room_px:
            text = text[:-1]
        text = f"{text}…"
    draw.text(at, text, font=_font(size), fill=fill)
