"""Footprints as a product: a class map of the pixels that they cover, and tables of the polygons with class and probability.

Shards keep the footprints whose middle they hold as rows, and their outlines behind one another; the tables are made here, in
the order of the file of polygons, so that they have the same bytes however the scene was cut.
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
from earthloom.jobs.products.object_tables import FLATGEOBUF, PARQUET, flatgeobuf, footprint_frame, geoparquet
from earthloom.jobs.products.product import file_asset
from earthloom.jobs.products.stac_item import AssetInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.models.inference.footprints import BlockFootprints
from earthloom.models.inference.stack import Stack
from earthloom.tiling.window import Window

FOOTPRINTS = "footprints"
"""Name of the rows in a shard, and of the asset."""
OUTLINES = "outlines"
"""Name of their outlines in a shard: WKB, in pixels of the result, in the order of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintsProduct(ClassMapProduct):
    """The class of each footprint, its confidence, and what the network says of all classes."""

    scene_id: str
    key: str

    def rows(self, made: Any, part: Window, source: Stack) -> Mapping[str, bytes]:  # noqa: ARG002 - they need no scene
        return _rows(made.over(part))

    def counts(self, counted: Counted) -> Mapping[str, int]:
        found, _ = self._found(counted)
        return {name: int((found["class"] == value).sum()) for value, name in labels(self.legend).items()}

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        found, outlines = self._found(counted)
        frame = footprint_frame(
            found, outlines, self.grid, classes=labels(self.legend), scene_id=self.scene_id, key=self.key
        )
        made = {f"{self.name}.parquet": geoparquet(frame), f"{self.name}.fgb": flatgeobuf(frame, self.name)}
        return {**ClassMapProduct.sidecars(self, counted), **made}

    def assets(self, counted: Counted) -> list[AssetInfo]:
        classes, *others = ClassMapProduct.assets(self, counted)
        return [
            replace(classes, title="Class of each footprint"),
            *others,
            file_asset(FOOTPRINTS, f"{self.name}.parquet", PARQUET, "Footprints as GeoParquet"),
            file_asset("flatgeobuf", f"{self.name}.fgb", FLATGEOBUF, "Footprints as FlatGeobuf"),
        ]

    def _found(self, counted: Counted) -> tuple[NDArray[np.void], NDArray[np.object_]]:
        return _in_order(
            counted.tables.get(FOOTPRINTS, b""), counted.tables.get(OUTLINES, b""), len(self.legend.classes)
        )


def row_type(n_classes: int) -> np.dtype[np.void]:
    """One footprint: its number in the file, the pixel in its middle, its class, the bytes of its outline, and the
    probability of each class."""
    return np.dtype(
        [
            ("number", "<i8"), ("row", "<i4"), ("col", "<i4"), ("class", "<i4"), ("outline_bytes", "<i4"),
            ("probabilities", "<f4", (n_classes,)),
        ]
    )  # fmt: skip


def _rows(made: BlockFootprints) -> Mapping[str, bytes]:
    import shapely

    places = made.places
    outlines: list[bytes] = [shapely.to_wkb(each, byte_order=1) for each in places.outlines]
    found = np.zeros(len(places), row_type(made.probabilities.shape[1]))
    found["number"], found["row"], found["col"] = places.numbers, places.rows, places.cols
    found["class"] = made.probabilities.argmax(axis=1)
    found["outline_bytes"] = [len(outline) for outline in outlines]
    found["probabilities"] = made.probabilities
    return {FOOTPRINTS: found.tobytes(), OUTLINES: b"".join(outlines)}


@lru_cache(maxsize=2)
def _in_order(rows: bytes, outlines: bytes, n_classes: int) -> tuple[NDArray[np.void], NDArray[np.object_]]:
    """Rows of all shards, in the order of the file of polygons; publishing asks for them several times."""
    import shapely

    found = np.frombuffer(rows, row_type(n_classes))
    ends = np.cumsum(found["outline_bytes"])
    cut = [outlines[end - size : end] for end, size in zip(ends.tolist(), found["outline_bytes"].tolist(), strict=True)]
    order = np.argsort(found["number"], kind="stable")
    return found[order], np.asarray(shapely.from_wkb(np.array(cut, object)), object)[order]
