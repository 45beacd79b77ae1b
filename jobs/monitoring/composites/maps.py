"""One class map below OUT, whoever made it: a date of a cube, a composite, or the result of a scene. A value that travels.

What compares, counts or zones maps asks for windows of their stored values, and need not know which of these they are.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.cube import ClassInfo, Cube
from earthloom.jobs.records.canonical import canonical
from earthloom.jobs.records.names import CLASSES, CONFIDENCE, DATA
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import open_array


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap:
    """A class map and its confidence, as they are stored."""

    name: str
    """Name for people and for folders: `2020-07-01`, `2020`, or a scene's id."""
    start: datetime.date | None
    """First day that it stands for; None where nobody knows."""
    end: datetime.date | None
    """Its last day."""
    made_of: str
    """Shared by maps of equal pixels only."""
    grid: Grid
    shard_px: int
    classes: tuple[ClassInfo, ...]
    trust: str = "probability of the class"
    """The meaning of its confidence, from 0 to 1, in words."""
    sources: tuple[str, ...] = ()
    """Prefixes below OUT of the published results that it is made of."""
    cube: Cube | None = None
    """The cube that it is a date of, without the scenes of its steps; None for a published result."""
    step: int = 0
    """Position of the date in the cube."""
    prefix: str = ""
    """Prefix of the published result, below OUT."""

    @property
    def days(self) -> str:
        """Its day for people, or its first and last one; empty where nobody knows."""
        if self.start is None:
            return ""
        return str(self.start) if self.start == self.end else f"{self.start} to {self.end}"

    def read(self, store: Store, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(classes, confidence) of a window of the grid, (h, w) uint8 each; 255 where there is no data.

        Raises:
            TilingError: if the window reaches beyond the grid.
            StorageError: if it cannot be read.
        """
        if self.cube is not None:
            classes, confidence = (
                self.cube.read(store, layer, window, [self.step])[0] for layer in (CLASSES, CONFIDENCE)
            )
            return classes, confidence
        rows, cols = window.slices(self.grid.window)
        source = store.zarr(f"{self.prefix}/{DATA}", read_only=True)
        classes, confidence = (np.asarray(open_array(source, 0, layer)[rows, cols]) for layer in (CLASSES, CONFIDENCE))
        return classes, confidence


def map_of_step(cube: Cube, step: int) -> ClassMap:
    """The map of one date of a cube.

    Raises:
        ConfigError: if the cube holds an image.
    """
    if not cube.classes:
        raise ConfigError(f"{cube.prefix} holds an image and no classes: {', '.join(one.name for one in cube.layers)}")
    at = cube.steps[step]
    lean = replace(
        cube, steps=tuple(replace(one, scenes=(), masks=()) for one in cube.steps)
    )  # it travels with every task
    return ClassMap(
        name=at.date.isoformat(), start=at.date, end=at.date, made_of=canonical(at.to_json()).decode(),
        sources=at.scenes, grid=cube.grid, shard_px=cube.shard_px, classes=cube.classes, cube=lean, step=step,
    )  # fmt: skip


def map_of_result(
    store: Store, prefix: str, document: Mapping[str, Any], *, name: str, start: datetime.date | None,
    end: datetime.date | None,
) -> ClassMap:  # fmt: skip
    """The map of a published result.

    Args:
        store: on OUT.
        prefix: prefix of the result.
        document: its `result.json`.
        name, start, end: see `ClassMap`.

    Raises:
        ConfigError: if the result is an image.
        PublishError: if its Zarr is not one of ours.
    """
    where = f"{prefix}/{DATA}/zarr.json"
    if not document["class_areas"] and document.get("objects"):
        raise ConfigError(
            f"{prefix} holds objects and no map; they lie there as .fgb and .parquet, which QGIS and GeoPandas open, and "
            "of a detector `earthloom export` writes its boxes to a .json (COCO)"
        )
    if not document["class_areas"]:
        raise ConfigError(f"{prefix} is an image and has no classes")
    try:
        root = json.loads(store.get(where))
        said, nodes = root["attributes"], root["consolidated_metadata"]["metadata"]
        shards = nodes[f"0/{CLASSES}"]["chunk_grid"]["configuration"]["chunk_shape"]
        trust = str(nodes[f"0/{CONFIDENCE}"]["attributes"]["long_name"])
        height, width = said["spatial:shape"]
        grid = Grid(
            crs=said.get("proj:code") or said["proj:wkt2"], transform=tuple(said["spatial:transform"]), width=width,
            height=height,
        )  # fmt: skip
    except MissingObjectError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise PublishError(f"{where} is damaged ({type(error).__name__}: {error}); run `earthloom verify`") from error
    classes = tuple(
        ClassInfo(value=row["value"], name=row["name"], color=row["color"]) for row in document["class_areas"]
    )
    return ClassMap(
        name=name, start=start, end=end, made_of=prefix, sources=(prefix,), grid=grid, shard_px=int(shards[0]),
        classes=classes, trust=trust, prefix=prefix,
    )  # fmt: skip
