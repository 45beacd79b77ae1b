"""Composites of many dates: ours against the ways in which numpy, and xarray with dask, do it, in one process.

Processor time of all threads, the least of three rounds in which the ways take turns. flox and numbagg are not installed:
neither is a dependency, and of the two numbagg's median was slower than numpy's where it was measured.
"""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.composite import composites_of
from earthloom.jobs.monitoring.composites.lazy import composite as lazy_composite
from earthloom.jobs.monitoring.composites.median import median
from earthloom.jobs.monitoring.composites.reducers import clear_of, extreme, mode, take
from earthloom.jobs.monitoring.composites.rules import parse_rule
from earthloom.jobs.monitoring.composites.tasks import ReduceTask
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.cubes import make_cube, make_grid, make_layers

_DATES, _BANDS, _SIDE_PX, _CLASSES, _GAPS, _ROUNDS = 12, 4, 1024, 5, 0.4, 3
_NODATA, _NONE = 65535, 255
Array = NDArray[Any]


def composite(folder: Path) -> list[dict[str, Any]]:
    """Composites of 12 dates of 1024² px, 40 % nodata: a median of 4 uint16 bands; best and mode of a class map."""
    image, classes, confidence = _stacks()
    rows = _measured("median", _median_ways(image), image)
    rows += _measured("best by confidence", _best_ways(), (classes, confidence))
    rows += _measured("mode", _mode_ways(), classes)
    return rows + _tasks(folder, image, classes, confidence)


def _stacks() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    shape = (_DATES, _SIDE_PX, _SIDE_PX)
    gaps = rng.random(shape) < _GAPS
    image = rng.integers(1, 10_000, (_BANDS, *shape), dtype=np.uint16)
    image[:, gaps] = _NODATA
    classes, confidence = (rng.integers(0, most, shape, dtype=np.uint8) for most in (_CLASSES, 251))
    classes[gaps] = confidence[gaps] = _NONE
    return image, classes, confidence


