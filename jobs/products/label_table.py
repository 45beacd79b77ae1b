"""Labelled chips with their footprint on Earth, as a table: the same input gives the same rows. Knows no model or storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.object_tables import footprints, probability_columns
from earthloom.tiling.grid import Grid, pixel_areas_m2

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


def row_type(n_classes: int) -> np.dtype[np.void]:
    """One chip: row and column of its pixel in the result, its class, and the probability of each class."""
    return np.dtype([("row", "<i4"), ("col", "<i4"), ("class", "<i4"), ("probabilities", "<f4", (n_classes,))])


def label_frame(
    chips: NDArray[np.void], grid: Grid, *, classes: Mapping[int, str], scene_id: str, key: str
) -> GeoDataFrame:
    """One row per decided chip, in the order of `chips`.

    Args:
        chips: (n,) of `row_type`.
        grid: grid of the result, one pixel per chip.
        classes: name by value.
        scene_id, key: of the result.

    Returns:
        geometry (the core as a polygon in longitude and latitude; across the antimeridian longitudes go on beyond 180);
        class; probability of that class; `probability_<name>` of every class, with its value for a name that two have;
        area_m2 on the ellipsoid; row and col of the result's pixel; scene and key.
    """
    from geopandas import GeoDataFrame

    rows, cols = chips["row"].astype(np.float64), chips["col"].astype(np.float64)
    columns: dict[str, object] = {
        "class": [classes[int(value)] for value in chips["class"]],
        **probability_columns(chips["probabilities"], chips["class"], classes),
    }
    columns |= {
        "area_m2": np.round(pixel_areas_m2(grid, grid.window)[chips["row"], chips["col"]], 1),
        "row": chips["row"].astype(np.int32),
        "col": chips["col"].astype(np.int32),
        "scene": [scene_id] * len(chips),
        "key": [key] * len(chips),
    }
    geometry = footprints(grid, np.stack([cols, rows, cols + 1, rows + 1], axis=1))
    return GeoDataFrame(columns, geometry=geometry, crs="OGC:CRS84").astype(
        dict.fromkeys(("class", "scene", "key"), "str")
    )
