"""Periods against pandas' calendar, and as a partition of it."""

from __future__ import annotations

import datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.monitoring.composites.periods import (
    CADENCES,
    Cadence,
    by_period,
    most_days,
    parse_period,
    period_of,
)
from earthloom.tiling.errors import ConfigError

days = st.dates(datetime.date(1900, 1, 1), datetime.date(2999, 12, 31))
cadences: Any = st.sampled_from(CADENCES)
DAY = datetime.timedelta(days=1)


@settings(deadline=None)
@given(cadence=cadences, date=days)
def test_every_day_lies_in_one_period_and_neighbours_meet(cadence: Cadence, date: datetime.date) -> None:
    period = period_of(cadence, date)
    assert date in period
    assert (period.end - period.start).days < most_days(cadence)
    assert {period_of(cadence, day) for day in (period.start, period.end)} == {period}
    assert period_of(cadence, period.end + DAY).start == period.end + DAY
    assert parse_period(period.name) == period


@settings(deadline=None)
@given(date=days)
def test_no_name_is_of_two_cadences(date: datetime.date) -> None:
    names = [period_of(cadence, date).name for cadence in CADENCES]
    assert len(set(names)) == len(CADENCES)


@settings(deadline=None)
@given(date=days)
def test_months_seasons_and_years_are_those_of_pandas(date: datetime.date) -> None:
    for cadence, frequency in (
        ("month", "M"),
        ("year", "Y"),
        ("season", "Q-NOV"),
    ):  # quarters of a year that ends with November
        theirs = pd.Period(date, frequency)
        ours = period_of(cadence, date)  # type: ignore[arg-type]
        assert (ours.start, ours.end) == (theirs.start_time.date(), theirs.end_time.date())
        if cadence == "season":
            assert ours.name[:4] == str(theirs.qyear)


@pytest.mark.parametrize(
    ("cadence", "date", "name", "start", "end"),
    [
        ("day", "2020-06-15", "2020-06-15", "2020-06-15", "2020-06-15"),
        ("dekad", "2020-06-10", "2020-06-D1", "2020-06-01", "2020-06-10"),
        ("dekad", "2020-06-11", "2020-06-D2", "2020-06-11", "2020-06-20"),
        ("dekad", "2020-02-29", "2020-02-D3", "2020-02-21", "2020-02-29"),
        ("dekad", "2020-12-31", "2020-12-D3", "2020-12-21", "2020-12-31"),
        ("month", "2021-02-05", "2021-02", "2021-02-01", "2021-02-28"),
        ("season", "2019-12-01", "2020-DJF", "2019-12-01", "2020-02-29"),
        ("season", "2020-02-29", "2020-DJF", "2019-12-01", "2020-02-29"),
        ("season", "2020-03-01", "2020-MAM", "2020-03-01", "2020-05-31"),
        ("season", "2020-11-30", "2020-SON", "2020-09-01", "2020-11-30"),
        ("year", "2020-06-15", "2020", "2020-01-01", "2020-12-31"),
    ],
)
def test_known_periods(cadence: Cadence, date: str, name: str, start: str, end: str) -> None:
    period = period_of(cadence, datetime.date.fromisoformat(date))
    assert (period.name, str(period.start), str(period.end)) == (name, start, end)


def test_dates_are_grouped_in_order_of_time() -> None:
    dates = [
        datetime.date(2020, 1, 31),
        datetime.date(2019, 12, 2),
        datetime.date(2020, 2, 1),
        datetime.date(2020, 6, 1),
    ]
    found = by_period("season", dates)
    assert {period.name: positions for period, positions in found.items()} == {"2020-DJF": (0, 1, 2), "2020-JJA": (3,)}
    assert list(found) == sorted(found)


def test_distance_from_the_middle_is_whole() -> None:
    june = parse_period("2020-06")
    assert [june.half_days_from_middle(datetime.date(2020, 6, day)) for day in (15, 16, 1, 30)] == [1, 1, 29, 29]


@pytest.mark.parametrize(
    "name", ["2020-13", "2020-02-30", "2020-6", "2020-D16", "2020-XYZ", "", "2020-06-D4", "0000", "9999-00"]
)
def test_what_is_no_period_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is not (the name of a period|in the calendar)"):
        parse_period(name)


def test_a_season_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ConfigError, match="beyond the calendar"):
        period_of("season", datetime.date(9999, 12, 31))
