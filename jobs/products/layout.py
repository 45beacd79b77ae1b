"""What a scene publishes, all products of its chain together."""

from __future__ import annotations

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
    """Everything that is published of a scene. A new kind of product is one more line here."""
    return (
        *_class_maps(plan),
        *_labels(plan),
        *_footprints(plan),
        *_objects(plan),
        *_images(plan),
    )


def publication_of(plan: ScenePlan) -> Publication:
    """A scene's result, for whoever writes and publishes it."""
    products = products_of(plan)
    return Publication(
        name=plan.scene.id, prefix=plan.prefix, grid=plan.grid, shard_px=plan.shard_px,
        title=f"{plan.card.title or plan.card.name} of {plan.scene.id}", products=products, about=SceneAbout(plan),
        main=next(number for number, product in enumerate(products) if product.stage == plan.chain.main),
    )  # fmt: skip


def _class_maps(plan: ScenePlan) -> tuple[ClassMapProduct, ...]:
    """The map of a plan whose main stage is a segmentation; none of any other plan."""
    if plan.card.kind != "class-map":
        return ()
    return (
        ClassMapProduct(
            name=plan.product, grid=plan.grid, legend=plan.card, tags=_tags(plan), stage=plan.chain.main
        ),
    )  # fmt: skip


def _labels(plan: ScenePlan) -> tuple[LabelsProduct, ...]:
    """The labels of a plan whose main stage gives some; none of any other plan."""
    if plan.card.kind != "labels":
        return ()
    return (
        LabelsProduct(
            name=plan.product, grid=plan.grid, legend=plan.card, core_px=plan.chain.pixel_px, scene_id=plan.scene.id,
            key=plan.key, tags=_tags(plan), stage=plan.chain.main, meaning="class of the chip with the highest probability",
        ),
    )  # fmt: skip


def _footprints(plan: ScenePlan) -> tuple[FootprintsProduct, ...]:
    """The footprints of a plan whose main stage gives them classes; none of any other plan."""
    if plan.card.kind != "footprints":
        return ()
    return (
        FootprintsProduct(
            name=plan.product, grid=plan.grid, legend=plan.card, scene_id=plan.scene.id, key=plan.key, tags=_tags(plan),
            stage=plan.chain.main, meaning="class of the footprint that covers the pixel",
        ),
    )  # fmt: skip


def _objects(plan: ScenePlan) -> tuple[ObjectsProduct, ...]:
    """The objects of a plan whose main stage finds some; none of any other plan."""
    if plan.card.objects is None:
        return ()
    return (
        ObjectsProduct(
            name=plan.product, grid=plan.grid, legend=plan.card, rule=plan.card.objects, scene_id=plan.scene.id,
            key=plan.key, shard_px=plan.shard_px, tags=_tags(plan), stage=plan.chain.main,
        ),
    )  # fmt: skip


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
    """Of every TIFF of a scene: the model's, and which result it belongs to."""
    return model_tags(plan.card) | {"EARTHLOOM_KEY": plan.key, "EARTHLOOM_SCENE": plan.scene.id}
