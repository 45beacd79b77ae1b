"""A class map as a product: a COG with palette and one of confidence, tables of areas, legends, and the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products import legend, quicklook, statistics
from earthloom.jobs.products.product import Raster, cog_asset, common_tags
from earthloom.jobs.products.stac_item import AssetInfo, BandInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.class_map import BlockMap
from earthloom.tiling.counting import BandSum, ClassArea, Tally, count
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import PublishError
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.zarr_sink import Layer


@dataclass(frozen=True, slots=True)
class ClassMapProduct:
    """The class map of a scene and its confidence."""

    plan: ScenePlan

    resampling: ClassVar[str] = "mode"

    @classmethod
    def of(cls, plan: ScenePlan) -> tuple[ClassMapProduct, ...]:
        """The product of a plan whose main stage is a segmentation; none of any other plan."""
        return (cls(plan),) if plan.card.classes else ()

    @property
    def card(self) -> ModelCard:
        return self.plan.card

    @property
    def stage(self) -> int:
        return self.plan.chain.main

    @property
    def rasters(self) -> tuple[Raster, ...]:
        tags = common_tags(self.plan)
        classes = CogProfile(
            grid=self.plan.grid, descriptions=(f"{self.card.name} class",), colormap=legend.colors(self.card),
            dataset_tags=tags, band_tags=(legend.cog_tags(self.card)[1],),
        )  # fmt: skip
        confidence = CogProfile(
            grid=self.plan.grid, descriptions=("probability of the class",), scales=(CONFIDENCE_SCALE,),
            dataset_tags=tags,
        )  # fmt: skip
        return (
            Raster(file=f"{self.plan.product}.tif", layers=(CLASSES,), profile=classes, by_mode=True),
            Raster(file=f"{self.plan.product}-{CONFIDENCE}.tif", layers=(CONFIDENCE,), profile=confidence),
        )

    @property
    def layers(self) -> tuple[Layer, ...]:
        classes = {
            "long_name": f"{self.card.name} class",
            "flag_values": [entry.value for entry in self.card.classes],
            "flag_meanings": " ".join(entry.name for entry in self.card.classes),
        }
        confidence = {"long_name": "probability of the class", "scale_factor": CONFIDENCE_SCALE, "units": "1"}
        return Layer(name=CLASSES, attributes=classes), Layer(name=CONFIDENCE, attributes=confidence)

    def stored(self, made: BlockMap) -> dict[str, NDArray[Any]]:
        return {CLASSES: made.classes, CONFIDENCE: made.confidence}

    def count(self, pixels: Mapping[str, NDArray[Any]], shard: Window) -> Counted:
        counted = statistics.count_classes(
            self.plan.grid, shard, pixels[CLASSES], pixels[CONFIDENCE], len(self.card.classes)
        )
        return Counted(tally=counted, sums={CONFIDENCE: count(pixels[CONFIDENCE], NODATA)})

    def sums(self, counted: Counted) -> Mapping[str, BandSum]:
        return {CLASSES: statistics.band_sum(_tally_of(counted)), CONFIDENCE: counted.sums[CONFIDENCE]}

    def nodata_px(self, counted: Counted) -> int:
        return _tally_of(counted).nodata

    def areas(self, counted: Counted) -> list[ClassArea]:
        return statistics.class_areas(_tally_of(counted), self.card)

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        style, metadata = self._sidecar_names
        return {style: legend.qml(self.card), metadata: legend.pam(self.card, self.areas(counted))}

    @property
    def _sidecar_names(self) -> tuple[str, str]:
        """The QGIS style and GDAL's metadata file beside the class map."""
        return f"{self.plan.product}.qml", f"{self.plan.product}.tif.aux.xml"

    def assets(self, counted: Counted) -> list[AssetInfo]:
        total, (classes, confidence) = _tally_of(counted), self.rasters
        style, metadata = (f"./{name}" for name in self._sidecar_names)
        kind, roles = "application/xml", ("metadata",)
        return [
            cog_asset(self.plan, classes, CLASSES, "Class map", [classes_band(total)]),
            cog_asset(self.plan, confidence, CONFIDENCE, "Confidence", [confidence_band(total)]),
            AssetInfo(name="style", href=style, media_type=kind, roles=roles, title="QGIS style"),
            AssetInfo(name="metadata", href=metadata, media_type=kind, roles=roles, title="Class names for GDAL"),
        ]

    def picture(
        self, layer: Callable[[str], NDArray[Any]], counted: Counted, title: str, pixel_m: tuple[float, float]
    ) -> bytes:
        return quicklook.quicklook_png(
            layer(CLASSES), card=self.card, title=title, rows=self.areas(counted), pixel_m=pixel_m
        )


def classes_band(counted: Tally) -> BandInfo:
    """The band of the class map, with the statistics that its tally gives."""
    present = [value for value, n in enumerate(counted.pixels) if n]
    statistics = _counts(counted) | ({"minimum": present[0], "maximum": present[-1]} if present else {})
    return BandInfo(name="class", description="Class with the highest probability", data_type="uint8", nodata=NODATA,
                    statistics=statistics, classes=True)  # fmt: skip


def confidence_band(counted: Tally) -> BandInfo:
    """The band of the confidence map: the probability of the class, stored in steps of 1/250."""
    mean = {"mean": round(sum(counted.confidence_sums) / counted.valid, 6)} if counted.valid else {}
    return BandInfo(name="confidence", description="Probability of the class", data_type="uint8", nodata=NODATA,
                    unit="1", scale=CONFIDENCE_SCALE, statistics=_counts(counted) | mean)  # fmt: skip


def _counts(counted: Tally) -> dict[str, float]:
    total = counted.valid + counted.nodata
    return {"count": total, "valid_percent": round(100 * counted.valid / total, 6) if total else 0.0}


def _tally_of(counted: Counted) -> Tally:
    if counted.tally is None:
        raise PublishError("no shard of this scene has counted its classes; its blocks must be computed again")
    return counted.tally
