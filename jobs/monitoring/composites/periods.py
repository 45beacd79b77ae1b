"""Periods of the calendar: which one a date lies in, what it is called, and where it begins and ends. Pure.

| cadence | name         | covers                                                                         |
| ------- | ------------ | ------------------------------------------------------------------------------ |
| day     | `2020-06-15` | that day                                                                       |
| dekad   | `2020-06-D2` | days 1 to 10 (D1), 11 to 20 (D2), 21 to the end of the month (D3)              |
| month   | `2020-06`    | the month                                                                      |
| season  | `2020-DJF`   | December of 2019 to February of 2020: the season is of the year in which it ends |
| year    | `2020`       | the year                                                                       |

No name is a name of two cadences, so a name alone is enough (`parse_period`). All dates are days in UTC.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from earthloom.tiling.errors import ConfigError

Cadence: TypeAlias = Literal["day", "dekad", "month", "season", "year"]
CADENCES: tuple[Cadence, ...] = get_args(Cadence)

_SEASONS = ("DJF", "MAM", "JJA", "SON")
_NAMES: dict[Cadence, re.Pattern[str]] = {
    "day": re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII),
    "dekad": re.compile(r"(\d{4})-(\d\d)-D([123])", re.ASCII),
    "month": re.compile(r"(\d{4})-(\d\d)", re.ASCII),
    "season": re.compile(r"(\d{4})-(DJF|MAM|JJA|SON)", re.ASCII),
    "year": re.compile(r"(\d{4})", re.ASCII),
}
_MOST_DAYS: dict[Cadence, int] = {"day": 1, "dekad": 11, "month": 31, "season": 92, "year": 366}


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """Whole days of the calendar; periods of one cadence are ordered by time."""

    start: datetime.date
    end: datetime.date
    """The last day of it."""
    name: str

    def __contains__(self, date: datetime.date) -> bool:
        return self.start <= date <= self.end

    def half_days_from_middle(self, date: datetime.date) -> int:
        """Twice the days between a date and the middle of the period, a whole number whatever its length."""
        return abs((date - self.start).days - (self.end - date).days)


def period_of(cadence: Cadence, date: datetime.date) -> Period:
    """The period in which a date lies.

    Raises:
        ConfigError: if the cadence is none, or the calendar ends before the period does (winter of the year 10000).
    """
    year, month = date.year, date.month
    if cadence == "day":
        return Period(date, date, date.isoformat())
    if cadence == "dekad":
        number = min((date.day - 1) // 10, 2)
        end = date.replace(day=10 * number + 10) if number < 2 else _end_of_month(year, month)
        return Period(date.replace(day=10 * number + 1), end, f"{year:04}-{month:02}-D{number + 1}")
    if cadence == "month":
        return Period(date.replace(day=1), _end_of_month(year, month), f"{year:04}-{month:02}")
    if cadence == "season":
        return _season(year + month // 12, month % 12 // 3)
    if cadence == "year":
        return Period(datetime.date(year, 1, 1), datetime.date(year, 12, 31), f"{year:04}")
    raise ConfigError(f"'every={cadence}' is no cadence; give one of {', '.join(CADENCES)}")


def parse_period(name: str) -> Period:
    """The period of a name, `2020-06-D2`.

    Raises:
        ConfigError: if it is not the name of a period.
    """
    for cadence, pattern in _NAMES.items():
        if found := pattern.fullmatch(name):
            year, *parts = found.groups()
            try:
                if cadence == "season":
                    return _season(int(year), _SEASONS.index(parts[0]))
                month = int(parts[0]) if parts else 1
                day = 1 if len(parts) < 2 else int(parts[1]) if cadence == "day" else 10 * int(parts[1]) - 9
                return period_of(cadence, datetime.date(int(year), month, day))
            except ValueError as error:
                raise ConfigError(f"{name!r} is not in the calendar ({error}); give a period like 2020-06") from error
    raise ConfigError(
        f"{name!r} is not the name of a period; give 2020 for a year, 2020-DJF for a season, 2020-06 for a month, "
        "2020-06-D2 for a dekad or 2020-06-15 for a day"
    )


def by_period(cadence: Cadence, dates: Sequence[datetime.date]) -> dict[Period, tuple[int, ...]]:
    """The periods that hold any of the dates, in order of time, each with the positions of its dates in the sequence."""
    found: dict[Period, list[int]] = {}
    for position, date in enumerate(dates):
        found.setdefault(period_of(cadence, date), []).append(position)
    return {period: tuple(found[period]) for period in sorted(found)}


def most_days(cadence: Cadence) -> int:
    """Days of the longest period of a cadence: no more steps than that can lie in one."""
    return _MOST_DAYS[cadence]


def _season(year: int, number: int) -> Period:
    first = 12 if number == 0 else 3 * number
    try:
        start = datetime.date(year - (number == 0), first, 1)
        return Period(start, _end_of_month(year, 3 * number + 2), f"{year:04}-{_SEASONS[number]}")
    except ValueError as error:
        raise ConfigError(f"{_SEASONS[number]} of the year {year} reaches beyond the calendar ({error})") from error


def _end_of_month(year: int, month: int) -> datetime.date:
    return datetime.date(year, month, calendar.monthrange(year, month)[1])
