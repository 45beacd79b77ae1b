"""Names and profiles of what a scene publishes: the one place that says which layer is called what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.planning.chain import ImagePlan
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.image_statistics import BandSum
from earthloom.jobs.products.legend import cog_tags, colors
from earthloom.jobs.products.stac_item import COG, ZARR, AssetInfo, BandInfo, Provenance, classes_band, confidence_band
from earthloom.jobs.products.statistics import Tally
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, from_item, to_item
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.overview import reduce_mean, reduce_mode
from earthloom.tiling.writing.zarr_sink import Layer, ZarrLayout

if TYPE_CHECKING:
    from earthloom.jobs.records.markers import StoredObject

DATA = "data.zarr"
RESULT = "result.json"
QUICKLOOK = "quicklook.png"
ITEM = "item.json"
CLASSES, CONFIDENCE = "classes", "confidence"
CONFIDENCE_SCALE = 1 / 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """One COG of a result, and the layers of the Zarr that hold its bands."""

    file: str
    layers: tuple[str, ...]
    profile: CogProfile
    """Without statistics."""
    image: ImagePlan | None = None
    """None for the class map and its confidence."""

    def reduce(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The next overview level, (C, h, w) to (C, ceil(h / 2), ceil(w / 2))."""
        if self.layers == (CLASSES,):
            return reduce_mode(pixels[0])[None]
        return np.stack([reduce_mean(band, self.profile.nodata) for band in pixels])


def rasters(plan: ScenePlan) -> tuple[Raster, ...]:
    """The COGs of a scene, in the order of the layers of its Zarr."""
    dataset_tags, class_tags = cog_tags(plan.card)
    tags = dataset_tags | {"EARTHLOOM_KEY": plan.key, "EARTHLOOM_SCENE": plan.scene.id}
    if plan.scene.datetime:
        tags["TIFFTAG_DATETIME"] = plan.scene.datetime[:19].replace("-", ":").replace("T", " ")
    found = []
    if plan.card.classes:
        classes = CogProfile(
            grid=plan.grid, descriptions=(f"{plan.card.name} class",), colormap=colors(plan.card), dataset_tags=tags,
            band_tags=(class_tags,),
        )  # fmt: skip
        confidence = CogProfile(
            grid=plan.grid, descriptions=("probability of the class",), scales=(CONFIDENCE_SCALE,), dataset_tags=tags
        )
        found = [
            Raster(file=f"{plan.product}.tif", layers=(CLASSES,), profile=classes),
            Raster(file=f"{plan.product}-{CONFIDENCE}.tif", layers=(CONFIDENCE,), profile=confidence),
        ]
    for image in plan.chain.images:
        profile = CogProfile(
            grid=plan.grid, descriptions=image.bands, dtype=image.dtype, nodata=image.nodata, scales=image.gain,
            offsets=image.bias, dataset_tags=tags,
        )  # fmt: skip
        found.append(Raster(file=f"{image.name}.tif", layers=image.layers, profile=profile, image=image))
    return tuple(found)


def layout_of(plan: ScenePlan) -> ZarrLayout:
    """The scene's Zarr: a class map and its confidence, or the bands of an image, or both."""
    classes = plan.card.classes
    layers = [
        Layer(
            name=CLASSES,
            attributes={
                "long_name": f"{plan.card.name} class",
                "flag_values": [entry.value for entry in classes],
                "flag_meanings": " ".join(entry.name for entry in classes),
            },
        ),
        Layer(
            name=CONFIDENCE,
            attributes={"long_name": "probability of the class", "scale_factor": CONFIDENCE_SCALE, "units": "1"},
        ),
    ] if classes else []  # fmt: skip
    for image in plan.chain.images:
        layers += [
            Layer(
                name=layer, dtype=image.dtype, nodata=image.nodata,
                attributes={"long_name": f"{band} of {image.name}", "scale_factor": gain, "add_offset": bias},
            )
            for layer, band, gain, bias in zip(image.layers, image.bands, image.gain, image.bias, strict=True)
        ]  # fmt: skip
    return ZarrLayout(
        grid=plan.grid,
        shard_px=plan.shard_px,
        title=f"{plan.card.title or plan.card.name} of {plan.scene.id}",
        layers=tuple(layers),
        resampling="mode" if classes else "average",
    )


def sidecar_names(plan: ScenePlan) -> tuple[str, str]:
    """The QGIS style and GDAL's metadata file beside the class map."""
    return f"{plan.product}.qml", f"{plan.product}.tif.aux.xml"


