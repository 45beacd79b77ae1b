"""What the STAC item says of each published file, and of what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from earthloom.jobs.planning.chain import ImagePlan
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.stac_item import COG, ZARR, AssetInfo, BandInfo, Provenance, classes_band, confidence_band
from earthloom.jobs.records.names import DATA, QUICKLOOK
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, from_item, to_item
from earthloom.tiling.counting import BandSum, Tally
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

if TYPE_CHECKING:
    from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.products.layout import CLASSES, rasters


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
