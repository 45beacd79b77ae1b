"""Labels as a product: a class map of one pixel per chip, and a table with the probability of every class.

Shards keep their chips as rows, of which the table is made here, in the order of rows and columns, so that it has the same
bytes however the scene was cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.products.legend import labels
from earthloom.jobs.products.object_tables import PARQUET, geoparquet, label_frame
from earthloom.jobs.products.product import file_asset
from earthloom.jobs.products.stac_item import AssetInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.models.inference.labels import BlockLabels
from earthloom.models.inference.stack import Stack
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.window import Window

CHIPS = "chips"
"""Name of the rows in a shard, and of the asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsProduct(ClassMapProduct):
    """The class of each chip, its confidence, and what the network says of all classes."""

    core_px: int
    """Side of a chip's core, in pixels of the grid that the network sees."""
    scene_id: str
    key: str

    def rows(self, made: Any, part: Window, source: Stack) -> Mapping[str, bytes]:
        return {CHIPS: _rows(made, part).tobytes()}

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        frame = label_frame(
            _in_order(counted.tables.get(CHIPS, b""), len(self.legend.classes)), self.grid, classes=labels(self.legend),
            scene_id=self.scene_id, key=self.key,
        )  # fmt: skip
        return {**ClassMapProduct.sidecars(self, counted), f"{self.name}.parquet": geoparquet(frame)}

    def assets(self, counted: Counted) -> list[AssetInfo]:
        classes, *others = ClassMapProduct.assets(self, counted)
        return [
            replace(classes, title="Class of each chip"),
            *others,
            file_asset(
                CHIPS, f"{self.name}.parquet", PARQUET, "Chips with the probability of every class, as GeoParquet"
            ),
        ]


def row_type(n_classes: int) -> np.dtype[np.void]:
    """One chip: row and column of its pixel in the result, its class, and the probability of each class."""
    return np.dtype([("row", "<i4"), ("col", "<i4"), ("class", "<i4"), ("probabilities", "<f4", (n_classes,))])


def _rows(made: BlockLabels, part: Window) -> NDArray[np.void]:
    """The decided chips of a shard. `part` is in pixels of the result."""
    here = made.over(part.zoom(made.core_px) & made.window)
    rows, cols = np.nonzero(here.classes != NODATA)
    found = np.zeros(len(rows), row_type(len(made.probabilities)))
    found["row"], found["col"] = rows + part.row_off, cols + part.col_off
    found["class"] = here.classes[rows, cols]
    found["probabilities"] = here.probabilities[:, rows, cols].T
    return found


@lru_cache(maxsize=4)
def _in_order(data: bytes, n_classes: int) -> NDArray[np.void]:
    """Rows of all shards, by row and column."""
    found = np.frombuffer(data, row_type(n_classes))
    return found[np.lexsort((found["col"], found["row"]))]
