"""The plot of a series: the area of each class over time. The same table gives the same bytes.

Knows nothing of files.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from earthloom.jobs.monitoring.cube import ClassInfo
from earthloom.jobs.monitoring.series import DATE
from earthloom.jobs.products.areas import area_unit

if TYPE_CHECKING:
    import pandas as pd

_INK, _QUIET, _RULE = "#1b222c", "#606a78", "#cdd2d9"
_WIDTH_IN, _HEIGHT_IN, _DPI = 8.0, 4.2, 120
_SEEN = 0.9
"""Moments that know less than this share of what the best one knows are drawn hollow: areas there are too small."""
_PALE, _PALE_FILL = (
    0.75,
    "#d5dae0",
)  # a colour of that relative luminance or more is not seen on white: it is drawn grey


def series_png(table: pd.DataFrame, classes: Sequence[ClassInfo], title: str) -> bytes:
    """Draw a series as PNG: a line per class in the colour of the legend, areas in one unit.

    Lines leave out what is drawn hollow: a date under cloud must not look like a change.

    Args:
        table: `series_table`; of several cadences the dates are drawn as points, and composites of each cadence as lines.
            Classes that never occur are left out.
        classes: colours and order of the legend.
        title: first line: area and product.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own style must not change bytes
        figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.09, 0.11, 0.69, 0.74))
        unit, unit_m2 = area_unit(float(table["area_m2"].max()) if len(table) else 0.0)
        most_m2 = table.groupby("cadence")["valid_m2"].max() if len(table) else {}
        cadences = list(dict.fromkeys(table["cadence"]))
        for one in classes:
            rows = table[table["class"] == one.name]
            if rows["px"].sum():
                for cadence in cadences:
                    _draw(axes, rows[rows["cadence"] == cadence], one, cadence, cadences, unit_m2, most_m2[cadence])
        _frame(axes, unit)
        figure.text(0.09, 0.935, title, fontsize=12, fontweight="bold", color=_INK)
        figure.text(0.09, 0.885, _subtitle(table), fontsize=8.5, color=_QUIET)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(
    axes: Any, rows: pd.DataFrame, one: ClassInfo, cadence: str, cadences: Sequence[str], unit_m2: float, most_m2: float
) -> None:
    """One class of one cadence; a composite stands amid its period."""
    import pandas as pd

    start, end = pd.to_datetime(rows["start"]), pd.to_datetime(rows["end"])
    when = start + (end - start) / 2
    areas = rows["area_m2"] / unit_m2
    seen = (rows["valid_m2"] >= _SEEN * most_m2).to_numpy()
    edge, fill = (_QUIET, _PALE_FILL) if _is_pale(one.color) else (one.color, one.color)
    is_main = cadence == cadences[-1]
    label = one.name if is_main else None
    if is_main or len(cadences) > 2:
        axes.plot(when[seen], areas[seen], color=edge, linewidth=1.8, linestyle="-" if is_main else ":", zorder=3)
    size = 6 if is_main else 3.5
    style = {"linestyle": "none", "marker": "o", "markersize": size, "markeredgecolor": edge, "markeredgewidth": 1.2,
             "zorder": 4, "clip_on": False}  # fmt: skip
    axes.plot(when[seen], areas[seen], markerfacecolor=fill, label=label, **style)
    axes.plot(when[~seen], areas[~seen], markerfacecolor="white", label=None if seen.any() else label, **style)


def _frame(axes: Any, unit: str) -> None:
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit, color=_QUIET, fontsize=9, rotation=0, ha="right", va="bottom")
    axes.yaxis.set_label_coords(-0.01, 1.01)
    axes.tick_params(colors=_QUIET, labelsize=9, length=3)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=9, labelcolor=_INK)


def _subtitle(table: pd.DataFrame) -> str:
    """What points and lines are, and what a hollow point means where there is one."""
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
    return "  ·  ".join([*parts, *["hollow: less than 90 % of the area was seen"] * hollow])


def _is_pale(color: str) -> bool:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > _PALE
