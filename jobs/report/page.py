"""A run as one HTML page that needs nothing beside it, `runs/<run_id>/index.html`: for those who look in the morning.

Its size is bounded whatever the run: what does not fit is counted. Every text is escaped, for ids and messages come from
files and STAC items of others. Knows nothing of storage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from earthloom.jobs.records.attempt import SceneProgress
from earthloom.jobs.records.names import ITEM, QUICKLOOK
from earthloom.jobs.records.result import SceneSummary
from earthloom.jobs.report.flags import with_flags
from earthloom.jobs.report.page_style import STYLE
from earthloom.jobs.report.timeline import Moment, timeline
from earthloom.jobs.report.verdict import count
from earthloom.tiling.rounding import ceil_div

REFRESH_S = 20
"""Seconds after which a browser loads the page of a running run again."""

_BUDGET = {"troubles": 110_000, "results": 70_000, "notes": 20_000}
"""Most characters of each part that grows with the run; the rest of the page takes less than 100,000."""
_CELLS = 2500  # scenes that are drawn one by one
_NAMED = 8  # scenes that are named with a trouble that they share
_FILES = 3  # of one scene
_WORKERS = 40
_TEXT = 1500  # characters of one message
_ORDER = ("already published", "corrected", "published", "running", "waiting", "unfinished", "refused", "failed")
_COLOR = {"published": "new", "already published": "done", "corrected": "done"}
_WHERE = re.compile(r"block \S+( after \d+ attempts)?: ")
"""What differs between scenes that fail for one reason."""
_CALLED = {"published": "new", "already published": "published before"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What the page shows."""

    run_id: str
    out: str
    product: str
    device: str
    attempt: int
    state: str
    """`running`, `done`, `failed` or `stopped`."""
    started: str
    updated: str
    """RFC 3339 in UTC, both."""
    elapsed_s: float
    scenes: Mapping[str, SceneProgress]
    results: Mapping[str, SceneSummary]
    """Summaries of the published scenes, in the order in which the run found or made them."""
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    moments: Sequence[Moment] = ()
    remaining_s: float | None = None
    """An estimate, while it runs."""
    cost: float | None = None
    notes: Sequence[tuple[str, str]] = ()
    stopped: str | None = None


def page(view: RunView) -> str:
    """The page, at most 300 KB."""
    title = f"{view.product}, run {view.run_id[:12]}"
    again = f'<meta http-equiv="refresh" content="{REFRESH_S}">' if view.state == "running" else ""
    body = (
        _head(view),
        _progress(view),
        _timeline(view),
        _troubles(view),
        _results(view),
        _workers(view),
        _notes(view),
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{again}<style>{STYLE}</style></head>'
        f"<body><main>\n{''.join(body)}</main></body></html>\n"
    )


def _text(text: object) -> str:
    """Escaped, in one line of bounded length, without characters that cannot be written or that turn the line around."""
    line = " ".join(str(text).split())
    shown = line if len(line) <= _TEXT else f"{line[:_TEXT]}…"
    return escape("".join(one if one.isprintable() else "\ufffd" for one in shown))


def _address(key: str) -> str:
    return quote(key, errors="replace")


def _head(view: RunView) -> str:
    blocks = [sum(getattr(scene, name) for scene in view.scenes.values()) for name in ("blocks_done", "blocks")]
    figures = view.telemetry
    cards = [
        (f"{len(view.scenes):,}", "scenes asked for"), (f"{blocks[0]:,} / {blocks[1]:,}", "blocks"),
        (_duration(view.elapsed_s), "so far" if view.state == "running" else "took"),
    ]  # fmt: skip
    if view.remaining_s is not None:
        cards.append((f"≈ {_duration(view.remaining_s)}", "left"))
    if figures.get("computed_px"):
        cards += [
            (f"{figures['mpx_per_s']:.2f}", "Mpx/s"), (f"{figures['km2']:,.0f}", f"km², {figures['km2_per_h']:,.0f} per hour"),
            (f"{figures['device_busy_percent']:.0f} %", "of the time devices compute"),
        ]  # fmt: skip
    if view.cost is not None:
        per_area = figures.get("cost_per_1000_km2")
        cards.append((f"{view.cost:.4g}", "cost" + (f"; {per_area:.4g} per 1,000 km²" if per_area else "")))
    shown = "".join(f'<div class="card"><b>{_text(value)}</b><span>{_text(name)}</span></div>' for value, name in cards)
    stopped = f"<p>Stopped: {_text(with_flags(view.stopped))}</p>" if view.stopped else ""
    return (
        f'<h1>{_text(view.product)}<span class="pill {_text(view.state)}">{_text(view.state)}</span></h1>'
        f'<p class="verdict">{_text(count(view.scenes.values()))}</p>{stopped}<p>Run <code>{_text(view.run_id[:12])}</code>, '
        f"attempt {view.attempt}, to {_text(view.out)}; on {_text(view.device)}. Began {_moment(view.started)}, this page is "
        f'of {_moment(view.updated)}.</p><div class="cards">{shown}</div>\n'
    )


def _progress(view: RunView) -> str:
    """A bar of all scenes by state; and, of a run that is not too large, a cell for each scene."""
    states = [scene.status for scene in view.scenes.values()]
    counted = {state: states.count(state) for state in _ORDER if state in states}
    bar = "".join(
        f'<i style="width:{100 * n / len(states):.3f}%;background:var(--c-{_COLOR.get(state, state)})"></i>'
        for state, n in counted.items()
    )
    key = "".join(
        f'<span><i style="background:var(--c-{_COLOR.get(state, state)})"></i>{n:,} {_CALLED.get(state, state)}</span>'
        for state, n in counted.items()
    )
    cells = _cells(states) if 1 < len(states) <= _CELLS else ""
    return f'<h2>Scenes</h2><div class="bar">{bar}</div><div class="key">{key}</div>{cells}\n'


