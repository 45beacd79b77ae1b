"""When a scene was taken, as far as names say it: by a provider's own naming rule, or by a pattern that the user gives.

Only names that follow a rule as a whole are believed: a number of eight digits in any other name is not a date. Opens
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from earthloom.tiling.errors import ConfigError

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
    """In UTC, as the rules say, without a zone of its own; midnight where the name gives the day only."""
    evidence: str
    """The part of the name that says it."""


Reader = Callable[[str], NamedDate | None]


def date_by_rule(text: str) -> NamedDate | None:
    """When the product of this name was taken, if the name follows the naming rule of Landsat, Sentinel-2, PlanetScope,
    MODIS, VIIRS, HLS or NAIP."""
    for rule, form in _COMPILED:
        if (found := rule.search(text)) and (date := _date(found[1], form, found[0].rstrip("_"))):
            return date
    return None


def pattern_reader(pattern: str) -> Reader:
    """A function that finds a date of this form in a name: `%Y%m%d`, `scene_%Y-%m-%d_%H%M`, `*_%Y%j`.

    The words are those of strptime: %Y, %m, %d, %j (day of the year), %H, %M, %S, %% and `*` for anything. The first place
    of a name that has the form counts; digits beside it are no part of another number.

    Raises:
        ConfigError: if the pattern does not give a day, or has another word.
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
    if "%Y" not in words or not ("%j" in words or {"%m", "%d"} <= {*words}):
        raise _bad_pattern(pattern, "it gives no day")
    expression = re.compile(f"(?<![0-9]){''.join(parts)}(?![0-9])")

    def read(text: str) -> NamedDate | None:
        dates = (_date(" ".join(found.groups()), form.strip(), found[0]) for found in expression.finditer(text))
        return next((date for date in dates if date), None)

    return read


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
