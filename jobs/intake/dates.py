"""When a scene was taken: by the user's word, its STAC item, its name or its tags, and never by a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from earthloom.jobs.intake.name_dates import agreed, date_by_rule, pattern_reader
from earthloom.tiling.errors import ConfigError

if TYPE_CHECKING:
    from earthloom.jobs.intake.options import SceneOptions
    from earthloom.jobs.intake.stac import StacItem
    from earthloom.tiling.reading.preflight import Header
    from earthloom.tiling.scene import DatedBy

_RFC3339 = re.compile(r"^\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.]\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneDate:
    """When a scene was taken, and how that is known."""

    datetime: str | None = None
    """RFC 3339 in UTC."""
    by: DatedBy = None
    notes: tuple[str, ...] = ()

    @property
    def day(self) -> date | None:
        """Day on which it was taken, in UTC; None if that is unknown or assumed."""
        known = self.datetime is not None and self.by not in ("year", "month")
        return datetime.fromisoformat(str(self.datetime)).date() if known else None


@dataclass(frozen=True, slots=True)
class _Claim:
    source: str
    by: DatedBy
    moment: str


def scene_date(
    item: StacItem | None, headers: Sequence[Header], names: Sequence[str], options: SceneOptions
) -> SceneDate:
    """The date by the strongest source that has one: `datetime`, `date_pattern`, the STAC item, the name where it follows its
    provider's rule, the file's TIFFTAG_DATETIME, which is often only when the file was written.

    Whatever says another day is named in the notes.

    Args:
        names: names of the item, the files and their folders.
        options: the user's word.
    """
    notes: list[str] = []
    claims: list[_Claim] = []

    def claim(source: str, by: DatedBy, text: str | None, *, zoned: bool = False) -> None:
        if text is None:
            return
        try:
            moment, assumed = utc(text)
        except ConfigError as error:
            notes.append(f"{source}: {error}")
            return
        if assumed and not zoned and not claims:
            notes.append(f"{source} {text} has no time zone, taken as UTC")
        claims.append(_Claim(source, by, moment))

    claim("`datetime`", "option", options.datetime)
    if options.date_pattern is not None:
        found, several = agreed(names, pattern_reader(options.date_pattern, options.assumed_day))
        if found:
            claim(f"`date_pattern` in {found.evidence}", found.by_pattern, found.moment.isoformat(), zoned=True)
            if found.only and not options.datetime:
                notes.append(
                    f"the name gives the {found.only} only; a day of it is assumed, by `assumed_day={options.assumed_day}`"
                )
        else:
            says = f"several dates: {', '.join(several)}" if several else "no such date"
            notes.append(f"`date_pattern={options.date_pattern}` finds {says} in the name {names[0] if names else ''}")
    claim(item.source if item else "", "item", item.datetime if item else None)
    found, several = agreed(names, date_by_rule)
    if found:
        claim(f"the name {found.evidence}", "name", found.moment.isoformat(), zoned=True)
    elif several and not claims:
        notes.append(f"its names say several dates, and none is taken: {', '.join(several)}")
    tags = list(dict.fromkeys(header.datetime for header in headers if header.datetime))
    claim("TIFFTAG_DATETIME", "tag", tags[0] if tags else None)
    if not claims:
        return SceneDate(notes=(*notes, "unknown date; give `datetime` if it matters"))
    taken = claims[0]
    if taken.by == "tag":
        others = [tag for tag in tags if tag[:10] != tags[0][:10]]
        notes += [f"TIFFTAG_DATETIME {other} of another of its files is not taken" for other in others]
    elif taken.by == "name":
        notes.append(f"taken on {taken.moment[:10]} by {taken.source}")
    notes += [
        f"the date {taken.moment} by {taken.source} is taken, not {other.moment} by {other.source}"
        for other in claims[1:]
        if other.moment[:10] != taken.moment[:10]
    ]
    return SceneDate(datetime=taken.moment, by=taken.by, notes=tuple(notes))


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