def _cells(states: Sequence[str]) -> str:
    """A square for each scene, in the order of the plan; one path for each colour keeps it small."""
    across, side = 86, 12
    paths: dict[str, list[str]] = {}
    for number, state in enumerate(states):
        row, col = divmod(number, across)
        paths.setdefault(_COLOR.get(state, state), []).append(f"M{col * side} {row * side}h10v10h-10z")
    height = side * ceil_div(len(states), across)
    drawn = "".join(f'<path fill="var(--c-{color})" d="{"".join(path)}"/>' for color, path in paths.items())
    width = side * min(across, len(states))
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="scenes by state">{drawn}</svg>'


def _timeline(view: RunView) -> str:
    drawn = timeline(view.moments)
    return f'<h2>Over time</h2><div class="wide">{drawn}</div>\n' if drawn else ""


def _troubles(view: RunView) -> str:
    """Each reason once, with the scenes that it holds for; new ones first."""
    reasons: dict[tuple[bool, str, str], list[str]] = {}
    for name, scene in view.scenes.items():
        if scene.status in ("refused", "failed"):
            text = with_flags(_WHERE.sub("", scene.error or "").removeprefix(f"{name}: "))
            reasons.setdefault((scene.known, scene.status, text), []).append(name)
    if not reasons:
        return ""

    def entries() -> Iterator[str]:
        for (known, status, text), names in sorted(reasons.items(), key=lambda item: (item[0][0], -len(item[1]))):
            more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
            yield (
                f'<div class="trouble {"known" if known else status}"><b>{_text(", ".join(names[:_NAMED]) + more)}</b> '
                f"<small>{status}{', as before' if known else ''}</small><p>{_text(text)}</p></div>"
            )

    rest = '<p>… and {} more reasons: <a href="attempts/{}.json">the whole record</a></p>'
    shown, left = _within(entries(), len(reasons), _BUDGET["troubles"])
    return f"<h2>What failed, and what to do</h2>{shown}{rest.format(left, view.attempt) if left else ''}\n"


def _results(view: RunView) -> str:
    if not view.results:
        return ""

    def rows() -> Iterator[str]:
        newest = list(view.results.items())[::-1]
        newest.sort(key=lambda item: view.scenes[item[0]].status != "published")
        for name, result in newest:
            base = f"../../{_address(result.prefix)}"
            files = (
                *((file, file) for file in sorted(result.rasters, key=len)[:_FILES]),
                (QUICKLOOK, "picture"),
                (ITEM, "STAC item"),
            )
            links = " · ".join(f'<a href="{base}/{_address(file)}">{_text(label)}</a>' for file, label in files)
            scene = view.scenes[name]
            since = _CALLED.get(scene.status, scene.status)
            yield f"<tr><td>{_text(name)}</td><td>{since}</td><td>{scene.blocks:,}</td><td>{links}</td></tr>"

    shown, left = _within(rows(), len(view.results), _BUDGET["results"])
    rest = f"<p>… and {left:,} more</p>" if left else ""
    return (
        '<h2>Results</h2><p>All of them, of other runs too: <a href="../../index.html">map</a> · '
        '<a href="../../catalog.json">catalog.json</a></p>'
        '<div class="wide"><table>'
        f"<tr><th>scene</th><th></th><th>blocks</th><th>files</th></tr>{shown}</table></div>{rest}\n"
    )


def _workers(view: RunView) -> str:
    workers: Mapping[str, Mapping[str, Any]] = view.telemetry.get("workers", {})
    if not workers:
        return ""
    rows = "".join(
        f"<tr><td>{_text(name)}</td><td>{one['blocks']:,}</td><td>{one['computed_px'] / 1e6:,.1f}</td>"
        f"<td>{one['device_busy_percent']:.0f} %</td></tr>"
        for name, one in list(workers.items())[:_WORKERS]
    )
    more = f"<p>… and {len(workers) - _WORKERS} more</p>" if len(workers) > _WORKERS else ""
    return (
        '<h2>Workers</h2><div class="wide"><table><tr><th>worker</th><th>blocks</th><th>Mpx</th><th>busy</th></tr>'
        f"{rows}</table></div>{more}\n"
    )


def _notes(view: RunView) -> str:
    by_text: dict[str, list[str]] = {}
    for name, text in view.notes:
        by_text.setdefault(text, []).append(name)
    shown, left = _within(
        (
            f"<p>{_text(names[0])}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {_text(with_flags(text))}</p>"
            for text, names in by_text.items()
        ),
        len(by_text),
        _BUDGET["notes"],
    )
    rest = f"<p>… and {left} more</p>" if left else ""
    return f"<h2>Notes</h2>{shown}{rest}\n" if shown else ""


def _within(parts: Iterable[str], n_parts: int, budget: int) -> tuple[str, int]:
    """The first parts that together have at most so many bytes, and the number of the others, which are not made."""
    kept, size = list[str](), 0
    for part in parts:
        size += len(part.encode())
        if size > budget:
            break
        kept.append(part)
    return "".join(kept), n_parts - len(kept)


def _moment(text: str) -> str:
    return f"{_text(text.replace('T', ' ').removesuffix('Z'))} UTC"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
