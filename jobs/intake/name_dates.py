"""When a scene was taken, as far as names say it: by a provider's own naming rule, or by a pattern that the user gives.

Only names that follow a rule as a whole are believed: a number of eight digits in any other name is not a date. Opens
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from earthloom.tiling.errors import ConfigError

if TYPE_CHECKING:
    from earthloom.tiling.scene import DatedBy

_START, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_RULES = (
    # Landsat Collections 1 and 2, scenes and ARD tiles: LC08_L2SP_017039_20200101_20200110_02_T1
    (r"L[COTEM]0[1-9]_(?:[A-Z0-9]{2,4}_)?[0-9]{6}_([0-9]{8})(?![0-9])", "%Y%m%d"),
    # Landsat before collections: LC80170392013105LGN00, year and day of the year
    (r"L[COTEM][1-8][0-9]{6}([0-9]{7})[A-Z]{3}[0-9]{2}", "%Y%j"),
    # Sentinel-2 products, granules and bands, and the items of Earth Search
    (r"S2[ABCD]_MSIL[12][AC]_([0-9]{8}T[0-9]{6})_", "%Y%m%dT%H%M%S"),
    (r"S2[ABCD]_(?:OPER|USER)_.*_V([0-9]{8}T[0-9]{6})_", "%Y%m%dT%H%M%S"),
    (r"(?:L[12][AC]_)?T[0-9]{2}[A-Z]{3}_([0-9]{8}T[0-9]{6})(?=_|$)", "%Y%m%dT%H%M%S"),
    (r"S2[ABCD]_(?:T?[0-9]{1,2}[A-Z]{3}_)([0-9]{8})(?![0-9])", "%Y%m%d"),
    # PlanetScope: 20200101_101010_1034_3B_AnalyticMS_SR, with hundredths of a second or without
    (r"([0-9]{8}_[0-9]{6})_(?:[0-9]{2}_)?[0-9a-f]{4}(?=_|$)", "%Y%m%d_%H%M%S"),
    # MODIS and VIIRS: MOD09GA.A2020001.h08v05.061; HLS: HLS.S30.T11SKA.2020001T183921.v2.0
    (r"(?:MOD|MYD|MCD|VNP|VJ1|VJ2)[0-9]{2}[A-Z0-9]{1,3}\.A([0-9]{7})(?![0-9])", "%Y%j"),
    (r"HLS\.[LS]30\.T[0-9]{2}[A-Z]{3}\.([0-9]{7}T[0-9]{6})", "%Y%jT%H%M%S"),
    # NAIP, by quarter quad and day, as in m_3710001_ne_14_060_20180724
    (r"(?i:m)_[0-9]{7}_(?i:ne|nw|se|sw)_[0-9]{2}_(?:h|[0-9.]{1,3})_([0-9]{8})(?![0-9])", "%Y%m%d"),
)
_COMPILED = tuple((re.compile(_START + rule), form) for rule, form in _RULES)

_DIRECTIVES = {
    "Y": "[0-9]{4}", "m": "[0-9]{2}", "d": "[0-9]{2}", "j": "[0-9]{3}", "H": "[0-9]{2}", "M": "[0-9]{2}", "S": "[0-9]{2}",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDate:
    """A date that a name says."""

    moment: datetime
    """Time in UTC, as the rules say, without a zone of its own; midnight if the name gives the day only."""
    evidence: str
    """The part of the name that says it."""
    only: Literal["year", "month"] | None = None
    """What the name gives where it gives no day: the day is then the user's assumption."""

    @property
    def by_pattern(self) -> DatedBy:
        """How a date is known that was found by the user's pattern."""
        return self.only or "option"


Reader = Callable[[str], NamedDate | None]


def date_by_rule(text: str) -> NamedDate | None:
    """When the product of this name was taken, if the name follows the naming rule of Landsat, Sentinel-2, PlanetScope,
    MODIS, VIIRS, HLS or NAIP."""
    for rule, form in _COMPILED:
        if (found := rule.search(text)) and (date := _date(found[1], form, found[0].rstrip("_"))):
            return date
    return None


