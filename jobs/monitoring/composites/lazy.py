"""Composites of xarray data as an analyst makes them: the same functions as the workers', lazy where the data are.

Apart from other modules because importing xarray takes time that no worker need spend.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.periods import CADENCES, Cadence, Period, by_period, most_days
from earthloom.jobs.monitoring.composites.rules import COUNT, Rule, parse_rule, reduce_dates
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.writing.zarr_sink import Layer

if TYPE_CHECKING:
    import xarray as xr


def composite(data: xr.Dataset | xr.DataArray, rule: str, every: Cadence | None = None) -> xr.Dataset:
    """Many dates as one, or as one of each period: what `earthloom monitor` publishes for the same rule, pixel for pixel.

    Args:
        data: (time, y, x) layers with their stored values (`mask_and_scale=False`), all of them or one. What is nodata
            comes from `_FillValue`; of floats without it NaN is.
        rule: `median`, `mode`, `best`, `best:middle`, `best:clear`, `max:<layer>`, `min:<layer>`
            (`composites.rules`). `best:clear` counts the clear pixels of all dates at once, the others are lazy.
        every: `day`, `dekad`, `month`, `season` or `year`; None: all dates together.

    Returns:
        The layers in their dtypes, and `count`, the number of clear observations: (y, x), or (time, y, x) with the first
        day of each period that holds a date, and its name as the coordinate `period`.

    Raises:
        ConfigError: if there is no dimension `time`, or the rule means nothing for these layers.
    """
    import xarray as xr

    cube = data.to_dataset(name=data.name or "values") if isinstance(data, xr.DataArray) else data
    layers = [_layer(array) for array in cube.data_vars.values() if "time" in array.dims]
    if not layers:
        raise ConfigError(f"composites are of layers over 'time', and the data have {', '.join(map(str, cube.dims))}")
    if every is not None and every not in CADENCES:
        raise ConfigError(f"'every={every}' is no cadence; give one of {', '.join(CADENCES)}")
    asked = parse_rule(rule)
    asked.check(layers)
    dates = [datetime.date.fromisoformat(str(day)) for day in cube["time"].values.astype("datetime64[D]")]
    cube = cube[[layer.name for layer in layers]]
    clear_px = _clear_px(cube, layers) if asked.by_date else None
    if every is None:
        whole = Period(min(dates), max(dates), "all")
        return _reduced(cube, layers, asked, whole, dates, clear_px, most=len(dates))
    parts, periods = list[xr.Dataset](), list[Period]()
    for period, positions in by_period(every, dates).items():
        some = [dates[position] for position in positions]
        clear = [clear_px[position] for position in positions] if clear_px is not None else None
        part = cube.isel(time=list(positions))
        parts.append(_reduced(part, layers, asked, period, some, clear, most=most_days(every)))
        periods.append(period)
    time = xr.DataArray([np.datetime64(period.start, "ns") for period in periods], dims="time", name="time")
    made = xr.concat(parts, dim=time, combine_attrs="override")
    return made.assign_coords(period=("time", [period.name for period in periods]))


def _layer(array: xr.DataArray) -> Layer:
    nodata = array.attrs.get("_FillValue", array.encoding.get("_FillValue"))
    if nodata is None and array.dtype.kind != "f":
        if array.name not in (CLASSES, CONFIDENCE):
            raise ConfigError(f"{array.name} does not say what is nodata; set its attribute `_FillValue`")
        nodata = NODATA
    return Layer(name=str(array.name), dtype=str(array.dtype), nodata=float("nan" if nodata is None else nodata))


def _reduced(
    cube: xr.Dataset, layers: list[Layer], rule: Rule, period: Period, dates: list[datetime.date],
    clear_px: list[int] | None, *, most: int,
) -> xr.Dataset:  # fmt: skip
    import xarray as xr

    names = [layer.name for layer in layers]
    order = rule.order(period, dates, clear_px)
    n_classes = _n_classes(cube) if rule.kind == "mode" else 0
    count_dtype = "uint8" if most <= np.iinfo(np.uint8).max else "uint16"
    dtypes = [*(layer.dtype for layer in layers), count_dtype]

    def reduce(*stacks: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        shape = stacks[0].shape[:-1]  # xarray puts the core dimension last
        values = {
            name: np.ascontiguousarray(np.moveaxis(stack, -1, 0)).reshape(
                stack.shape[-1], -1, shape[-1] if shape else 1
            )
            for name, stack in zip(names, stacks, strict=True)
        }
        made = reduce_dates(rule, layers, values, order, n_classes=n_classes, count_dtype=count_dtype)
        return tuple(made[name].reshape(shape) for name in (*names, COUNT))

    chunked = cube.chunk(time=-1) if cube.chunks else cube
    made = xr.apply_ufunc(
        reduce, *(chunked[name] for name in names), input_core_dims=[["time"]] * len(names),
        output_core_dims=[[]] * len(dtypes), dask="parallelized", output_dtypes=dtypes,
    )  # fmt: skip
    found = xr.Dataset(dict(zip((*names, COUNT), made, strict=True)), attrs=cube.attrs)
    for layer in layers:
        found[layer.name].attrs = dict(cube[layer.name].attrs)
    if rule.kind == "mode":
        found[CONFIDENCE].attrs |= {"long_name": "share of the clear observations that are of the class"}
        found[CONFIDENCE].attrs |= {"scale_factor": CONFIDENCE_SCALE}
    found[COUNT].attrs = {"long_name": "number of clear observations", "_FillValue": 0}
    return found


def _n_classes(cube: xr.Dataset) -> int:
    values = np.atleast_1d(cube[CLASSES].attrs.get("flag_values", range(NODATA)))
    return int(values.max()) + 1


def _clear_px(cube: xr.Dataset, layers: list[Layer]) -> list[int]:
    """Pixels that hold data on each date, of the layer that holds fewest."""
    import xarray as xr

    counts = []
    for layer in layers:
        values = cube[layer.name]
        clear = values.notnull() if np.isnan(layer.nodata) else values.notnull() & (values != layer.nodata)
        counts.append(clear.sum([dim for dim in clear.dims if dim != "time"]))
    return [int(n) for n in xr.concat(counts, dim="layer").min("layer").values]
