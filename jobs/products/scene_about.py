"""What a scene's result says of itself: which scene, by which models, and where their cards are published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products import stac_item
from earthloom.jobs.products.stac_item import AssetInfo, Provenance
from earthloom.models.cards.card import ModelCard
from earthloom.models.cards.file import FILE, to_item
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.software import software
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store


def card_key(plan: ScenePlan, card: ModelCard) -> str:
    """Key below OUT at which a model's card is published."""
    return f"collections/{plan.product}/{card.label}-{card.digest()[:8]}.json"


def card_document(card: ModelCard, folder: ObjectRef) -> dict[str, Any]:
    """The card as a STAC item that stands alone: weights are linked only where others can reach them."""
    store = open_store(folder)
    try:
        document: dict[str, Any] = json.loads(store.get(FILE))
    except MissingObjectError:  # a model without weights needs no folder
        return to_item(card, weights_name="", n_parameters=0)
    said = document["properties"]  # all else is written anew: it may be bound to a scene's bands, and a version ahead
    item = to_item(card, weights_name="", n_parameters=said["mlm:total_parameters"])
    item["properties"]["mlm:framework"] = said["mlm:framework"]
    document = item | {"assets": document["assets"]}
    if folder.scheme == "file":
        document["assets"] = {}
    for asset in document["assets"].values():
        asset["href"] = (folder / asset["href"].removeprefix("./")).url
    return document


@dataclass(frozen=True, slots=True)
class SceneAbout:
    """A scene's `jobs.products.publication.About`."""

    plan: ScenePlan

    def fields(self) -> Mapping[str, Any]:
        plan = self.plan
        return {
            "scene_id": plan.scene.id, "key": plan.key, "model": plan.product, "datetime": plan.scene.datetime,
            "dated_by": plan.scene.dated_by,
        }  # fmt: skip

    def item(self, assets: Sequence[AssetInfo], areas: Sequence[ClassArea]) -> dict[str, Any]:
        plan = self.plan
        return stac_item.item(
            scene=plan.scene, product=plan.product, card=plan.card, key=plan.key, grid=plan.grid, rows=areas,
            assets=assets, provenance=provenance(plan),
        )  # fmt: skip

    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        """The cards of all stages."""
        folders = dict(self.plan.chain.folders)
        return {
            card_key(self.plan, card): card_document(card, folders[card.digest()]) for card in self.plan.cards
        }  # fmt: skip


def provenance(plan: ScenePlan) -> Provenance:
    """What made the result: versions, settings and the cards."""
    return Provenance(
        software=software(),
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
