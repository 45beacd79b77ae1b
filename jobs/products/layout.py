"""What a scene publishes, all products together: its files, and what lies where in its Zarr."""

from __future__ import annotations

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.products.image import ImageProduct
from earthloom.jobs.products.product import Product, Raster
from earthloom.tiling.writing.zarr_sink import ZarrLayout


def products_of(plan: ScenePlan) -> tuple[Product, ...]:
    """Everything that is published of a scene. A new kind of product is one more line here."""
    return (
        *ClassMapProduct.of(plan),
        *ImageProduct.of(plan),
    )


def main_product(plan: ScenePlan) -> Product:
    """The one that the scene was mapped for: it gives the picture and the numbers of the result."""
    return next(product for product in products_of(plan) if product.stage == plan.chain.main)


def rasters(plan: ScenePlan) -> tuple[Raster, ...]:
    """The COGs of a scene, in the order of the layers of its Zarr."""
    return tuple(raster for product in products_of(plan) for raster in product.rasters)


def layout_of(plan: ScenePlan) -> ZarrLayout:
    """The scene's Zarr, with the layers of all products."""
    return ZarrLayout(
        grid=plan.grid,
        shard_px=plan.shard_px,
        title=f"{plan.card.title or plan.card.name} of {plan.scene.id}",
        layers=tuple(layer for product in products_of(plan) for layer in product.layers),
        resampling=main_product(plan).resampling,
    )
