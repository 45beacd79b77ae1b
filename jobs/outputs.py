"""Names and profiles of what a scene publishes: the one place that says which layer is called what."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from jobs.plan import ScenePlan
from jobs.products.legend import cog_tags, colors
from jobs.products.stac import COG, ZARR, AssetInfo, BandInfo, Provenance, classes_band, confidence_band
from jobs.products.statistics import Tally
from models.card import ModelCard
from models.cardfile import FILE, to_item
from tiling.cog import CogProfile
from tiling.errors import MissingObjectError
from tiling.objects import ObjectRef
from tiling.store import open_store
from tiling.zarr_sink import Layer, ZarrLayout

if TYPE_CHECKING:
    from jobs.ledger import StoredObject

DATA = "data.zarr"
RESULT = "result.json"
QUICKLOOK = "quicklook.png"
ITEM = "item.json"
CONFIDENCE_SCALE = 1 / 250


def layout_of(plan: ScenePlan) -> ZarrLayout:
    """The scene's Zarr: a class map and its confidence."""
    classes = plan.card.classes
    return ZarrLayout(
        grid=plan.scene.grid,
        shard_px=plan.shard_px,
        title=f"{plan.card.title or plan.card.name} of {plan.scene.id}",
        layers=(
            Layer(
                name="classes",
                attributes={
                    "long_name": f"{plan.card.name} class",
                    "flag_values": [entry.value for entry in classes],
                    "flag_meanings": " ".join(entry.name for entry in classes),
                },
            ),
            Layer(
                name="confidence",
                attributes={"long_name": "probability of the class", "scale_factor": CONFIDENCE_SCALE, "units": "1"},
            ),
        ),
    )


def cog_profiles(plan: ScenePlan, statistics: Mapping[str, Mapping[str, str]]) -> dict[str, CogProfile]:
    """One COG per layer.

    Args:
        statistics: band tags (`STATISTICS_MINIMUM`, …) per layer.
    """
    dataset_tags, class_tags = cog_tags(plan.card)
    tags = dataset_tags | {"EARTHLOOM_KEY": plan.key, "EARTHLOOM_SCENE": plan.scene.id}
    if plan.scene.datetime:
        tags["TIFFTAG_DATETIME"] = plan.scene.datetime[:19].replace("-", ":").replace("T", " ")
    return {
        "classes": CogProfile(
            grid=plan.scene.grid, description=f"{plan.card.name} class", colormap=colors(plan.card),
            dataset_tags=tags, band_tags=class_tags | dict(statistics.get("classes", {})),
        ),
        "confidence": CogProfile(
            grid=plan.scene.grid, description="probability of the class", scale=CONFIDENCE_SCALE, dataset_tags=tags,
            band_tags=dict(statistics.get("confidence", {})),
        ),
    }  # fmt: skip


def cog_name(plan: ScenePlan, layer: str) -> str:
    """File name of a layer's COG: `landwater.tif`, `landwater-confidence.tif`."""
    return f"{plan.card.name}.tif" if layer == "classes" else f"{plan.card.name}-{layer}.tif"


def sidecar_names(plan: ScenePlan) -> tuple[str, str]:
    """The QGIS style and GDAL's metadata file beside the class map."""
    name = cog_name(plan, "classes")
    return f"{PurePosixPath(name).stem}.qml", f"{name}.aux.xml"


def card_key(plan: ScenePlan) -> str:
    """Where the model's card is published, below OUT."""
    return f"collections/{plan.card.name}/{plan.card.label}-{plan.card.digest()[:8]}.json"


def card_document(card: ModelCard, folder: ObjectRef) -> dict[str, Any]:
    """The card as a STAC item that stands alone: weights are linked only where others can reach them."""
    store = open_store(folder)
    try:
        document: dict[str, Any] = json.loads(store.get(FILE))
    except MissingObjectError:  # a model without weights needs no folder
        return to_item(card, weights_name="", n_parameters=0)
    if folder.scheme == "file":
        document["assets"] = {}
    for asset in document["assets"].values():
        asset["href"] = (folder / asset["href"].removeprefix("./")).url
    return document


def assets(plan: ScenePlan, files: Mapping[str, StoredObject], total: Tally) -> Sequence[AssetInfo]:
    """What the STAC item says of each published file."""
    grid = plan.scene.grid
    style, metadata = sidecar_names(plan)
    bands = {"classes": classes_band(total), "confidence": confidence_band(total)}

    def info(
        name: str, file: str, media_type: str, roles: tuple[str, ...], title: str, of: Sequence[BandInfo] = ()
    ) -> AssetInfo:
        stored = files.get(file)  # a store of many objects has no size of its own
        return AssetInfo(
            name=name, href=f"./{file}", media_type=media_type, roles=roles, title=title, bands=tuple(of),
            size=stored.size if stored else None, sha256=stored.sha256 if stored else None, grid=grid if of else None,
        )  # fmt: skip

    return (
        info("classes", cog_name(plan, "classes"), COG, ("data",), "Class map", [bands["classes"]]),
        info("confidence", cog_name(plan, "confidence"), COG, ("data",), "Confidence", [bands["confidence"]]),
        info("data", DATA, ZARR, ("data",), "Class map and confidence", list(bands.values())),
        info("quicklook", QUICKLOOK, "image/png", ("overview", "thumbnail"), "Quicklook with legend"),
        info("style", style, "application/xml", ("metadata",), "QGIS style"),
        info("metadata", metadata, "application/xml", ("metadata",), "Class names for GDAL"),
    )


def provenance(plan: ScenePlan) -> Provenance:
    """What made the result: versions, settings and the card."""
    return Provenance(
        software={name: version(name) for name in ("earthloom", "rasterio", "torch", "zarr")},
        card_href=f"../../../{card_key(plan)}",
        settings={
            "core_px": plan.chips.core_px, "halo_px": plan.chips.halo_px, "stride_px": plan.chips.stride_px,
            "overlap": "blend" if plan.chips.blend else "exact", "shard_px": plan.shard_px,
            "precision": plan.precision, "device": plan.device_class,
        },
        source_item=plan.scene.source_item,
    )  # fmt: skip