def _measured(rule: str, ways: dict[str, Callable[[Any], Array]], given: Any) -> list[dict[str, Any]]:
    """A row per way; ours is the first."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Array] = {}
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            results[name] = way(given)
            taken[name].append(time.process_time() - started)
    ours = next(iter(ways))
    return [
        {
            "rule": rule, "way": name, "CPU s": f"{min(times):.3f}",
            "times ours": f"{min(times) / min(taken[ours]):.1f}",
            "result": "" if name == ours else _compared(results[name], results[ours]),
        }
        for name, times in taken.items()
    ]  # fmt: skip


def _compared(theirs: Array, ours: Array) -> str:
    differing = float((theirs != ours).mean())
    return "equal" if not differing else f"{100 * differing:.3g} % of pixels differ"


def _median_ways(image: Array) -> dict[str, Callable[[Any], Array]]:
    import xarray as xr

    floats = xr.DataArray(image, dims=("band", "time", "y", "x")).chunk(band=1, time=-1, y=512, x=512)

    def ours(stack: Array) -> Array:
        clear = clear_of((band, _NODATA) for band in stack)
        return np.stack([median(band, clear, _NODATA) for band in stack])

    def rounded(made: Array) -> Array:
        return np.where(np.isnan(made), _NODATA, np.rint(made)).astype(np.uint16)

    def nanmedian(stack: Array) -> Array:
        values = np.where(stack == _NODATA, np.nan, stack.astype(np.float32))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of pixels without data
            return rounded(np.nanmedian(values, axis=1))

    def dask(_: Array) -> Array:
        values = floats.astype(np.float32).where(floats != _NODATA)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return rounded(values.median("time", skipna=True).values)

    def middle(ordered: Array, stack: Array) -> Array:
        n = (stack != _NODATA).sum(axis=1)
        low, high = (
            np.take_along_axis(ordered, np.clip(at, 0, _DATES - 1)[:, None], 1)[:, 0]
            for at in ((n - 1) // 2, n // 2)
        )  # fmt: skip
        mean = (low & high) + ((low ^ high) >> 1)
        mean += (low ^ high) & mean & 1
        return np.where(n == 0, _NODATA, mean)

    return {
        "ours: a network of comparisons, on integers": ours,
        "numpy sort of integers, then the middle": lambda stack: middle(np.sort(stack, axis=1), stack),
        "numpy partition into as many orders as are needed": lambda stack: middle(
            np.partition(stack, range(_DATES // 2 + 1), axis=1), stack
        ),
        "numpy nanmedian, float32": nanmedian,
        "xarray and dask, .median(skipna=True), float32": dask,
    }


def _best_ways() -> dict[str, Callable[[Any], Array]]:
    def ours(given: tuple[Array, Array]) -> Array:
        clear = clear_of(((given[0], _NONE), (given[1], _NONE)))
        index = extreme(given[1], clear, range(_DATES))
        return np.stack([take(layer, index, _NONE) for layer in given])

    def numpy(given: tuple[Array, Array]) -> Array:
        score = np.where(given[0] == _NONE, 0, given[1].astype(np.uint16) + 1)
        index = score.argmax(axis=0)[None]
        return np.stack(
            [np.where(score.max(axis=0) == 0, _NONE, np.take_along_axis(layer, index, 0)[0]) for layer in given]
        )

    return {"ours: one date after another": ours, "numpy argmax and take_along_axis": numpy}


def _mode_ways() -> dict[str, Callable[[Any], Array]]:
    def ours(stack: Array) -> Array:
        return mode(stack, clear_of([(stack, _NONE)]), _CLASSES)[0]

    def votes(stack: Array) -> Array:
        n = np.stack([(stack == value).sum(axis=0, dtype=np.uint8) for value in range(_CLASSES)])
        return np.where(n.max(axis=0) == 0, _NONE, n.argmax(axis=0))

    return {
        "ours: runs of sorted classes, with their share": ours,
        f"numpy: a sum for each of {_CLASSES} classes, without": votes,
    }


def _tasks(folder: Path, image: Array, classes: Array, confidence: Array) -> list[dict[str, Any]]:
    """A whole task of a worker, from a cube on a local disk to shards, tiles and marker; and an analyst's lazy composite."""
    import xarray as xr

    store = open_store(ObjectRef.parse(str(folder)))
    grid = make_grid(_SIDE_PX, _SIDE_PX)
    days = [str(datetime.date(2020, 1, 1) + datetime.timedelta(days=30 * n)) for n in range(_DATES)]
    layers = [Layer(name=f"b{n}", dtype="uint16", nodata=_NODATA) for n in range(_BANDS)]
    cubes = {
        "median": make_layers(
            store, "monitors/a/image/0/cube.zarr", grid, _SIDE_PX, days,
            {layer.name: band for layer, band in zip(layers, image, strict=True)}, layers,
        ),
        "mode": make_cube(
            store, "monitors/a/map/0/cube.zarr", grid, _SIDE_PX, days, classes, confidence, [f"c{n}" for n in range(_CLASSES)]
        ),
    }  # fmt: skip
    rows = []
    for rule, cube in cubes.items():
        (made,) = composites_of(
            cube, f"monitors/a/{rule}/0", aoi="a", product=rule, every="year", rule=parse_rule(rule)
        )
        opened = xr.open_zarr((store.ref / cube.prefix).path, mask_and_scale=False)
        task = ReduceTask(composite=made, part=grid.window)
        ways: dict[str, Callable[[], Any]] = {
            f"a worker's task: read, reduce and write {len(cube.layers)} layers and the count": partial(task.do, store),
            "an analyst's `lazy.composite`, computed": partial(_computed, opened, rule),
        }
        rows += [
            {"rule": rule, "way": name, "CPU s": f"{min(_cpu_s(way) for _ in range(_ROUNDS)):.3f}", "times ours": "",
             "result": ""}
            for name, way in ways.items()
        ]  # fmt: skip
    return rows


def _computed(opened: Any, rule: str) -> None:
    lazy_composite(opened, rule).compute()


def _cpu_s(way: Callable[[], Any]) -> float:
    started = time.process_time()
    way()
    return time.process_time() - started
