"""Class areas for people: one unit chosen by size, as a rich table. Knows nothing of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from earthloom.tiling.counting import ClassArea

if TYPE_CHECKING:
    from rich.table import Table

_UNITS = (("km²", 1e6, 10e6), ("ha", 1e4, 1e3), ("m²", 1.0, 0.0))
"""(unit, m² in it, from how many m² on it is used)"""


def area_unit(area_m2: float) -> tuple[str, float]:
    """The unit in which this area reads best and its size in m²: km² from 10 km² on, ha from 1000 m² on, else m²."""
    return next((unit, size) for unit, size, least in _UNITS if abs(area_m2) >= least)


def area_text(area_m2: float, unit: tuple[str, float] | None = None) -> str:
    """`1,234 km²`, `56.7 ha`: three significant digits, thousands grouped; in `unit` where one is given."""
    name, size = unit or area_unit(area_m2)
    value = area_m2 / size
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{decimals}f} {name}"


def percent_text(percent: float) -> str:
    """`41.2 %`; a class that is there but rounds to nothing reads `<0.1 %`."""
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def area_table(rows: Sequence[ClassArea], title: str | None = None) -> Table:
    """A rich table of `jobs.products.statistics.class_areas`, all areas in one unit, the valid area last."""
    from rich.markup import escape
    from rich.table import Table

    unit, total_m2 = area_unit(max((row["area_m2"] for row in rows), default=0.0)), sum(row["area_m2"] for row in rows)
    table = Table(title=escape(title) if title else None, title_justify="left")
    table.add_column("class")
    for heading in ("area", "share", "confidence"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"[{row['color']}]■[/] {escape(row['name'])}", area_text(row["area_m2"], unit), percent_text(row["percent"]),
            f"{row['mean_confidence']:.2f}" if "mean_confidence" in row else "-",
        )  # fmt: skip
    table.add_section()
    table.add_row("valid area", area_text(total_m2, unit), "100.0 %" if total_m2 else "0.0 %", "", style="bold")
    return table
