"""The peers of case `monitors`, in their own environment: `python monitors_peer.py SERIES.npz ROUNDS`, JSON on stdout.

Calls what their documentation names and nothing else. Runs outside the project: imports nothing of it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Way = Callable[[], list[int] | None]
"""Returns the number of the date of each pixel's break, -1 for none; or None where breaks are not compared."""
START_DATE, PERIOD_DAYS, SIDE_PX = 92, 16, 100


def main(path: str, rounds: int) -> None:
    with np.load(path) as given:
        values = given["values"]
    dates = np.datetime64("2013-01-01") + PERIOD_DAYS * np.arange(len(values))
    cube = values.reshape(len(values), SIDE_PX, SIDE_PX)
    found: list[dict[str, Any]] = []
    for who, ways in (("zeit-cdts 2.2.0", _zeit), ("nrt 0.3.0", _nrt)):
        try:
            methods = ways(cube, dates)
        except ImportError as error:
            found.append({"who": who, "method": "bfast-monitor", "absent": str(error)})
            continue
        for method, way in methods.items():
            way()  # what is compiled at the first call is not counted
            taken: list[float] = []
            first = None
            for _ in range(rounds):
                started = time.process_time()
                first = way()
                taken.append(time.process_time() - started)
            found.append({"who": who, "method": method, "cpu_s": min(taken), "first": first})
    print(json.dumps(found))


def _zeit(cube: Any, dates: Any) -> dict[str, Way]:
    import pandas as pd
    import zeit

    days = pd.DatetimeIndex(dates)

    def trend() -> None:
        zeit.mann_kendall(cube, method="original", dates=days, n_jobs=1)

    if len(cube) <= START_DATE:
        return {"mann-kendall": trend}

    def bfast() -> list[int]:
        made = zeit.bfast_monitor(
            cube, "2017-01-01", dates=days, start_time=2013.0, frequency=23, n_jobs=1, min_valid=9
        )  # fmt: skip
        return [int(n) for n in np.nan_to_num(made.breakpoint_idx.values.ravel(), nan=-1)]

    def ewmacd() -> None:  # its first event is another thing than ours: one that lasts from the training counts
        zeit.ewmacd(cube, train_end=2017, dates=days, n_jobs=1)

    return {"bfast-monitor": bfast, "ewmacd": ewmacd, "mann-kendall": trend}


def _nrt(cube: Any, dates: Any) -> dict[str, Way]:
    import xarray as xr
    from nrt.monitor.ewma import EWMA
    from nrt.monitor.mosum import MoSum

    if len(cube) <= START_DATE:
        return {}
    data = xr.DataArray(cube, dims=("time", "y", "x"), coords={"time": dates.astype("datetime64[ns]")})
    history, later = data[:START_DATE], data[START_DATE:]

    def watch(monitor: Any, method: str) -> list[int]:
        monitor.fit(history, method=method)
        for array, date in zip(later.values, dates[START_DATE:].astype("datetime64[s]").tolist(), strict=True):
            monitor.monitor(array=array, date=date)
        return [int(n) for n in np.where(monitor.mask.ravel() == 3, 1, -1)]  # 3: a break was confirmed

    def chart() -> None:  # its limits are others by default
        watch(EWMA(trend=False, harmonic_order=2), "OLS")

    return {
        "bfast-monitor": lambda: watch(MoSum(trend=True, harmonic_order=3, h=0.25), "OLS"),
        "bfast-monitor, roc": lambda: watch(MoSum(trend=True, harmonic_order=3, h=0.25), "ROC"),
        "ewmacd": chart,
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
