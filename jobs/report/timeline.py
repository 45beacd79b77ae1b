"""How a run went over time, as a small drawing: blocks that were done, and the pace at which they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_MOST = 240
"""Moments that are kept; when there are more, every other one goes."""
_WIDTH, _HEIGHT, _LEFT, _BELOW, _TOP = 1000, 190, 70, 26, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """How far a run was."""

    elapsed_s: float
    blocks: int
    """Number of blocks that this attempt had computed."""
    pixels: int
    scenes: int
    """Number of scenes that it had published."""


@dataclass(slots=True)
class Moments:
    """The moments of a run; their number is bounded however long it takes."""

    kept: list[Moment] = field(default_factory=list)

    def add(self, moment: Moment) -> None:
        self.kept.append(moment)
        if len(self.kept) > _MOST:
            del self.kept[1:-1:2]


def timeline(moments: Sequence[Moment]) -> str:
    """Blocks done against time, with the number at both ends; nothing for a run that computed nothing."""
    if len(moments) < 2 or not moments[-1].blocks:
        return ""
    last = moments[-1]
    span_s = max(last.elapsed_s, 1e-6)
    right, bottom = _WIDTH - 20, _HEIGHT - _BELOW

    def place(moment: Moment) -> str:
        x = _LEFT + (right - _LEFT) * moment.elapsed_s / span_s
        y = bottom - (bottom - _TOP) * moment.blocks / last.blocks
        return f"{x:.1f},{y:.1f}"

    line = " ".join(place(moment) for moment in moments)
    area = f"{_LEFT},{bottom} {line} {right},{bottom}"
    unit, divisor = ("s", 1) if span_s < 300 else ("min", 60) if span_s < 3 * 3600 else ("h", 3600)
    ticks = "".join(
        f'<text x="{_LEFT + (right - _LEFT) * share:.0f}" y="{_HEIGHT - 6}" text-anchor="{"end" if share == 1 else "middle"}">'
        f"{span_s * share / divisor:.3g} {unit}</text>"
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="blocks over time">'
        f'<polygon points="{area}" fill="var(--accent)" opacity=".18"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--accent)" stroke-width="2"/>'
        f'<line x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="var(--line)"/>'
        f'<text x="{_LEFT - 8}" y="{_TOP + 6}" text-anchor="end">{last.blocks:,}</text>'
        f'<text x="{_LEFT - 8}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{_LEFT + 8}" y="{_TOP - 3}">blocks computed; {last.scenes:,} scene{"s" * (last.scenes != 1)} published, '
        f"{last.pixels / 1e6:,.1f} Mpx</text>"
        f"{ticks}</svg>"
    )
