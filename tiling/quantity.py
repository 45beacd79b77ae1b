"""What the value of a band means once it is scaled."""

from __future__ import annotations

from typing import Literal, get_args

Quantity = Literal["toa_reflectance", "boa_reflectance", "reflectance", "unit", "dn"]
"""Reflectance at the top or bottom of the atmosphere (or unsaid which), a share of the dtype's range (0-1), or raw
digital numbers."""

QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
