"""Monitors over time: ours against zeit-cdts and nrt on the same series, one thread each.

The peers run in an environment of their own, whose Python EARTHLOOM_MONITOR_PEERS names; one that cannot be imported there is
named as absent. They are told apart from ours by nothing but their answers: neither is read or imported by the project.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.trends.detectors.anomalies import Anomalies
from earthloom.jobs.monitoring.trends.detectors.bfast_monitor import bfast_monitor
from earthloom.jobs.monitoring.trends.detectors.cusum import Shift, cusum
from earthloom.jobs.monitoring.trends.detectors.ewmacd import ewmacd
from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall

SIDE_PX, N_DATES, START_DATE, FALL, MISSING = 100, 138, 92, 0.3, 0.25
"""Four years of history and two that are watched, 16 days apart; a third of the pixels fall in them."""
_ROUNDS = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
Array = NDArray[Any]


def monitors(folder: Path) -> list[dict[str, Any]]:
    """Monitors over time on 10,000 pixels: px per CPU second of one thread, breaks found and false ones."""
    rows = []
    for missing in (0.0, MISSING):
        values, at = series(missing)
        np.savez(folder / "series.npz", values=values, at=at)
        named = f"{N_DATES} dates, {missing:.0%} missing"
        found = [_judged("ours", method, *_timed(way, values), at) for method, way in _ours(values).items()]
        found += _peers(folder / "series.npz", at)
        rows += [{"series": named, **row} for row in sorted(found, key=lambda row: list(_METHODS).index(row["method"]))]
    yearly = values[::17][:8]
    np.savez(folder / "series.npz", values=yearly, at=at)
    taken, _ = _timed(lambda given: mann_kendall(given, np.arange(8.0)), yearly)
    rows.append({"series": "8 dates", **_row("ours", "mann-kendall", taken)})
    rows += [
        {"series": "8 dates", **row} for row in _peers(folder / "series.npz", at) if row["method"] == "mann-kendall"
    ]
    return [row | {"times the fastest peer": _lead(row, rows)} for row in rows]


def _lead(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Of ours, how many times as fast as the fastest peer at the same method and series; empty where there is none."""
    speeds = [
        _number(other)
        for other in rows
        if other["way"] != "ours"
        and other["px per CPU s"]
        and (other["series"], other["method"]) == (row["series"], row["method"])
    ]
    return f"{_number(row) / max(speeds):.2f}" if row["way"] == "ours" and speeds else ""


def _number(row: dict[str, Any]) -> float:
    return float(row["px per CPU s"].replace(",", ""))


def breaks(_: Path) -> list[dict[str, Any]]:
    """Breaks of 0.3 in two years of a seasonal series with noise of 0.03, 25 % missing: how many, how soon, how many false."""
    values, at = series(MISSING)
    years = 2013 + np.arange(len(values)) / 23
    ways: dict[tuple[str, str], Callable[[], Anomalies | Shift]] = {}
    for level in (0.05, 0.01, 0.001):
        for trend in (True, False):
            ways["bfast-monitor", f"{'trend and season' if trend else 'season'}, level {level:g}"] = partial(
                bfast_monitor, values, years, 2017.0, trend=trend, level=level
            )
    for limit in (3.0, 5.0):
        ways["ewmacd", f"control limit {limit:g}"] = partial(ewmacd, values, years, 2017.0, control_limit=limit)
    ways["cusum", "season, level 0.05"] = partial(cusum, values, years, order=2)
    rows = []
    for (method, how), way in ways.items():
        first = way().first.astype(int)
        right = (at < N_DATES) & (first >= at)
        seen = [int(np.isfinite(values[at[px] : first[px] + 1, px]).sum()) for px in np.flatnonzero(right)]
        rows.append(
            {
                "method": method, "how": how, "found": f"{right.sum() / (at < N_DATES).sum():.1%}",
                "too early": f"{((first >= 0) & (first < at))[at < N_DATES].mean():.1%}",
                "false": f"{(first[at == N_DATES] >= 0).mean():.1%}", "observations until found": f"{np.median(seen):.0f}",
            }
        )  # fmt: skip
    return rows


