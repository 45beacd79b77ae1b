"""A class map as a product: a COG with palette and one of confidence, tables of areas, legends, and the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from numpy.typing import NDArray

from earthloom.jobs.products import quicklook, statistics
from earthloom.jobs.products.legend import Legend, attribute_table, class_tags, colors, flags, pam
from earthloom.jobs.products.product import Raster, StageProduct, cog_asset, file_asset
from earthloom.jobs.products.qgis import class_style, confidence_style
from earthloom.jobs.products.stac_item import AssetInfo, BandInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.models.inference.class_map import BlockMap
from earthloom.tiling.counting import BandSum, ClassArea, Tally
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.zarr_sink import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMapProduct(StageProduct):
    """A class map and its confidence."""

    name: str
    """Stem of its files."""
    grid: Grid
    legend: Legend
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of its TIFFs."""
    meaning: str = "class with the highest probability"
    """What a pixel of the map is."""
    confidence: str = "probability of the class"
    """What a pixel of the confidence is, from 0 to 1."""
    stage: int = 0
    """Number of the stage that makes it, if one does."""

    resampling: ClassVar[str] = "mode"

    @property
    def rasters(self) -> tuple[Raster, ...]:
        classes = CogProfile(
            grid=self.grid, descriptions=(f"{self.legend.name} class",), colormap=colors(self.legend),
            dataset_tags=self.tags, band_tags=(class_tags(self.legend),),
        )  # fmt: skip
        confidence = CogProfile(
            grid=self.grid, descriptions=(self.confidence,), scales=(CONFIDENCE_SCALE,), dataset_tags=self.tags
        )
        return (
            Raster(
                file=f"{self.name}.tif", layers=(CLASSES,), profile=classes, by_mode=True,
                attribute_table=lambda counted: attribute_table(self.legend, self.areas(counted)),
            ),
            Raster(file=f"{self.name}-{CONFIDENCE}.tif", layers=(CONFIDENCE,), profile=confidence),
        )  # fmt: skip

    @property
    def layers(self) -> tuple[Layer, ...]:
        classes = {"long_name": f"{self.legend.name} class", **flags(self.legend.classes)}
        confidence = {"long_name": self.confidence, "scale_factor": CONFIDENCE_SCALE, "units": "1"}
        return Layer(name=CLASSES, attributes=classes), Layer(name=CONFIDENCE, attributes=confidence)

    def stored(self, made: BlockMap) -> dict[str, NDArray[Any]]:
        return {CLASSES: made.classes, CONFIDENCE: made.confidence}

    def count(self, pixels: Mapping[str, NDArray[Any]], shard: Window) -> Counted:
        counted, trust = statistics.count_classes(
            self.grid, shard, pixels[CLASSES], pixels[CONFIDENCE], len(self.legend.classes)
        )
        return Counted(tally=counted, sums={CONFIDENCE: trust})

    def sums(self, counted: Counted) -> Mapping[str, BandSum]:
        return {CLASSES: statistics.band_sum(_tally_of(counted)), CONFIDENCE: counted.sums[CONFIDENCE]}

    def nodata_px(self, counted: Counted) -> int:
        return _tally_of(counted).nodata

    def areas(self, counted: Counted) -> list[ClassArea]:
        return statistics.class_areas(_tally_of(counted), self.legend)

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        style, trust, metadata = self._sidecar_names
        return {
            style: class_style(self.legend), trust: confidence_style(), metadata: pam(self.legend, self.areas(counted)),
        }  # fmt: skip

    @property
    def _sidecar_names(self) -> tuple[str, str, str]:
        """The QGIS styles of the map and of its confidence, and GDAL's metadata file beside the map."""
        return f"{self.name}.qml", f"{self.name}-{CONFIDENCE}.qml", f"{self.name}.tif.aux.xml"

    def assets(self, counted: Counted) -> list[AssetInfo]:
        total, (classes, confidence) = _tally_of(counted), self.rasters
        style, trust, metadata = self._sidecar_names
        xml = partial(file_asset, media_type="application/xml", role="metadata")
        return [
            cog_asset(classes, CLASSES, "Class map", [classes_band(total, _sentence(self.meaning))]),
            cog_asset(confidence, CONFIDENCE, "Confidence", [confidence_band(total, _sentence(self.confidence))]),
            xml("style", style, title="QGIS style"),
            xml("confidence-style", trust, title="QGIS style of the confidence"),
            xml("metadata", metadata, title="Class names for GDAL"),
        ]

    def picture(
        self, layer: Callable[[str], NDArray[Any]], counted: Counted, title: str, pixel_m: tuple[float, float]
    ) -> bytes:
        return quicklook.quicklook_png(
            layer(CLASSES), legend=self.legend, title=title, rows=self.areas(counted), pixel_m=pixel_m
        )


def classes_band(counted: Tally, description: str = "Class with the highest probability") -> BandInfo:
    """The band of the class map, with the statistics that its tally gives."""
    present = [value for value, n in enumerate(counted.pixels) if n]
    statistics = _counts(counted) | ({"minimum": present[0], "maximum": present[-1]} if present else {})
    return BandInfo(name=CLASSES, description=description, data_type="uint8", nodata=NODATA,
                    statistics=statistics, classes=True)  # fmt: skip


def confidence_band(counted: Tally, description: str = "Probability of the class") -> BandInfo:
    """The band of the confidence map, from 0 to 1, stored in steps of 1/250."""
    mean = {"mean": round(sum(counted.confidence_sums) / counted.valid, 6)} if counted.valid else {}
    return BandInfo(name=CONFIDENCE, description=description, data_type="uint8", nodata=NODATA,
                    unit="1", scale=CONFIDENCE_SCALE, statistics=_counts(counted) | mean)  # fmt: skip


def _counts(counted: Tally) -> dict[str, float]:
    total = counted.valid + counted.nodata
    return {"count": total, "valid_percent": round(100 * counted.valid / total, 6) if total else 0.0}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _tally_of(counted: Counted) -> Tally:
    if counted.tally is None:
        raise PublishError("no shard of this result has counted its classes; its blocks must be computed again")
    return counted.tally
