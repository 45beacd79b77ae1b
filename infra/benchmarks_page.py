"""`python -m infra.benchmarks_page`: docs/benchmarks.md and its pictures, made from docs/benchmarks.json.

That file holds `cases`, which `python -m tests.bench NAME --keep` measures and writes, and three lists kept by hand: `goals`
(what a column of a case should be), `notes` (why a goal was missed) and `lost` (ideas that were measured and lost).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES, IMAGES = ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "images"

_HEAD = """# Benchmarks

No figure on this page was measured on a GPU; `infra/gpu_check/run.sh` would measure them. [Models](models.md) reports how
good the models are.

`python -m infra.benchmarks_page` makes this page from [benchmarks.json](benchmarks.json), which `python -m tests.bench NAME
--keep` fills. The command above each table repeats its measurement. Figures that are compared were measured side by side in
one call. Each table states the machine, its load and the versions; on a shared machine, wall times vary more than ratios.

The tables come from machines that call themselves the same. `peers`, `overhead` and `writers` are from one on which bare passes
of `landwater` took twice as long as in `limit`; how fast that of `composite`, `monitors` and `alerts` was is not known. Compare
figures within a table, not between them.
"""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
_WIDTH, _GUTTER, _TOP, _BAR = 760, 250, 58, 16
_COLORS = ("#26966a", "#568cd6", "#e8983a", "#7e7699")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Some columns of a case: as bars, a group for each row; or as lines over a column of numbers."""

    title: str
    labels: tuple[str, ...]
    """Columns that name a row; of lines, the one over which they run."""
    values: tuple[str, ...]
    lines: bool = False


PLOTS = {
    "memory": Plot(
        title="Memory of a worker, GiB", labels=("model", "scene", "limit GiB"), values=("predicted GiB", "peak GiB")
    ),
    "latency": Plot(
        title="Share of the bare forward pass's speed", labels=("storage", "round trip ms"),
        values=("ratio, engine start apart", "ratio, whole command"),
    ),
    "writers": Plot(title="Writing 20000 × 20000 px, seconds", labels=("writer",), values=("wall s", "CPU s")),
    "linear": Plot(
        title="Seconds of a run by Mpx of its scene", labels=("Mpx",), values=("wall s", "processor s"), lines=True
    ),
}  # fmt: skip


def page(figures: Mapping[str, Any]) -> str:
    """The whole page."""
    cases: Mapping[str, Any] = figures.get("cases", {})
    parts = [_HEAD]
    if goals := figures.get("goals", []):
        parts.append("## Goals\n\n" + _table([_judged(goal, cases) for goal in goals]))
    parts += [_case(name, record) for name, record in cases.items()]
    for title, key in (("What missed its goal, and why", "notes"), ("Ideas that lost", "lost")):
        if lines := figures.get(key, []):
            parts.append(f"## {title}\n\n" + "".join(f"- {line}\n" for line in lines))
    return "\n".join(parts)


def pictures(figures: Mapping[str, Any]) -> dict[str, str]:
    """SVG files below docs/images, by name, of the cases that were measured."""
    cases: Mapping[str, Any] = figures.get("cases", {})
    return {
        _picture(name): (_lines if plot.lines else _bars)(plot, cases[name]["rows"])
        for name, plot in PLOTS.items()
        if name in cases
    }


def _picture(name: str) -> str:
    return f"benchmark-{name}.svg"


def _judged(goal: Mapping[str, Any], cases: Mapping[str, Any]) -> dict[str, str]:
    """A line of the table of goals. Every row that `where` selects has to reach it; where the goal names `rivals`, the share
    that the row has of the least of their rows of the same `beside`."""
    every = cases.get(goal["case"], {}).get("rows", [])
    found: list[tuple[float, str]] = []
    for row in _selected(every, goal.get("where", {})):
        number, cell = _number(row.get(goal["column"])), str(row.get(goal["column"]))
        if number is not None and "rivals" in goal:
            rivals = _selected(every, {**goal["rivals"], goal["beside"]: row[goal["beside"]]})
            best = min(rival for one in rivals if (rival := _number(one[goal["column"]])) is not None)
            number, cell = number / best, f"{number / best:.2f}"
        if number is not None:
            found.append((number, cell))
    found.sort()
    measured, verdict = "", "not measured"
    if found:
        least, most = goal.get("least", float("-inf")), goal.get("most", float("inf"))
        measured = " to ".join(dict.fromkeys((found[0][1], found[-1][1])))
        verdict = "met" if all(least <= number <= most for number, _ in found) else "**missed**"
    return {"goal": goal["goal"], "measured": measured, "verdict": verdict}


