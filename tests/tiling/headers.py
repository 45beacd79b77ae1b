"""Headers of files written for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.preflight import Header, Limits, inspect
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef


def asset(path: Path) -> Asset:
    return pin(ObjectRef.parse(str(path)))


def header(path: Path, **limits: Any) -> Header:
    return inspect(asset(path), limits=Limits(**limits))


def ramp(count: int = 1, dtype: str = "uint8", side: int = 300) -> np.ndarray[Any, np.dtype[Any]]:
    """Values of which no corner is constant."""
    return (np.arange(count * side * side).reshape(count, side, side) % 251 + 1).astype(dtype)
