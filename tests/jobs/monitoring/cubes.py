"""Small committed cubes made from arrays, for tests of whatever is derived from a cube."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.cube import ClassInfo, Cube, Step
from earthloom.tiling.encoding import CONFIDENCE_SCALE
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_cube import encode_times, time_keys
from earthloom.tiling.writing.zarr_sink import Layer

COLORS = ("#8c6d31", "#1f78b4", "#33a02c", "#e31a1c", "#6a3d9a", "#ff7f00")


def make_grid(width: int = 512, height: int = 512, *, crs: str = "EPSG:32718", gsd: float = 30.0) -> Grid:
    """A grid whose corner lies on whole pixels, north up."""
    return Grid(crs=crs, transform=(gsd, 0.0, 500_000.0, 0.0, -gsd, 9_100_000.0), width=width, height=height)


def make_cube(
    store: Store, prefix: str, grid: Grid, shard_px: int, dates: Sequence[datetime.date | str],
    classes: NDArray[np.uint8], confidence: NDArray[np.uint8], names: Sequence[str],
    *, scenes: Sequence[Sequence[str]] | None = None,
) -> Cube:  # fmt: skip
    """Write and commit a cube of class maps.

    Args:
        dates: ascending.
        classes, confidence: (T, h, w) uint8, 255 where there is no data.
        names: of the classes, by value.
        scenes: prefixes of results of each date; made up where not given.
    """
    attributes = {
        "long_name": "class", "flag_values": list(range(len(names))), "flag_meanings": " ".join(names),
    }  # fmt: skip
    layers = (
        Layer(name="classes", attributes=attributes),
        Layer(
            name="confidence",
            attributes={"long_name": "probability of the class", "scale_factor": CONFIDENCE_SCALE, "units": "1"},
        ),
    )
    infos = tuple(ClassInfo(value=n, name=name, color=COLORS[n % len(COLORS)]) for n, name in enumerate(names))
    return make_layers(
        store, prefix, grid, shard_px, dates, {"classes": classes, "confidence": confidence}, layers, infos,
        scenes=scenes,
    )  # fmt: skip


def make_layers(
    store: Store, prefix: str, grid: Grid, shard_px: int, dates: Sequence[datetime.date | str],
    values: Mapping[str, NDArray[Any]], layers: Sequence[Layer], classes: Sequence[ClassInfo] = (),
    *, scenes: Sequence[Sequence[str]] | None = None,
) -> Cube:  # fmt: skip
    """Write and commit a cube of any layers; `values` are (T, h, w) by the name of the layer."""
    days = [datetime.date.fromisoformat(date) if isinstance(date, str) else date for date in dates]
    assert days == sorted(set(days)), "dates ascend"
    prefixes = scenes or [(f"scenes/{day:%Y%m%d}/{'0' * 64}",) for day in days]
    cube = Cube(
        prefix=prefix, grid=grid, shard_px=shard_px, layers=tuple(layers), classes=tuple(classes), title="made in a test",
        steps=tuple(Step(date=day, scenes=tuple(names)) for day, names in zip(days, prefixes, strict=True)),
    )  # fmt: skip
    for layer in layers:
        assert values[layer.name].shape == (len(days), *grid.shape), "(T, h, w) of the grid"
        for step, pixels in enumerate(values[layer.name]):
            for row, col, window in cube.shards():
                data = cube.layout.encode_shard(layer.name, pixels[window.slices(grid.window)])
                if data is not None:
                    store.put(f"{prefix}/{cube.layout.shard_key(layer.name, step, row, col)}", data)
    for number, key in enumerate(time_keys(days)):
        store.put(f"{prefix}/{key}", encode_times(days, number))
    for key, data in cube.metadata().items():
        store.put(f"{prefix}/{key}", data)
    return cube
