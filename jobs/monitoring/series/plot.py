"""The plot of a series: the area of each class over time. The same table gives the same bytes.

Knows nothing of files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.jobs.monitoring.series.series import DATE
from earthloom.jobs.products.areas import area_unit

if TYPE_CHECKING:
    import pandas as pd

_INK, _QUIET, _RULE = "#1b222c", "#606a78", "#cdd2d9"
_WIDTH_IN, _PANEL_IN, _TOP_IN, _FOOT_IN, _GAP_IN, _DPI = 8.0, 1.5, 0.85, 0.4, 0.38, 120
_MOST_PANELS = 8
_SEEN = 0.9
"""Moments that know less than this share of what the best one knows are drawn hollow: areas there are too small."""
_PALE, _PALE_FILL = (
    0.75,
    "#d5dae0",
)  # a colour of that relative luminance or more is not seen on white: it is drawn grey


def series_png(table: pd.DataFrame, classes: Sequence[ClassInfo], title: str) -> bytes:
    """Draw a series as PNG: a panel for each class in the colour of the legend, with an axis of its own from 0 on.

    On one axis the class that fills the area would press all others flat. Lines leave out what is drawn hollow: a date
    under cloud must not look like a change.

    Args:
        table: `series_table`; of several cadences the dates are drawn as points, and composites of each cadence as lines.
            Classes that never occur are left out; of more than eight the largest are drawn.
        classes: colours and order of the legend.
        title: first line: area and product.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    most = table.groupby("class")["area_m2"].max() if len(table) else {}
    largest = sorted(
        (entry for entry in classes if most.get(entry.name, 0)), key=lambda entry: (-most[entry.name], entry.value)
    )
    drawn = [entry for entry in classes if entry in largest[:_MOST_PANELS]]
    n = max(1, len(drawn))
    unit = area_unit(float(table["area_m2"].max()) if len(table) else 0.0)
    height_in = _TOP_IN + n * _PANEL_IN + (n - 1) * _GAP_IN + _FOOT_IN
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own style must not change bytes
        figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        top = 1 - _TOP_IN / height_in
        axes: Any = None
        for number, entry in enumerate(drawn):
            bottom = top - (_PANEL_IN + number * (_PANEL_IN + _GAP_IN)) / height_in
            axes = figure.add_axes((0.085, bottom, 0.885, _PANEL_IN / height_in), sharex=axes)
            _panel(axes, table, entry, unit, is_last=number == n - 1)
        figure.text(0.02, 1 - 0.3 / height_in, title, fontsize=12, fontweight="bold", color=_INK)
        figure.text(0.02, 1 - 0.52 / height_in, _subtitle(table, len(largest) - len(drawn)), fontsize=8.5, color=_QUIET)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _panel(axes: Any, table: pd.DataFrame, entry: ClassInfo, unit: tuple[str, float], *, is_last: bool) -> None:
    rows = table[table["class"] == entry.name]
    name, unit_m2 = unit
    most_m2 = table.groupby("cadence")["valid_m2"].max()
    cadences = list(dict.fromkeys(rows["cadence"]))
    for cadence in cadences:
        _draw(axes, rows[rows["cadence"] == cadence], entry, cadence, cadences, unit_m2, float(most_m2[cadence]))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.04)
    axes.set_title(f"{entry.name}, {name}", loc="left", fontsize=9, color=_INK, pad=4)
    axes.tick_params(colors=_QUIET, labelsize=8.5, length=3, labelbottom=is_last)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.locator_params(axis="y", nbins=4)
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)


def _draw(
    axes: Any,
    rows: pd.DataFrame,
    entry: ClassInfo,
    cadence: str,
    cadences: Sequence[str],
    unit_m2: float,
    most_m2: float,
) -> None:
    """One class of one cadence; a composite stands amid its period."""
    import pandas as pd

    start, end = pd.to_datetime(rows["start"]), pd.to_datetime(rows["end"])
    when = start + (end - start) / 2
    areas = rows["area_m2"] / unit_m2
    seen = (rows["valid_m2"] >= _SEEN * most_m2).to_numpy()
    edge, fill = (_QUIET, _PALE_FILL) if _is_pale(entry.color) else (entry.color, entry.color)
    is_main = cadence == cadences[-1]
    if is_main or cadence != DATE:
        axes.plot(when[seen], areas[seen], color=edge, linewidth=1.8, linestyle="-" if is_main else ":", zorder=3)
    style = {
        "linestyle": "none", "marker": "o", "markersize": 5.5 if is_main else 3, "markeredgecolor": edge,
        "markeredgewidth": 1.2, "zorder": 4, "clip_on": False,
    }  # fmt: skip
    axes.plot(when[seen], areas[seen], markerfacecolor=fill, **style)
    axes.plot(when[~seen], areas[~seen], markerfacecolor="white", **style)


def _subtitle(table: pd.DataFrame, n_left_out: int) -> str:
    """Explains points, lines and hollow points, and counts the classes that are not drawn."""
    if not len(table):
        return "no date yet"
    cadences = list(dict.fromkeys(table["cadence"]))
    moments = table.drop_duplicates(["cadence", "period"])
    parts = []
    for cadence in cadences:
        n = int((moments["cadence"] == cadence).sum())
        parts.append(f"{n} date{'s' * (n != 1)}" if cadence == DATE else f"{n} composites, one a {cadence}")
    most_m2 = moments.groupby("cadence")["valid_m2"].transform("max")
    hollow = bool((moments["valid_m2"] < _SEEN * most_m2).any())
    parts += ["hollow: less than 90 % of the area was seen"] * hollow
    return "  ·  ".join([*parts, *[f"{n_left_out} smaller classes are in the table only"] * (n_left_out > 0)])


def _is_pale(color: str) -> bool:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > _PALE
