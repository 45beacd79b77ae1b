"""Lists the products that a scene publishes, those of all stages of its chain together."""

from __future__ import annotations

from typing import Any

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.products.footprints import FootprintsProduct
from earthloom.jobs.products.image import ImageProduct
from earthloom.jobs.products.labels import LabelsProduct
from earthloom.jobs.products.legend import model_tags
from earthloom.jobs.products.objects import ObjectsProduct
from earthloom.jobs.products.product import StageProduct
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.products.scene_about import SceneAbout


def products_of(plan: ScenePlan) -> tuple[StageProduct, ...]:
    """Everything that is published of a scene: what its main stage makes, and all images in the order of the stages."""
    return (*_of_main_stage(plan), *_images(plan))


def publication_of(plan: ScenePlan) -> Publication:
    """A scene's result, for whoever writes and publishes it."""
    products = products_of(plan)
    return Publication(
        name=plan.scene.id, prefix=plan.prefix, grid=plan.grid, shard_px=plan.shard_px,
        title=f"{plan.card.title or plan.card.name} of {plan.scene.id}", products=products, about=SceneAbout(plan),
        main=next(number for number, product in enumerate(products) if product.stage == plan.chain.main),
    )  # fmt: skip


def _of_main_stage(plan: ScenePlan) -> tuple[StageProduct, ...]:
    """What a main stage makes that is no image."""
    of_map: dict[str, Any] = {
        "name": plan.product, "grid": plan.grid, "legend": plan.card, "tags": _tags(plan), "stage": plan.chain.main,
    }  # fmt: skip
    of_rows = of_map | {"scene_id": plan.scene.id, "key": plan.key}
    match plan.card.kind:
        case "class-map":
            return (ClassMapProduct(**of_map),)
        case "labels":
            meaning = "class of the chip with the highest probability"
            return (LabelsProduct(**of_rows, core_px=plan.chain.pixel_px, meaning=meaning),)
        case "footprints":
            return (FootprintsProduct(**of_rows, meaning="class of the footprint that covers the pixel"),)
        case "objects":
            assert plan.card.objects is not None
            return (ObjectsProduct(**of_rows, rule=plan.card.objects, shard_px=plan.shard_px, scale=plan.chain.scale),)
    return ()


def _images(plan: ScenePlan) -> tuple[ImageProduct, ...]:
    """Every image of a plan, in the order of the stages."""
    return tuple(
        ImageProduct(
            image=image, grid=plan.grid, tags=_tags(plan), title=plan.card.title or plan.card.label,
            asset="image" if image.stage == plan.chain.main else image.name,
        )
        for image in plan.chain.images
    )  # fmt: skip


def _tags(plan: ScenePlan) -> dict[str, str]:
    """Tags of every TIFF of a scene: the model's, and which result it belongs to."""
    return model_tags(plan.card) | {"EARTHLOOM_KEY": plan.key, "EARTHLOOM_SCENE": plan.scene.id}
