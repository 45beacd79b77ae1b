"""What the value of a band means once it is scaled, and which of its values mean nothing. Words only: imports nothing."""

from __future__ import annotations

from typing import Literal, get_args

Quantity = Literal[
    "toa_reflectance", "boa_reflectance", "reflectance", "unit", "dn", "backscatter", "backscatter_db"
]  # fmt: skip
"""Reflectance at the top or bottom of the atmosphere (or unsaid which), a share of the dtype's range (0-1), raw
digital numbers, or the radar's backscatter as power or in decibels."""

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

NodataIn = Literal["any", "all"]
"""Whether a pixel is nodata where any band of its file holds the nodata value, or only where all of them do."""
