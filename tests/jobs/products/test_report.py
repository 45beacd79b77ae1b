from __future__ import annotations

import io

import pytest
from rich.console import Console

from earthloom.jobs.products.areas import area_table, area_text, percent_text
from earthloom.tiling.counting import ClassArea


def rows(*areas_m2: float) -> list[ClassArea]:
    total = sum(areas_m2)
    return [
        ClassArea(value=i, name=f"class [{i}]", color="#1f6feb", pixels=1, area_m2=area, percent=100 * area / total)
        for i, area in enumerate(areas_m2)
    ]


@pytest.mark.parametrize(
    ("area_m2", "text"),
    [(0.0, "0.00 m²"), (999.4, "999 m²"), (1500, "0.15 ha"), (56_700, "5.67 ha"), (9.9e6, "990 ha"),
     (10e6, "10.0 km²"), (1.2345e9, "1,234 km²")],
)  # fmt: skip
def test_the_unit_follows_the_size(area_m2: float, text: str) -> None:
    assert area_text(area_m2) == text


def test_a_small_share_is_not_called_nothing() -> None:
    assert [percent_text(value) for value in (0, 0.01, 0.05, 41.16, 100)] == [
        "0.0 %", "<0.1 %", "0.1 %", "41.2 %", "100.0 %",
    ]  # fmt: skip


def test_the_table_shows_class_names_as_they_are() -> None:
    buffer = io.StringIO()
    Console(file=buffer, width=100).print(area_table(rows(2e9, 3e4), "scene [bold]"))
    shown = buffer.getvalue()
    assert "class [0]" in shown  # not taken for markup
    assert "scene [bold]" in shown
    assert "2,000 km²" in shown
