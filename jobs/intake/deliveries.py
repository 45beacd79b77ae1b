"""Which scenes are one acquisition that was delivered more than once, by the naming rules of Landsat and Sentinel-2.

Providers process their archives anew: Landsat in real time and again when the orbit is known, Sentinel-2 with each collection.
The acquisition keeps its place and time in the name, and gets another date of processing or another baseline. Opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_LANDSAT = re.compile(
    r"(?<![A-Za-z0-9])(L[COTEM]0[1-9]_L[12])[A-Z]{2}_([0-9]{6}_[0-9]{8})_([0-9]{8})_([0-9]{2})_(?:T1|T2|RT)(?![A-Za-z0-9])"
)
"""LC08_L2SP_017039_20200101_20200110_02_T1: sensor and level, path and row and day, day of processing, collection."""
_SENTINEL2 = re.compile(
    r"(?<![A-Za-z0-9])(S2[ABCD]_MSIL[12][AC]_[0-9]{8}T[0-9]{6})_N([0-9]{4})_(R[0-9]{3}_T[0-9]{2}[A-Z]{3})_[0-9]{8}T[0-9]{6}"
)
"""S2A_MSIL2A_20200101T105441_N0500_R051_T31TCJ_20230603T101010: two names that differ in the last part only are two pieces of
one tile, which were received at two stations."""


def acquisition(name: str) -> tuple[str, tuple[str, ...]] | None:
    """What was acquired, and which processing of it this is, the later the greater; None of a name by no such rule."""
    if found := _LANDSAT.search(name):
        level, place, processed, collection = found.groups()
        return f"{level}_{place}", (collection, processed)
    if found := _SENTINEL2.search(name):
        taken, baseline, place = found.groups()
        return f"{taken}_{place}", (baseline,)
    return None


def delivered_again(names: Iterable[str]) -> Mapping[str, str]:
    """Of each name whose acquisition has a later processing among the names, one that has the latest."""
    known = {name: found for name in names if (found := acquisition(name))}
    latest: dict[str, tuple[tuple[str, ...], str]] = {}
    for name, (what, processing) in sorted(known.items()):
        latest[what] = max(latest.get(what, (processing, name)), (processing, name))
    return {
        name: latest[what][1] for name, (what, processing) in known.items() if processing < latest[what][0]
    }  # fmt: skip
