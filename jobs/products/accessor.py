"""`.earthloom` on xarray data: a map drawn with its own legend, and the true areas of its classes.

Reads only what the data say of themselves (`flag_values`, `flag_meanings`, `flag_colors`, `scale_factor`, `_FillValue`, the
CRS), so it works on what `earthloom.open` returns, on parts of it, and on files that were saved from it. Importing this
module registers it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from earthloom.jobs.products.lettering import Color, rgb
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_PX = 2048  # of a side on screen; more is thinned out, as no screen shows it
_STRETCH = (2, 98)  # percentiles
_LEAST_COSINE = 0.1  # nearer to a pole a map would become a line
_ROUNDED = 1e-6  # of a pixel: coordinates are sums, and rounded
_UNEVEN = 1e-2  # of a pixel: other programs may round them more


@dataclass(frozen=True, slots=True)
class _Flag:
    value: int
    name: str
    color: Color


@xr.register_dataarray_accessor("earthloom")  # type: ignore[no-untyped-call]  # xarray has no types for it
class EarthloomAccessor:
    """What Earthloom can do with one layer. Reach it as `ds.classes.earthloom`."""

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    def plot(self, ax: Axes | None = None, *, legend: bool = True) -> Axes:
        """Draw a map: classes in their colours with a legend, other layers in grey by their decoded values.

        Args:
            ax: axes to draw on; None makes a figure.
            legend: whether to draw a legend of the classes that occur, or a colour bar.

        Returns:
            The axes.

        Raises:
            ConfigError: if the data have more than two dimensions, so that one date must be chosen first.
        """
        import matplotlib.pyplot as plt

        data = _laid_out(self._data)
        if data.ndim != 2:
            raise ConfigError(
                f"{data.name} has the dimensions {', '.join(map(str, data.dims))}; choose one date with .isel(time=…)"
            )
        a, _, c, _, e, f = _transform(data)
        (left, right), (bottom, top) = (
            sorted((edge, edge + step * data.sizes[name])) for name, edge, step in (("x", c, a), ("y", f, e))
        )
        steps = [max(1, math.ceil(size / _MOST_PX)) for size in data.shape]
        pixels = np.asarray(data[:: steps[0], :: steps[1]].values)
        axes = ax if ax is not None else plt.subplots(figsize=(9, 7), layout="constrained")[1]
        pixels = pixels[:: -1 if e > 0 else 1, :: -1 if a < 0 else 1]  # north up, whichever way the rows run
        extent = (left, right, bottom, top)
        flags = _flags(data)
        geographic = bool(data.rio.crs and data.rio.crs.is_geographic)
        if flags:
            axes.imshow(_painted(pixels, flags), extent=extent, origin="upper", interpolation="nearest")
            if legend:
                _name_classes(axes, [flag for flag in flags if (pixels == flag.value).any()])
        else:
            values = _decoded(data, pixels)
            known = values[np.isfinite(values)]
            low, high = np.percentile(known, _STRETCH) if known.size else (0.0, 1.0)
            drawn = axes.imshow(values, extent=extent, origin="upper", cmap="gray", vmin=low, vmax=high)
            if legend:
                axes.figure.colorbar(drawn, ax=axes, label=str(data.attrs.get("long_name", data.name)), shrink=0.8)
        if geographic:  # a degree of longitude is shorter on the ground than one of latitude
            axes.set_aspect(1 / max(math.cos(math.radians((bottom + top) / 2)), _LEAST_COSINE))
        axes.set_title(_title(data))
        axes.set_xlabel("longitude" if geographic else "easting")
        axes.set_ylabel("latitude" if geographic else "northing")
        axes.ticklabel_format(useOffset=False, style="plain")
        axes.locator_params(axis="x", nbins=5)  # long numbers side by side
        return axes

    def areas(self) -> pd.DataFrame:
        """True area of each class on the ellipsoid, computed block by block; equals `result.class_areas` for a whole result.

        Returns:
            One row for each class, and for each date if there are several: `time` · `value` · `class` · `px` · `area_m2` ·
            `percent` of the area with data.

        Raises:
            ConfigError: if the data have no classes or no CRS.
        """
        import pandas as pd

        data, flags = _laid_out(self._data), _flags(self._data)
        if not flags:
            raise ConfigError(
                f"{data.name} has no classes, for lack of the attribute flag_values; areas are those of `classes`"
            )
        grid = _grid(data)
        rows = []
        for date in data if "time" in data.dims else [data]:
            px, area_m2 = _counted(date, grid)
            total_m2 = sum(area_m2[flag.value] for flag in flags)
            when = {"time": date.time.values} if "time" in date.coords else {}
            rows += [
                {
                    **when, "value": flag.value, "class": flag.name, "px": int(px[flag.value]),
                    "area_m2": round(float(area_m2[flag.value]), 3),
                    "percent": round(100 * area_m2[flag.value] / total_m2, 6) if total_m2 else 0.0,
                }
                for flag in flags
            ]  # fmt: skip
        return pd.DataFrame(rows)


def _counted(data: xr.DataArray, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels and square metres by value. One block of dask is in memory at a time, a whole array without dask."""
    px, area_m2 = np.zeros(256, np.int64), np.zeros(256)
    rows, cols = ((size,) for size in data.shape) if data.chunks is None else data.chunks
    top = 0
    for height in rows:
        left = 0
        for width in cols:
            window = Window(left, top, width, height)
            values = _stored(np.asarray(data[top : top + height, left : left + width].values)).ravel()
            px += np.bincount(values, minlength=256)
            area_m2 += np.bincount(values, weights=pixel_areas_m2(grid, window).ravel(), minlength=256)
            left += width
        top += height
    return px, area_m2


