"""Series of areas as tables and as a picture."""

from __future__ import annotations

import datetime
import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.jobs.monitoring.series.plot import series_png
from earthloom.jobs.monitoring.series.series import COLUMNS, DATE, Moment, series_table, table_csv, table_parquet

CLASSES = (
    ClassInfo(value=0, name="land", color="#b59f6b"),
    ClassInfo(value=1, name="water", color="#1f78b4"),
    ClassInfo(value=2, name="cloud", color="#ffffff"),
)
DAY = datetime.date


def moment(cadence: str, period: str, start: DAY, end: DAY, areas: tuple[float, ...]) -> Moment:
    total = sum(areas)
    rows: list[Any] = []
    for one, area in zip(CLASSES, areas, strict=True):
        row = {"value": one.value, "name": one.name, "color": one.color, "pixels": int(area), "area_m2": area * 1e6,
               "percent": round(100 * area / total, 6)}  # fmt: skip
        rows.append(row | ({"mean_confidence": 0.9} if area else {}))
    return Moment(cadence=cadence, period=period, start=start, end=end, areas=tuple(rows), nodata_px=7)


def moments() -> list[Moment]:
    years = [
        moment("year", str(y), DAY(y, 1, 1), DAY(y, 12, 31), (150.0 - y % 5, 60.0 + y % 5, 0.0))
        for y in (2018, 2019, 2020)
    ]
    days = [
        moment(DATE, f"{y}-07-0{d}", DAY(y, 7, d), DAY(y, 7, d), (140.0, 60.0, 10.0 * (d - 1)))
        for y in (2020, 2018, 2019)
        for d in (1, 2)
    ]
    return [*years, *days, moment(DATE, "2019-09-01", DAY(2019, 9, 1), DAY(2019, 9, 1), (50.0, 20.0, 0.0))]


def test_dates_come_first_and_then_composites_in_order_of_time() -> None:
    table = series_table(moments())
    assert tuple(table.columns) == COLUMNS
    periods = list(dict.fromkeys(table["period"]))
    assert periods == [*sorted(periods[:7]), "2018", "2019", "2020"]
    assert set(table["cadence"][:21]) == {DATE}
    assert table["class"].tolist()[:3] == ["land", "water", "cloud"]
    first = table.iloc[2]
    assert (first["area_m2"], first["px"], first["valid_m2"], first["nodata_px"]) == (0.0, 0, 200e6, 7)
    assert np.isnan(first["confidence"])
    assert series_table(list(reversed(moments()))).equals(table)


def test_tables_are_read_back_and_have_one_spelling() -> None:
    table = series_table(moments())
    data = table_parquet(table)
    assert data == table_parquet(series_table(moments()))
    back = pd.read_parquet(io.BytesIO(data))
    assert back["start"].tolist() == table["start"].tolist()  # dates, not text
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    text = pd.read_csv(io.BytesIO(table_csv(table)))
    assert text["start"].tolist() == [str(day) for day in table["start"]]
    np.testing.assert_array_equal(text["area_m2"], table["area_m2"])
    assert table_csv(table).startswith(b"cadence,period,start,end,value,class,area_m2,")
    empty = series_table([])
    assert len(pd.read_parquet(io.BytesIO(table_parquet(empty)))) == 0


def drawn(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def of_color(picture: Any, color: str) -> Any:
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(picture - rgb) <= 2).all(axis=2)


def test_each_class_that_occurs_has_a_panel_in_its_colour_and_cloud_is_seen_on_white() -> None:
    picture = drawn(series_png(series_table(moments()), CLASSES, "lake: landwater"))
    land, water, cloud = (of_color(picture, color) for color in ("#b59f6b", "#1f78b4", "#d5dae0"))
    rows = [np.flatnonzero(found.any(axis=1)) for found in (land, water, cloud)]
    assert all(found.size for found in rows)
    assert rows[0].max() < rows[1].min()
    assert rows[1].max() < rows[2].min()
    dry = series_png(series_table(moments()[:3]), CLASSES, "lake: landwater")
    assert drawn(dry).shape[0] < picture.shape[0]  # two panels


def test_the_same_table_gives_the_same_picture_whatever_the_users_style(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    table = series_table(moments())
    once = series_png(table, CLASSES, "lake: landwater")
    with matplotlib.rc_context({"font.size": 25, "lines.linewidth": 9, "axes.facecolor": "black"}):
        assert series_png(table, CLASSES, "lake: landwater") == once
    assert b"Software" not in once
    assert b"matplotlib" not in once.lower()


def test_no_date_and_many_classes_are_drawn_too() -> None:
    assert drawn(series_png(series_table([]), CLASSES, "lake: landwater")).shape[1] == 960
    many = tuple(ClassInfo(value=i, name=f"c{i}", color="#1f78b4") for i in range(20))
    areas: Any = tuple(
        {
            "value": one.value,
            "name": one.name,
            "color": one.color,
            "pixels": 1,
            "area_m2": 100.0 + one.value,
            "percent": 5.0,
        }
        for one in many
    )
    day = DAY(2020, 7, 1)
    table = series_table([Moment(cadence=DATE, period="2020-07-01", start=day, end=day, areas=areas, nodata_px=0)])
    assert drawn(series_png(table, many, "many")).shape[0] < 2100
