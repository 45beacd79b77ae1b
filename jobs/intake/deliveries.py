"""Which scenes are one acquisition that was delivered more than once, by the naming rules of Landsat and Sentinel-2.

Providers process their archives anew: Landsat in real time and again when the orbit is known, Sentinel-2 with each collection.
The acquisition keeps its place and time in the name, and gets another date of processing or another baseline. Opens nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LANDSAT = re.compile(
    r"(?<![A-Za-z0-9])(L[COTEM]0[1-9]_L[12])[A-Z]{2}_([0-9]{6}_[0-9]{8})_([0-9]{8})_([0-9]{2})_(?:T1|T2|RT)(?![A-Za-z0-9])"
)
"""LC08_L2SP_017039_20200101_20200110_02_T1: sensor and level, path and row and day, day of processing, collection."""
_SENTINEL2 = re.compile(
    r"(?<![A-Za-z0-9])(S2[ABCD]_MSIL[12][AC]_[0-9]{8}T[0-9]{6})_N([0-9]{4})_(R[0-9]{3}_T[0-9]{2}[A-Z]{3})_([0-9]{8}T[0-9]{6})"
)
"""S2A_MSIL2A_20200101T105441_N0500_R051_T31TCJ_20230603T101010: two names that differ in the last part only are two pieces of
one tile, which were received at two stations."""


class Delivery(NamedTuple):
    """What the name of a scene tells."""

    acquisition: str
    processing: tuple[str, ...]
    """The later the greater."""
    piece: str
    """Tells the pieces of one processing apart; empty where there are none."""


def delivery(name: str) -> Delivery | None:
    """What was acquired, and which processing of it this is; None of a name by no such rule."""
    if found := _LANDSAT.search(name):
        level, place, processed, collection = found.groups()
        return Delivery(f"{level}_{place}", (collection, processed), "")
    if found := _SENTINEL2.search(name):
        taken, baseline, place, piece = found.groups()
        return Delivery(f"{taken}_{place}", (baseline,), piece)
    return None