def _laid_out(data: xr.DataArray) -> xr.DataArray:
    """The same data with the dimensions (time, y, x) or (y, x), in this order.

    Raises:
        ConfigError: if it has others.
    """
    if not {"x", "y"} <= set(data.dims) <= {"time", "x", "y"}:
        raise ConfigError(
            f"{data.name} has the dimensions {', '.join(map(str, data.dims)) or 'none'}; a map has y, x and perhaps time: "
            "select one of any other with .isel(…), and a row or column with a slice, .isel(y=slice(0, 1))"
        )
    return data.transpose(..., "y", "x")


def _grid(data: xr.DataArray) -> Grid:
    crs = data.rio.crs
    if crs is None:
        raise ConfigError(f"{data.name} has no CRS; set it with .rio.write_crs(…)")
    return Grid(
        crs=crs.to_string(), transform=_transform(data), width=data.sizes["x"], height=data.sizes["y"]
    )  # fmt: skip


def _transform(data: xr.DataArray) -> tuple[float, float, float, float, float, float]:
    """Where the pixels lie by their coordinates, as they are after any selection.

    The attribute `GeoTransform`, which rioxarray goes by, stays as it was when every second pixel is taken or the rows are
    turned around. It gives the size of a pixel where there is only one, and the exact size where it agrees.

    Raises:
        ConfigError: if there are no coordinates, or they are not evenly spaced.
    """
    noted_x, noted_y = data.rio.resolution()
    (a, c), (e, f) = _axis(data, "x", noted_x), _axis(data, "y", noted_y)
    return a, 0.0, c, 0.0, e, f


def _axis(data: xr.DataArray, name: str, noted: float) -> tuple[float, float]:
    """Step from pixel to pixel along an axis, and the outer edge of the first one."""
    if name not in data.coords:
        raise ConfigError(f"{data.name} has no coordinate {name}, so nobody knows where its pixels lie")
    stored = data[name].to_numpy()
    centres = stored.astype(np.float64)
    step = noted
    if centres.size > 1:
        steps = np.diff(centres)
        precision = float(np.spacing(np.abs(stored).max()))  # half a metre of a northing in 32 bits
        if not np.allclose(steps, steps.mean(), rtol=_UNEVEN, atol=precision):
            raise ConfigError(
                f"the coordinate {name} of {data.name} goes in steps of {steps.min():g} to {steps.max():g}, so its pixels are "
                f"not all of one size; select with a slice, .isel({name}=slice(…))"
            )
        is_noted = abs(steps.mean() - noted) <= max(_ROUNDED * abs(noted), precision / steps.size)
        step = noted if is_noted else float(steps.mean())
    return step, float(centres[0]) - step / 2


def _flags(data: xr.DataArray) -> list[_Flag]:
    said = data.attrs
    if not {"flag_values", "flag_meanings"} <= set(said):
        return []
    values = np.atleast_1d(said["flag_values"]).tolist()
    colors = str(said.get("flag_colors", "")).split() or ["#808080"] * len(values)
    return [
        _Flag(int(value), name, rgb(color))
        for value, name, color in zip(values, str(said["flag_meanings"]).split(), colors, strict=True)
    ]


def _painted(pixels: NDArray[Any], flags: list[_Flag]) -> NDArray[np.uint8]:
    """(h, w, 4); what is no class is transparent."""
    palette = np.zeros((256, 4), np.uint8)
    for flag in flags:
        palette[flag.value] = (*flag.color, 255)
    palette[NODATA] = 0
    return palette[_stored(pixels)]


def _stored(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Class values as they are stored; xarray has made floats of them, and NaN of nodata, where it was not told not to."""
    if pixels.dtype.kind == "f":
        pixels = np.where(np.isfinite(pixels), pixels, NODATA)
    return pixels.astype(np.uint8)


def _name_classes(axes: Axes, flags: list[_Flag]) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*flag.color), edgecolor="#606060", label=flag.name)
        for flag in flags
    ]
    axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False)


def _decoded(data: xr.DataArray, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """Physical values, NaN where there are none; of data that xarray has decoded already, as they are."""
    values = pixels.astype(np.float64)
    fill = data.attrs.get("_FillValue")
    if fill is not None:
        values[pixels == fill] = np.nan
    return values * float(data.attrs.get("scale_factor", 1.0)) + float(data.attrs.get("add_offset", 0.0))


def _title(data: xr.DataArray) -> str:
    name = str(data.attrs.get("long_name", data.name))
    if "time" in data.coords and data.coords["time"].ndim == 0:
        return f"{name}, {np.datetime_as_string(data.time.values, unit='D')}"
    return name
