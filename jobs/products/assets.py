"""What the STAC item says of each published file, and of what made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.layout import products_of
from earthloom.jobs.products.stac_item import ZARR, AssetInfo, Provenance
from earthloom.jobs.products.statistics import Counted
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.names import DATA, QUICKLOOK
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, from_item, to_item
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store


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
        item = to_item(card, weights_name="", n_parameters=document["properties"]["mlm:total_parameters"])
        document = item | {"assets": document["assets"]}
    if folder.scheme == "file":
        document["assets"] = {}
    for asset in document["assets"].values():
        asset["href"] = (folder / asset["href"].removeprefix("./")).url
    return document


def assets(plan: ScenePlan, files: Mapping[str, StoredObject], counted: Counted) -> list[AssetInfo]:
    """What the STAC item says of each published file.

    Args:
        files: sizes and checksums, by name.
        counted: what the whole scene holds.
    """
    found = [asset for product in products_of(plan) for asset in product.assets(counted)]
    every = tuple(band for asset in found for band in asset.bands)
    found += [
        AssetInfo(
            name="data", href=f"./{DATA}", media_type=ZARR, roles=("data",), title="All layers as Zarr", bands=every,
            grid=plan.grid,
        ),
        AssetInfo(
            name="quicklook", href=f"./{QUICKLOOK}", media_type="image/png", roles=("overview", "thumbnail"),
            title="Quicklook",
        ),
    ]  # fmt: skip
    return [_stored(asset, files.get(asset.href.removeprefix("./"))) for asset in found]


def _stored(asset: AssetInfo, stored: StoredObject | None) -> AssetInfo:
    """With size and checksum; a store of many objects has none of its own."""
    return replace(asset, size=stored.size, sha256=stored.sha256) if stored else asset


@cache
def _software() -> Mapping[str, str]:
    return {name: version(name) for name in ("earthloom", "rasterio", "torch", "zarr")}


def provenance(plan: ScenePlan) -> Provenance:
    """What made the result: versions, settings and the cards."""
    return Provenance(
        software=_software(),
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
