"""Random points in the classes of published maps, for people to say what is really there.

The design is stratified random sampling with the map's classes as strata, as Olofsson et al. (2014, Remote Sensing of
Environment 148, 42-57, section 5.1) recommend for accuracy and area: every class gets at least some points, and the rest go
by area. Within a class each piece of ground of equal area is equally likely, in any CRS. The same maps and seed give the same
points. Knows nothing of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import pixel_areas_m2
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd

POINTS, STRATA = "points", "strata"
"""Layers of the GeoPackage."""
REFERENCE = "reference"
"""Column of the points that a person fills in."""

_STRIP_ROWS = 512  # a row of Zarr chunks, so that none is decoded twice
_FIELDS = np.dtype([("wait", "f8"), ("map", "i4"), ("row", "i4"), ("col", "i4"), ("confidence", "u1")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Points to be interpreted, and what they stand for."""

    points: gpd.GeoDataFrame
    """`id` from 1, in an order that tells nothing · `map` · `date` · `map_value`, `map_class` · `confidence` · `row`, `col` ·
    `reference`, empty · geometry in longitude and latitude, the middle of a pixel."""
    strata: pd.DataFrame
    """`value` · `class` · `mapped_m2`, true area of the class in all maps · `points`."""


def draw_sample(store: Store, maps: Sequence[ClassMap], *, points: int, least: int, seed: int) -> Sample:
    """Draw points at random within each class of the maps.

    Args:
        store: on OUT.
        maps: maps of one legend; ground that lies in two of them counts twice.
        points: how many in all, unless `least` of each class are more.
        least: of each class that is mapped.
        seed: seed of the drawing.

    Raises:
        ConfigError: if the maps have unlike classes, hold no data, or fewer points are asked for than classes need.
    """
    legend = maps[0].classes
    if other := next((one for one in maps if one.classes != legend), None):
        raise ConfigError(f"{maps[0].name} and {other.name} have other classes; a sample is of maps of one legend")
    if points < 1 or least < 2:
        raise ConfigError(f"`points={points}` and `least={least}`: give at least 1 point, and 2 in each class")
    area_m2 = np.zeros(256)
    first = [np.empty(0, _FIELDS) for _ in legend]
    for number, one in enumerate(maps):
        for window in _strips(one):
            classes, confidence = one.read(store, window)
            weight = pixel_areas_m2(one.grid, window)
            area_m2 += np.bincount(classes.ravel(), weights=weight.ravel(), minlength=256)
            wait = _waits(seed, one, window) / weight  # exponential clocks: those that ring first are drawn by area
            for place, entry in enumerate(legend):
                drawn = _first(classes == entry.value, wait, window, number, confidence, points)
                first[place] = _earliest(np.concatenate([first[place], drawn]), points)
    mapped_m2 = np.array([area_m2[entry.value] for entry in legend])
    if not mapped_m2.sum():
        raise ConfigError("the maps hold no data; there is nothing to sample")
    wanted = allocate(mapped_m2, points, least)
    taken = [_earliest(found, n) for found, n in zip(first, wanted, strict=True)]
    return _sample(maps, taken, mapped_m2, seed)


def allocate(mapped_m2: NDArray[np.float64], points: int, least: int) -> NDArray[np.int64]:
    """Points of each class: `least` of all that are mapped, what is left by area, by largest remainders.

    Raises:
        ConfigError: if `least` of each class are more than `points`.
    """
    there = mapped_m2 > 0
    left = points - least * int(there.sum())
    if left < 0:
        raise ConfigError(
            f"{there.sum()} classes with at least {least} points each are more than `points={points}`; give "
            f"`points={least * int(there.sum())}` or more, or a smaller `least`"
        )
    share = left * mapped_m2 / mapped_m2.sum()
    found = np.floor(share).astype(np.int64)
    rest = np.argsort(-(share - found), kind="stable")[: left - int(found.sum())]
    found[rest] += 1
    return np.asarray(found + least * there, np.int64)


def _strips(one: ClassMap) -> list[Window]:
    grid = one.grid
    return [
        Window(0, row, grid.width, min(_STRIP_ROWS, grid.height - row)) for row in range(0, grid.height, _STRIP_ROWS)
    ]


def _waits(seed: int, one: ClassMap, window: Window) -> NDArray[np.float64]:
    """A random number for each pixel, exponential with mean 1: a function of the seed, the map and the place alone."""
    name = int.from_bytes(hashlib.sha256(one.made_of.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, name, window.row_off]).exponential(size=window.shape)


def _first(
    where: NDArray[np.bool_], wait: NDArray[np.float64], window: Window, number: int, confidence: NDArray[np.uint8], n: int
) -> NDArray[np.void]:  # fmt: skip
    rows, cols = np.nonzero(where)
    found = np.empty(rows.size, _FIELDS)
    found["wait"], found["map"], found["confidence"] = wait[where], number, confidence[where]
    found["row"], found["col"] = rows + window.row_off, cols + window.col_off
    return _earliest(found, n)


def _earliest(found: NDArray[np.void], n: int) -> NDArray[np.void]:
    return found[np.argsort(found["wait"], kind="stable")[:n]]


def _sample(
    maps: Sequence[ClassMap], taken: Sequence[NDArray[np.void]], mapped_m2: NDArray[np.float64], seed: int
) -> Sample:
    import geopandas as gpd
    import pandas as pd
    from pyproj import Transformer

    legend = maps[0].classes
    frames = []
    for entry, found in zip(legend, taken, strict=True):
        for number in np.unique(found["map"]):
            one, some = maps[number], found[found["map"] == number]
            to_lonlat = Transformer.from_crs(one.grid.crs, "EPSG:4326", always_xy=True)
            x, y = one.grid.affine @ (some["col"] + 0.5, some["row"] + 0.5)
            lon, lat = to_lonlat.transform(x, y)
            frames.append(
                gpd.GeoDataFrame(
                    {
                        "map": one.name, "date": one.days, "map_value": entry.value,
                        "map_class": entry.name, "confidence": np.where(
                            some["confidence"] == NODATA, np.nan, np.round(some["confidence"] * CONFIDENCE_SCALE, 3)
                        ), "row": some["row"], "col": some["col"], REFERENCE: "",
                    },
                    geometry=gpd.points_from_xy(lon, lat), crs="EPSG:4326",
                )
            )  # fmt: skip
    points = pd.concat(frames, ignore_index=True)
    points = points.iloc[np.random.default_rng(seed).permutation(len(points))].reset_index(drop=True)
    points.insert(0, "id", np.arange(1, len(points) + 1))
    strata = pd.DataFrame(
        {
            "value": [entry.value for entry in legend], "class": [entry.name for entry in legend],
            "mapped_m2": np.round(mapped_m2, 3), "points": [len(found) for found in taken],
        }
    )  # fmt: skip
    return Sample(points=points, strata=strata)