_METHODS = {
    "bfast-monitor": "history as it is", "bfast-monitor, roc": "stable history by the reverse-ordered CUSUM", "ewmacd": "",
    "cusum": "", "mann-kendall": "with Sen's slope",
}  # fmt: skip


def series(missing: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Values (T, P) of a season with noise, and (P,) the date at which each falls by FALL; N_DATES for never."""
    rng, n_px = np.random.default_rng(0), SIDE_PX**2
    years = np.arange(N_DATES) / 23
    values = 0.6 + 0.2 * rng.uniform(0.5, 1, n_px) * np.sin(2 * np.pi * years)[:, None]
    values += 0.03 * rng.standard_normal((N_DATES, n_px))
    at = np.where(rng.random(n_px) < 0.3, rng.integers(START_DATE + 3, N_DATES - 5, n_px), N_DATES)
    values -= FALL * (np.arange(N_DATES)[:, None] >= at)
    values[rng.random(values.shape) < missing] = np.nan
    return values.astype(np.float32), at


def _ours(values: Array) -> dict[str, Callable[[Array], Any]]:
    years = 2013 + np.arange(len(values)) / 23
    return {
        "bfast-monitor": lambda given: bfast_monitor(given, years, 2017.0, history="all"),
        "bfast-monitor, roc": lambda given: bfast_monitor(given, years, 2017.0),
        "ewmacd": lambda given: ewmacd(given, years, 2017.0),
        "cusum": lambda given: cusum(given, years, order=2),
        "mann-kendall": lambda given: mann_kendall(given, years),
    }


def _timed(way: Callable[[Array], Any], values: Array) -> tuple[float, Any]:
    """CPU seconds, the least of some rounds, and the answer. Nothing here has threads of its own."""
    taken, found = [], None
    for _ in range(_ROUNDS):
        started = time.process_time()
        found = way(values)
        taken.append(time.process_time() - started)
    return min(taken), found


def _judged(who: str, method: str, taken: float, found: Any, at: Array) -> dict[str, Any]:
    first = found.first if isinstance(found, Anomalies | Shift) else None
    return _row(who, method, taken) | (_score(first, at) if first is not None else {"found": "", "false": ""})


def _row(who: str, method: str, taken: float) -> dict[str, Any]:
    return {
        "method": method, "how": _METHODS[method], "way": who, "px per CPU s": f"{SIDE_PX**2 / taken:,.0f}", "found": "",
        "false": "",
    }  # fmt: skip


def _score(first: Array, at: Array) -> dict[str, str]:
    """Of the pixels that fall, those with a break at any date; and of the others."""
    broken = at < N_DATES
    return {"found": f"{(first[broken] >= 0).mean():.1%}", "false": f"{(first[~broken] >= 0).mean():.1%}"}


def _peers(path: Path, at: Array) -> list[dict[str, Any]]:
    python = os.environ.get("EARTHLOOM_MONITOR_PEERS", "")
    if not python:
        return [
            {"method": "bfast-monitor", "how": "", "way": f"{name}: absent", "px per CPU s": "", "found": "", "false": ""}
            for name in ("zeit-cdts", "nrt")
        ]  # fmt: skip
    script = Path(__file__).with_name("monitors_peer.py")
    done = subprocess.run(
        [python, "-W", "ignore", "-P", str(script), str(path), str(_ROUNDS)], capture_output=True, text=True, check=True,
        env=os.environ | dict.fromkeys(_THREADS, "1"),
    )  # fmt: skip
    rows = []
    for entry in json.loads(done.stdout.splitlines()[-1]):
        if "absent" in entry:
            rows.append(
                {
                    "method": entry["method"], "how": "", "way": f"{entry['who']}: absent, {entry['absent']}",
                    "px per CPU s": "", "found": "", "false": "",
                }
            )  # fmt: skip
            continue
        row = _row(entry["who"], entry["method"], entry["cpu_s"])
        rows.append(row | (_score(np.array(entry["first"]), at) if entry["first"] else {}))
    return rows