def card_key(plan: ScenePlan, card: ModelCard) -> str:
    """Where a model's card is published, below OUT."""
    return f"collections/{plan.product}/{card.label}-{card.digest()[:8]}.json"


def card_document(card: ModelCard, folder: ObjectRef) -> dict[str, Any]:
    """The card as a STAC item that stands alone: weights are linked only where others can reach them."""
    store = open_store(folder)
    try:
        document: dict[str, Any] = json.loads(store.get(FILE))
    except MissingObjectError:  # a model without weights needs no folder
        return to_item(card, weights_name="", n_parameters=0)
    if from_item(document) != card:  # bound to a scene's bands: those are what was computed
        told = to_item(card, weights_name="", n_parameters=document["properties"]["mlm:total_parameters"])
        document = told | {"assets": document["assets"]}
    if folder.scheme == "file":
        document["assets"] = {}
    for asset in document["assets"].values():
        asset["href"] = (folder / asset["href"].removeprefix("./")).url
    return document


def assets(
    plan: ScenePlan, files: Mapping[str, StoredObject], total: Tally | None, sums: Mapping[str, BandSum]
) -> Sequence[AssetInfo]:
    """What the STAC item says of each published file.

    Args:
        total: what the class map holds, if there is one.
        sums: what the bands of images hold, by layer.
    """
    style, metadata = sidecar_names(plan)

    def info(
        name: str, file: str, media_type: str, roles: tuple[str, ...], title: str, of: Sequence[BandInfo] = ()
    ) -> AssetInfo:
        stored = files.get(file)  # a store of many objects has no size of its own
        return AssetInfo(
            name=name, href=f"./{file}", media_type=media_type, roles=roles, title=title, bands=tuple(of),
            size=stored.size if stored else None, sha256=stored.sha256 if stored else None,
            grid=plan.grid if of else None,
        )  # fmt: skip

    found, every = [], list[BandInfo]()
    for raster in rasters(plan):
        if raster.image:
            bands = image_bands(raster.image, sums)
            name, title = (raster.image.name if total else "image"), f"Image: {', '.join(raster.image.bands)}"
        else:
            assert total, "a class map was counted"
            (layer,) = raster.layers
            bands = [classes_band(total) if layer == CLASSES else confidence_band(total)]
            name, title = layer, "Class map" if layer == CLASSES else "Confidence"
        found.append(info(name, raster.file, COG, ("data",), title, bands))
        every += bands
    found += [
        info("data", DATA, ZARR, ("data",), "All layers as Zarr", every),
        info("quicklook", QUICKLOOK, "image/png", ("overview", "thumbnail"), "Quicklook"),
    ]
    if total:
        found += [
            info("style", style, "application/xml", ("metadata",), "QGIS style"),
            info("metadata", metadata, "application/xml", ("metadata",), "Class names for GDAL"),
        ]
    return tuple(found)


def image_bands(image: ImagePlan, sums: Mapping[str, BandSum]) -> list[BandInfo]:
    """The bands of an image with their statistics, of stored values."""
    found = []
    for band, layer, gain, bias in zip(image.bands, image.layers, image.gain, image.bias, strict=True):
        total = sums[layer]
        count = total.valid + total.nodata
        statistics = {"count": count, "valid_percent": round(100 * total.valid / max(count, 1), 6)}
        if total.valid:
            statistics |= {
                "minimum": total.minimum, "maximum": total.maximum, "mean": round(total.mean, 6),
                "stddev": round(total.stddev, 6),
            }  # fmt: skip
        found.append(
            BandInfo(
                name=band, description=f"{band} of {image.name}", data_type=image.dtype, nodata=image.nodata, scale=gain,
                offset=bias, statistics=statistics,
            )
        )  # fmt: skip
    return found


def provenance(plan: ScenePlan) -> Provenance:
    """What made the result: versions, settings and the cards."""
    return Provenance(
        software={name: version(name) for name in ("earthloom", "rasterio", "torch", "zarr")},
        cards=tuple((card, f"../../../{card_key(plan, card)}") for card in plan.cards),
        settings={
            "shard_px": plan.shard_px, "device": plan.device_class,
            "stages": [
                {
                    "models": [card.label for card in stage.cards], "core_px": stage.chips.core_px,
                    "halo_px": stage.chips.halo_px, "stride_px": stage.chips.stride_px,
                    "overlap": "blend" if stage.chips.blend else "exact", "precision": stage.precision,
                    "flips": stage.flips, "compiled": stage.compiled, "mask": stage.is_mask,
                }
                for stage in plan.chain.stages
            ],
        },
        source_item=plan.scene.source_item,
    )  # fmt: skip
