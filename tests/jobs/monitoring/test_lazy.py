"""What an analyst computes from an opened cube is what the workers publish, lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from earthloom.jobs.monitoring.composites.lazy import composite
from earthloom.jobs.monitoring.composites.periods import Cadence, by_period
from earthloom.jobs.monitoring.composites.rules import parse_rule, reduce_dates
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.jobs.monitoring.cubes import make_cube, make_grid

xr = pytest.importorskip("xarray")
DATES = ("2019-12-20", "2020-01-05", "2020-02-10", "2020-07-01", "2020-07-21")
GRID = make_grid(520, 60)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """A cube of class maps, its store, and what xarray opens."""
    store = open_store(ObjectRef.parse(str(tmp_path_factory.mktemp("lazy"))))
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (len(DATES), *GRID.shape), dtype=np.uint8)
    confidence = rng.integers(80, 251, classes.shape, dtype=np.uint8)
    gaps = rng.random(classes.shape) < 0.4
    classes[gaps] = confidence[gaps] = 255
    cube = make_cube(store, "c/cube.zarr", GRID, 512, DATES, classes, confidence, ("a", "b", "c"))
    return cube, store, xr.open_zarr((store.ref / cube.prefix).path, mask_and_scale=False, decode_coords="all")


@pytest.mark.parametrize("every", ["month", "season", "year"])
@pytest.mark.parametrize("rule", ["mode", "best", "best:middle", "best:clear", "max:confidence"])
def test_a_lazy_composite_is_the_workers(maps: tuple[Any, Any, Any], rule: str, every: Cadence) -> None:
    cube, store, opened = maps
    made = composite(opened, rule, every)
    assert made.chunks, "nothing is computed yet"
    stacks = {layer.name: cube.read(store, layer.name, GRID.window) for layer in cube.layers}
    dates = [step.date for step in cube.steps]
    clear_px = [int((day != 255).sum()) for day in stacks["classes"]]
    periods = by_period(every, dates)
    assert made.period.values.tolist() == [period.name for period in periods]
    assert [str(day)[:10] for day in made.time.values] == [str(period.start) for period in periods]
    computed = made.compute(scheduler="synchronous")
    for number, (period, positions) in enumerate(periods.items()):
        some = list(positions)
        order = parse_rule(rule).order(period, [dates[n] for n in some], [clear_px[n] for n in some])
        expected = reduce_dates(
            parse_rule(rule), cube.layers, {name: values[some] for name, values in stacks.items()}, order, n_classes=3,
            count_dtype=str(computed["count"].dtype),
        )  # fmt: skip
        for name, pixels in expected.items():
            assert computed[name].dtype == pixels.dtype
            assert np.array_equal(computed[name].values[number], pixels)
    assert computed.classes.attrs["flag_meanings"] == "a b c"
    assert made.chunksizes["y"] == opened.chunksizes["y"]


def test_one_array_of_floats_is_nanmedian() -> None:
    values = np.random.default_rng(1).normal(size=(7, 40, 50)).astype(np.float32)
    values[values > 1] = np.nan
    time = np.array([f"2020-0{n}-01" for n in range(1, 8)], "datetime64[ns]")
    array = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": time}, name="ndvi").chunk(y=16)
    made = composite(array, "median")
    theirs = array.chunk(time=-1).median("time", skipna=True)
    assert np.array_equal(made["ndvi"].values, theirs.values, equal_nan=True)
    assert np.array_equal(made["count"].values, np.isfinite(values).sum(axis=0))


def test_in_memory_and_lazy_are_equal() -> None:
    values = np.random.default_rng(2).integers(0, 9, (4, 5, 6)).astype(np.int16)
    time = np.array(["2020-01-01", "2020-01-05", "2020-01-31", "2020-02-01"], "datetime64[ns]")
    array = xr.DataArray(values, dims=("time", "y", "x"), coords={"time": time}, name="red", attrs={"_FillValue": 0})
    eager, lazy = composite(array, "max:red", "dekad"), composite(array.chunk(y=2), "max:red", "dekad")
    assert not eager.chunks
    assert lazy.compute(scheduler="synchronous").identical(eager)
    assert eager.period.values.tolist() == ["2020-01-D1", "2020-01-D3", "2020-02-D1"]
    assert np.array_equal(eager["red"].values[0], values[:2].max(axis=0))


def test_a_number_that_is_none_is_not_clear_beside_a_nodata_value() -> None:
    values = np.array([[[1, np.nan, np.nan]], [[2, 2, -9999]]], np.float32)
    time = np.array(["2020-01-16", "2020-01-31"], "datetime64[ns]")
    array = xr.DataArray(
        values, dims=("time", "y", "x"), coords={"time": time}, name="red", attrs={"_FillValue": -9999.0}
    )
    made = composite(array, "best:clear", "month")
    assert made["red"].values.tolist() == [[[2, 2, -9999]]], (
        "two pixels are clear on the later date, one on the earlier"
    )


def test_what_cannot_be_is_refused() -> None:
    time = np.array(["2020-01-01"], "datetime64[ns]")
    array = xr.DataArray(np.ones((1, 2, 2), np.int16), dims=("time", "y", "x"), coords={"time": time}, name="red")
    with pytest.raises(ConfigError, match="does not say what is nodata"):
        composite(array, "median")
    with pytest.raises(ConfigError, match="over 'time'"):
        composite(array.isel(time=0), "median")
    with pytest.raises(ConfigError, match="is no cadence"):
        composite(array.astype(np.float32), "median", "week")  # type: ignore[arg-type]
