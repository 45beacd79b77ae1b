"""The series of a monitored product as a stage of `earthloom monitor`: `series.parquet`, `series.csv` and `series.png`.

They are made from what steps and composites say of themselves, so no pixel is read. `series.json` says of which state they
are, and nothing is written where that is the state already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from earthloom.jobs.monitoring.composites.periods import Period, parse_period
from earthloom.jobs.monitoring.composites.rules import parse_rule
from earthloom.jobs.monitoring.composites.stage import read_composites
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.cube.marks import read_sum
from earthloom.jobs.monitoring.series.plot import series_png
from earthloom.jobs.monitoring.series.series import DATE, Moment, series_table, table_csv, table_parquet
from earthloom.jobs.monitoring.stage import Monitored, Stage
from earthloom.jobs.products.statistics import class_areas
from earthloom.jobs.publish.files import committed_document
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.tiling.errors import MissingObjectError, PublishError
from earthloom.tiling.storage.store import Store

SERIES = "series"
SERIES_VERSION = 1
"""Raised when the bytes of a series may change."""

_AT_ONCE = 16


def finish_series(store: Store, monitored: Monitored) -> Mapping[str, Any]:
    """Write table, CSV and plot unless they are of this very state. Of an image there are none.

    Returns:
        How many dates; whether something was written; and `left_out`, the periods whose composite is missing or outdated.
    """
    cube, folder = monitored.cube, monitored.prefix
    if not cube.classes:
        return {}
    composites, left_out = _composites(store, monitored)
    state = digest(
        {
            "version": SERIES_VERSION, "product": monitored.name, "aoi": monitored.area.name,
            "steps": [step.to_json() for step in cube.steps], "composites": [prefix for _, _, prefix in composites],
            "classes": [entry.to_json() for entry in cube.classes],
        }
    )  # fmt: skip
    names = {kind: f"{folder}/{SERIES}.{kind}" for kind in ("parquet", "csv", "png")}
    if _is_of(store, folder, state, names):
        return {"dates": len(cube.steps), "written": False, "left_out": left_out}
    table = series_table([*read_steps(store, cube), *_moments(store, composites)])
    files = {
        "parquet": table_parquet(table), "csv": table_csv(table),
        "png": series_png(table, cube.classes, f"{monitored.area.name}: {monitored.name}"),
    }  # fmt: skip
    for kind, data in files.items():
        store.put(names[kind], data)
    sizes = {kind: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for kind, data in files.items()}
    store.put(f"{folder}/{SERIES}.json", canonical({"format": FORMAT, "state": state, "files": sizes}))
    return {"dates": len(cube.steps), "written": True, "left_out": left_out}


SERIES_STAGE = Stage(name=SERIES, plan=lambda _store, _monitored: (), finish=finish_series)


def _is_of(store: Store, folder: str, state: str, names: Mapping[str, str]) -> bool:
    """True if the files are of a state, and there with their sizes: a slower writer may have put its own beside."""
    key = f"{folder}/{SERIES}.json"
    try:
        document = read_document(store.get(key), key)
    except (MissingObjectError, PublishError):
        return False
    if document.get("state") != state:
        return False
    heads = {kind: store.head(name) for kind, name in names.items()}
    return all(head is not None and head.size == document["files"][kind]["size"] for kind, head in heads.items())


def read_steps(store: Store, cube: Cube) -> list[Moment]:
    """The areas of each date of a cube, as the sums of its steps say.

    Raises:
        PublishError: if a sum is damaged.
    """

    def moment(position: int) -> Moment:
        date, tally = cube.steps[position].date, read_sum(store, cube.prefix, position).tally
        if tally is None:
            raise PublishError(f"{cube.prefix}: the sum of step {position} counts no classes; run again")
        return Moment(
            cadence=DATE, period=date.isoformat(), start=date, end=date, areas=tuple(class_areas(tally, cube.legend)),
            nodata_px=tally.nodata,
        )  # fmt: skip

    with ThreadPoolExecutor(_AT_ONCE, "sums") as pool:
        return list(pool.map(moment, range(len(cube.steps))))


def _composites(store: Store, monitored: Monitored) -> tuple[list[tuple[str, Period, str]], list[str]]:
    """(cadence, period, prefix) of the current composites, of several rules of one cadence those of the first; and names of
    the periods whose composite is outdated or missing."""
    made: list[tuple[str, Period, str]] = []
    left_out: list[str] = []
    seen: set[str] = set()
    for table in monitored.product.composites:
        rule, every = parse_rule(table.rule), table.every
        found = None if every in seen else read_composites(store, monitored.prefix, monitored.cube, rule, every)
        if found is None:
            continue
        seen.add(every)
        made += [(every, parse_period(name), str(entry["prefix"])) for name, entry in found.current.items()]
        left_out += found.behind
    return made, left_out


def _moments(store: Store, composites: Sequence[tuple[str, Period, str]]) -> list[Moment]:
    def moment(one: tuple[str, Period, str]) -> Moment:
        every, period, prefix = one
        document = committed_document(store, prefix)
        if document is None:
            raise PublishError(f"{prefix} is named as a composite and is not there; run again")
        return Moment(
            cadence=every, period=period.name, start=period.start, end=period.end,
            areas=tuple(document["class_areas"]), nodata_px=document["nodata_px"],
        )  # fmt: skip

    with ThreadPoolExecutor(_AT_ONCE, "sums") as pool:
        return list(pool.map(moment, composites))