def pattern_reader(pattern: str, assumed_day: str | None = None) -> Reader:
    """A function that finds a date of this form in a name: `%Y%m%d`, `scene_%Y-%m-%d_%H%M`, `*_%Y%j`.

    The words are those of strptime: %Y, %m, %d, %j (day of the year), %H, %M, %S, %% and `*` for anything. The first place
    of a name that has the form counts; digits beside it are no part of another number.

    Args:
        assumed_day: which day stands for all that a name does not say: `07-01` where it gives the year only, `15` where it
            gives year and month.

    Raises:
        ConfigError: if the pattern does not give a day and none is assumed, or gives one and one is, or has another word.
    """
    parts, form, words = [], "", []
    for piece in re.findall(r"%.|\*|[^%*]+|%$", pattern, re.DOTALL):
        if piece == "*":
            parts.append(".*?")
        elif piece == "%%":
            parts.append("%")
        elif piece.startswith("%"):
            if piece[1:] not in _DIRECTIVES or piece in words:
                raise _bad_pattern(pattern, f"{piece} is said twice" if piece in words else f"{piece} is no word of it")
            words.append(piece)
            parts.append(f"({_DIRECTIVES[piece[1:]]})")
            form += f"{piece} "
        else:
            parts.append(re.escape(piece))
    only = _known_part(pattern, words, assumed_day)
    assumed = f" {assumed_day}" if only else ""
    form += {"year": "%m-%d", "month": "%d", None: ""}[only]
    expression = re.compile(f"(?<![0-9]){''.join(parts)}(?![0-9])")

    def read(text: str) -> NamedDate | None:
        for found in expression.finditer(text):
            if date := _date(" ".join(found.groups()) + assumed, form.strip(), found[0]):
                return replace(date, only=only)
        return None

    return read


def _known_part(pattern: str, words: Sequence[str], assumed_day: str | None) -> Literal["year", "month"] | None:
    """What names give of their dates where they give no day; None where they give it.

    Raises:
        ConfigError: if an assumed day is missing, needless, or not in every year or month.
    """
    if "%Y" in words and ("%j" in words or {"%m", "%d"} <= {*words}):
        if assumed_day is not None:
            raise ConfigError(f"`assumed_day={assumed_day}`: `date_pattern={pattern[:40]}` gives the day; leave it out")
        return None
    if "%Y" not in words or "%d" in words:
        raise _bad_pattern(pattern, "it gives no day")
    only: Literal["year", "month"] = "month" if "%m" in words else "year"
    form, example, before = ("%d", "15", "2001-02-") if only == "month" else ("%m-%d", "07-01", "2001-")
    if assumed_day is None:
        raise ConfigError(
            f"`date_pattern={pattern[:40]}` gives the {only} only; say which day stands for it, as in `assumed_day={example}`: "
            f"items then tell that day and the whole {only}"
        )
    try:
        if len(assumed_day) != len(example):
            raise ValueError
        datetime.strptime(before + assumed_day, "%Y-%m-%d")
    except ValueError:
        raise ConfigError(
            f"`assumed_day={assumed_day[:20]}` is no day that every {only} has, of the form {form} as in {example}"
        ) from None
    return only


def agreed(texts: Iterable[str], read: Reader) -> tuple[NamedDate | None, tuple[str, ...]]:
    """The date that several names say, the most exact one; None, and what they say, if they say different days."""
    found = [date for text in texts if (date := read(text))]
    if len({date.moment.date() for date in found}) > 1:
        return None, tuple(dict.fromkeys(f"{date.evidence} ({date.moment.date()})" for date in found))
    return max(found, key=lambda date: date.moment.time(), default=None), ()


def _date(text: str, form: str, evidence: str) -> NamedDate | None:
    try:
        return NamedDate(moment=datetime.strptime(text, form), evidence=evidence)
    except ValueError:  # digits that are no date
        return None


def _bad_pattern(pattern: str, why: str) -> ConfigError:
    return ConfigError(
        f"`date_pattern={pattern[:40]}`: {why}; write the date as names have it, by %Y with %m and %d or %j, and %H, %M, %S: "
        "`date_pattern=%Y%m%d`"
    )
