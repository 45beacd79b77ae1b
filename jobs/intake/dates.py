"""When a scene was taken: by the user's word, its STAC item or its tags, and never by a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from earthloom.tiling.errors import ConfigError

if TYPE_CHECKING:
    from earthloom.jobs.intake.stac import StacItem
    from earthloom.tiling.reading.preflight import Header

_RFC3339 = re.compile(r"^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.]\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?$")


def scene_date(item: StacItem | None, headers: Sequence[Header], option: str | None) -> tuple[str | None, list[str]]:
    """When the scene was taken, RFC 3339 in UTC, and notes on how that is known."""
    in_file = next((header.datetime for header in headers if header.datetime), None)
    notes: list[str] = []
    for source, text in (
        ("the STAC item", item.datetime if item else None),
        ("TIFFTAG_DATETIME", in_file),
        ("`datetime`", option),
    ):
        if text is None:
            continue
        try:
            moment, assumed = utc(text)
        except ConfigError as error:
            notes.append(f"{source}: {error}")
            continue
        if assumed:
            notes.append(f"{source} {text} has no time zone, taken as UTC")
        if option is not None and utc(option)[0] != moment:
            notes.append(f"`datetime={option}` is not used: {source} says {text}")
        return moment, notes
    return None, [*notes, "unknown date; give `datetime` if it matters"]


def utc(text: str) -> tuple[str, bool]:
    """An RFC 3339 date or date-time in UTC (`2020-07-31T18:04:00Z`), and whether the zone was assumed.

    Raises:
        ConfigError: if it is neither.
    """
    try:
        if not _RFC3339.match(text):
            raise ValueError
        moment = datetime.fromisoformat(text.upper())
        assumed = moment.tzinfo is None
        moment = moment.replace(tzinfo=UTC) if assumed else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigError(f"{text[:40]!r} is not a date such as 2020-07-31 or 2020-07-31T18:04:00Z") from None
    return moment.isoformat().replace("+00:00", "Z"), assumed
