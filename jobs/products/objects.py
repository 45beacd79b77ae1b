"""Objects as a product: tables of their boxes, a COG of how likely a centre is at each pixel, counts, and the picture.

Shards keep their objects as rows; boxes that overlap are merged here, over the whole scene and in one order, so that the
tables have the same bytes however the scene was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products import quicklook
from earthloom.jobs.products.backdrop import BACKDROP, backdrop, backdrop_part
from earthloom.jobs.products.legend import Legend, colors, labels
from earthloom.jobs.products.object_tables import FLATGEOBUF, PARQUET, flatgeobuf, geoparquet, object_frame
from earthloom.jobs.products.product import Raster, StageProduct, cog_asset, file_asset
from earthloom.jobs.products.quicklook import PICTURE_PX
from earthloom.jobs.products.stac_item import AssetInfo, BandInfo
from earthloom.jobs.products.statistics import Counted, band_statistics
from earthloom.models.cards.card import ObjectRule
from earthloom.models.inference.boxes import OBJECT, Found, corners, merge
from earthloom.models.inference.objects import BlockObjects, within
from earthloom.models.inference.stack import Stack
from earthloom.tiling.counting import BandSum, count
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.pyramid import Pyramid
from earthloom.tiling.writing.zarr_sink import Layer

HEAT = "heat"
"""Name of the layer, and of its asset."""
OBJECTS = "objects"
"""Name of the rows in a shard, and of the asset."""

_MEANING = "Probability that the centre of an object is here, of the likeliest class"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsProduct(StageProduct):
    """Boxes of objects, and the heat that they are peaks of."""

    name: str
    """Stem of its files."""
    grid: Grid
    legend: Legend
    rule: ObjectRule
    scene_id: str
    key: str
    shard_px: int
    scale: int = 1
    """Pixels of the grid per pixel of the scene and side."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of its TIFF."""
    stage: int = 0
    """Number of the stage that makes it."""

    @property
    def rasters(self) -> tuple[Raster, ...]:
        profile = CogProfile(
            grid=self.grid,
            descriptions=(f"{self.legend.name} heat",),
            scales=(CONFIDENCE_SCALE,),
            dataset_tags=self.tags,
        )
        return (Raster(file=f"{self.name}-{HEAT}.tif", layers=(HEAT,), profile=profile),)

    @property
    def layers(self) -> tuple[Layer, ...]:
        return (Layer(name=HEAT, attributes={"long_name": _MEANING, "scale_factor": CONFIDENCE_SCALE, "units": "1"}),)

    def stored(self, made: BlockObjects) -> dict[str, NDArray[Any]]:
        return {HEAT: made.heat}

    def rows(self, made: BlockObjects, part: Window, source: Stack) -> Mapping[str, bytes]:
        return {
            BACKDROP: backdrop_part(source, part, self._pyramid, self._pyramid.level_within(PICTURE_PX), self.scale),
            OBJECTS: within(made.found, part).tobytes(),
        }

    @property
    def _pyramid(self) -> Pyramid:
        return Pyramid(height=self.grid.height, width=self.grid.width, shard_px=self.shard_px)

    def count(self, pixels: Mapping[str, NDArray[Any]], shard: Window) -> Counted:
        return Counted(sums={HEAT: count(pixels[HEAT], NODATA)})

    def sums(self, counted: Counted) -> Mapping[str, BandSum]:
        return {HEAT: counted.sums[HEAT]}

    def nodata_px(self, counted: Counted) -> int:
        return counted.sums[HEAT].nodata

    def counts(self, counted: Counted) -> Mapping[str, int]:
        found = self._found(counted)
        return {name: int((found["class"] == value).sum()) for value, name in labels(self.legend).items()}

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        frame = object_frame(
            self._found(counted), self.grid, classes=labels(self.legend), scene_id=self.scene_id, key=self.key,
            shard_px=self.shard_px,
        )  # fmt: skip
        table, features = self._sidecar_names
        return {table: geoparquet(frame), features: flatgeobuf(frame, self.name)}

    @property
    def _sidecar_names(self) -> tuple[str, str]:
        return f"{self.name}.parquet", f"{self.name}.fgb"

    def assets(self, counted: Counted) -> list[AssetInfo]:
        (heat,), statistics = self.rasters, band_statistics(counted.sums[HEAT])
        statistics.pop("stddev", None)
        band = BandInfo(
            name=HEAT, description=_MEANING, data_type="uint8", nodata=NODATA, unit="1", scale=CONFIDENCE_SCALE,
            statistics=statistics,
        )  # fmt: skip
        table, features = self._sidecar_names
        return [
            cog_asset(heat, HEAT, "Probability of a centre", [band]),
            file_asset(OBJECTS, table, PARQUET, "Objects as GeoParquet"),
            file_asset("flatgeobuf", features, FLATGEOBUF, "Objects as FlatGeobuf"),
        ]

    def picture(
        self, layer: Callable[[str], NDArray[Any]], counted: Counted, title: str, pixel_m: tuple[float, float]
    ) -> bytes:
        found, heat, palette = self._found(counted), layer(HEAT), colors(self.legend)
        boxes, level = corners(found), self._pyramid.level_within(PICTURE_PX)
        behind = backdrop(counted.tables.get(BACKDROP, b""), self._pyramid, level)
        if self.grid.transform[0] < 0:  # the picture is north up, whichever way the rows run
            boxes[:, [0, 2]], behind = self.grid.width - boxes[:, [2, 0]], behind[:, :, ::-1]
        if self.grid.transform[4] > 0:
            boxes[:, [1, 3]], behind = self.grid.height - boxes[:, [3, 1]], behind[:, ::-1]
        boxes /= [self.grid.width / heat.shape[1], self.grid.height / heat.shape[0]] * 2
        counts = self.counts(counted)
        lines = [(palette[value], name, f"{counts[name]:,}", "") for value, name in labels(self.legend).items()]
        return quicklook.objects_png(
            behind, heat != NODATA, boxes, [palette[int(value)] for value in found["class"]], lines=lines, title=title,
            subtitle=f"{self.legend.title or self.legend.label}  ·  {len(found):,} objects", pixel_m=pixel_m,
        )  # fmt: skip

    def _found(self, counted: Counted) -> Found:
        return _merged(counted.tables.get(OBJECTS, b""), self.rule)


@lru_cache(maxsize=4)
def _merged(rows: bytes, rule: ObjectRule) -> Found:
    """Objects of all shards; publishing asks for them several times."""
    return merge(np.frombuffer(rows, OBJECT), rule.merge_iou)