def _selected(rows: Sequence[Mapping[str, Any]], where: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows with these values in these columns; a list holds any of them."""
    return [
        row for row in rows
        if all(row.get(column) in (value if isinstance(value, list) else [value]) for column, value in where.items())
    ]  # fmt: skip


def _number(cell: object) -> float | None:
    """The first number of a cell, if it has one."""
    match = _NUMBER.search(str(cell)) if cell is not None else None
    return float(match[0]) if match else None


def _case(name: str, record: Mapping[str, Any]) -> str:
    on, versions = record["machine"], record["versions"]
    doing = f", load {on['load']:g} before it began" if on.get("load", 0) >= 0.5 else ""
    lines = [
        f"## {name}", "", record["title"], "",
        f"`{record['command']}` took {_duration(record['seconds'])} on {record['date']}: {on['cpu']}, {on['cores']} cores, "
        f"{on['memory_gib']:.0f} GiB, GPU: {on['gpu']}{doing}; {', '.join(f'{k} {v}' for k, v in versions.items())}.",
        "", _table(record["rows"]),
    ]  # fmt: skip
    if name in PLOTS:
        lines += [f"![{PLOTS[name].title}](images/{_picture(name)})", ""]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([str(row[column]) for column in columns] for row in rows)]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _bars(plot: Plot, rows: Sequence[Mapping[str, Any]]) -> str:
    """Horizontal bars from 0, each with its figure; a cell without a number has none."""
    values = [[_number(row[column]) for column in plot.values] for row in rows]
    most = max((value for line in values for value in line if value is not None), default=0.0) or 1.0
    parts, y = _legend(plot), _TOP
    for row, line in zip(rows, values, strict=True):
        label = ", ".join(str(row[column]) for column in plot.labels)
        parts.append(_text(_GUTTER - 10, y + _BAR * len(line) / 2 + 4, label, size=12, anchor="end"))
        for value, color in zip(line, _COLORS, strict=False):
            if value is not None:
                long = max(0.0, value) / most * (_WIDTH - _GUTTER - 70)
                parts.append(f'<rect x="{_GUTTER}" y="{y}" width="{long:.1f}" height="{_BAR - 2}" fill="{color}"/>')
                parts.append(_text(_GUTTER + long + 6, y + _BAR - 5, f"{value:g}", size=11))
            y += _BAR
        y += 12
    return _svg(plot.title, y, parts)


def _lines(plot: Plot, rows: Sequence[Mapping[str, Any]]) -> str:
    """Lines over a column of numbers, both axes from 0, each point with its figure; other rows are left out."""
    (along,) = plot.labels
    points = [row for row in rows if _NUMBER.fullmatch(str(row[along]))]
    xs = [float(row[along]) for row in points]
    most = max((float(row[column]) for row in points for column in plot.values), default=0.0) or 1.0
    left, right, foot = 60, _WIDTH - 60, _TOP + 240
    at = [left + x / (max(xs, default=0.0) or 1.0) * (right - left) for x in xs]
    parts = [*_legend(plot), f'<path d="M{left} {_TOP}V{foot}H{right}" fill="none" stroke="#9aa4b2"/>']
    for column, color, aside in zip(plot.values, _COLORS, (15, -7, 15, -7), strict=False):
        ys = [foot - float(row[column]) / most * (foot - _TOP - 14) for row in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(at, ys, strict=True))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for x, y, row in zip(at, ys, points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')
            parts.append(_text(x, y + aside, str(row[column]), size=11, anchor="middle"))
    parts += [_text(x, foot + 16, str(row[along]), size=11, anchor="middle") for x, row in zip(at, points, strict=True)]
    parts.append(_text(right + 8, foot + 4, along, size=12))
    return _svg(plot.title, foot + 28, parts)


def _legend(plot: Plot) -> list[str]:
    parts, x = [_text(16, 24, plot.title, size=16)], 60 if plot.lines else _GUTTER
    for column, color in zip(plot.values, _COLORS, strict=False):
        parts += [f'<rect x="{x}" y="35" width="10" height="10" fill="{color}"/>', _text(x + 15, 44, column, size=12)]
        x += 35 + 6 * len(column)
    return parts


def _svg(title: str, height: int, parts: Sequence[str]) -> str:
    drawn = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" role="img">\n<title>{escape(title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>\n{drawn}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, *, size: int, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="#1b222c">{escape(text)}</text>'
    )


def main() -> None:
    figures = json.loads(FIGURES.read_text())
    PAGE.write_text(page(figures))
    for name, picture in pictures(figures).items():
        (IMAGES / name).write_text(picture)
    print(PAGE)


if __name__ == "__main__":
    main()
