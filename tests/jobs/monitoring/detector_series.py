"""Reference answers of other programs, and series whose breaks were planted."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent / "data"


Floats = NDArray[np.float64]


def oracle(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found


def floats(values: Any) -> Floats:
    """JSON's null as NaN."""
    return np.array(values, dtype=float)


def romania() -> tuple[dict[str, Any], Floats, Floats, NDArray[np.bool_]]:
    """strucchange's answers; regressors (135, 5), values (135, 5) with 0 where not known."""
    said = oracle("strucchange")
    values = floats(said["values"])
    known = np.isfinite(values)
    return said, floats(said["regressors"]), np.where(known, values, 0), known


def seasons(
    n_px: int = 400, *, seed: int = 1, n_dates: int = 138, fall: float = 0.3, missing: float = 0.25
) -> tuple[Floats, NDArray[np.float32], NDArray[np.int64]]:
    """Times from 2013 on, 16 days apart, values (T, n_px), and the date at which each falls, n_dates for never."""
    draw = np.random.default_rng(seed)
    years = 2013 + np.arange(n_dates) / 23
    values = 0.6 + 0.2 * draw.uniform(0.5, 1, n_px) * np.sin(2 * np.pi * years)[:, None]
    values += 0.03 * draw.standard_normal((n_dates, n_px))
    at = np.where(np.arange(n_px) < n_px // 2, draw.integers(97, n_dates - 8, n_px), n_dates)
    values -= fall * (np.arange(n_dates)[:, None] >= at)
    values[draw.random((n_dates, n_px)) < missing] = np.nan
    return years, values.astype(np.float32), at


def zeit() -> tuple[dict[str, Any], NDArray[np.float32], list[datetime.date]]:
    said = oracle("zeit")
    stored = np.array(said["values_1e-4"])
    values = np.where(stored == -32768, np.nan, stored * 1e-4).astype(np.float32)
    return said, values, [datetime.date.fromisoformat(date) for date in said["dates"]]


def answers(found: Any) -> dict[str, NDArray[Any]]:
    return {name: getattr(found, name) for name in type(found).__slots__}
