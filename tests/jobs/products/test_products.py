"""What a plan's products are called, what they store, and what they count, before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import ScenePlan, plan
from earthloom.jobs.products.layout import products_of, publication_of
from earthloom.jobs.products.statistics import Counted, add_up
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.models.device.resolve import Device
from earthloom.models.inference.class_map import BlockMap
from earthloom.models.inference.stack import Stack
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import pixel_areas_m2
from earthloom.tiling.window import Window
from tests.scenes import landscape, write_scene

CPU = Device(kind="cpu", precision="fp32", device_class="cpu-test")
BANDS = ("blue", "green", "red", "nir", "swir16")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("products") / "a.tif", landscape(700, 600, len(BANDS)), BANDS)


def planned(scene: Path, *model: str, **options: Any) -> ScenePlan:
    common = {"scale": 1e-4, "quantity": "boa_reflectance", "out": str(scene.parent), "shard": 512, "block": 512}
    made = plan(load({"scenes": (str(scene),), "model": model, **common, **options}), CPU)
    assert not made.refused, made.refused
    return made.scenes[0]


def shards_of(made: ScenePlan) -> list[Window]:
    return list(made.grid.window.split(made.shard_px))


def test_a_class_map_counts_classes_areas_and_confidence_of_each_shard(scene: Path) -> None:
    """Against plain numpy over the whole scene, whose shards are higher than the strips that are counted."""
    made = planned(scene, "water-index")
    (product,) = products_of(made)
    dice = np.random.default_rng(0)
    classes = dice.choice(np.array([0, 1, 255], np.uint8), made.grid.shape)
    confidence = np.where(classes == 255, 255, dice.integers(0, 251, classes.shape)).astype(np.uint8)
    layers = product.stored(BlockMap(made.grid.window, classes, confidence))
    assert list(layers) == [CLASSES, CONFIDENCE]
    parts = [
        product.count({name: pixels[shard.slices(made.grid.window)] for name, pixels in layers.items()}, shard)
        for shard in shards_of(made)
    ]
    counted, areas_m2 = add_up(parts), pixel_areas_m2(made.grid, made.grid.window)
    assert len(parts) == 4
    assert counted == add_up(reversed(parts))
    assert counted.tally is not None
    for value in (0, 1):
        assert counted.tally.pixels[value] == (classes == value).sum()
        assert counted.tally.confidence_sums[value] == confidence[classes == value].sum()
        assert counted.tally.areas_m2[value] == pytest.approx(areas_m2[classes == value].sum())
    assert product.nodata_px(counted) == (classes == 255).sum()
    sums = product.sums(counted)
    for layer, pixels in layers.items():
        known = pixels[pixels != 255].astype(float)
        assert (sums[layer].valid, sums[layer].total) == (known.size, known.sum())
        assert (sums[layer].minimum, sums[layer].maximum) == (known.min(), known.max())
        assert sums[layer].stddev == pytest.approx(known.std())


def test_an_image_is_stored_as_planned_and_counted_by_band(scene: Path) -> None:
    made = planned(scene, "denoise")
    (product,) = products_of(made)
    (image,) = made.chain.images
    n_bands, shape = len(image.bands), made.grid.shape
    valid = np.ones(shape, np.bool_)
    valid[:100] = False
    values = torch.from_numpy(landscape(shape[1], shape[0], n_bands).astype(np.float32) * 1e-4)
    # a band that was carried along and is not part of the image comes first
    stack = Stack(
        window=made.grid.window, names=("lwir", *image.bands), values=torch.cat([values[:1] + 9, values]), valid=valid,
        gain=np.ones(n_bands + 1, np.float32), bias=np.zeros(n_bands + 1, np.float32),
    )  # fmt: skip
    layers = product.stored(stack)
    assert tuple(layers) == image.layers
    counted = product.count(layers, made.grid.window)
    assert counted.tally is None
    assert product.areas(counted) == []
    assert list(product.sidecars(counted)) == ["denoise.qml"]
    assert product.nodata_px(counted) == 100 * shape[1]
    for layer, band in zip(image.layers, values, strict=True):
        stored = layers[layer]
        assert (stored[~valid] == image.nodata).all()
        np.testing.assert_allclose(stored[valid] * 1e-4, band.numpy()[valid], atol=0.5e-4)
        assert counted.sums[layer].total == stored[valid].astype(float).sum()


def test_the_layers_of_all_products_lie_in_one_zarr_in_the_order_of_the_files(scene: Path) -> None:
    both = planned(scene, "denoise", "water-index", keep=("denoise",))
    result = publication_of(both)
    layers = tuple(layer.name for layer in result.layout.layers)
    assert layers == tuple(layer for raster in result.rasters for layer in raster.layers)
    assert layers[:2] == (CLASSES, CONFIDENCE)
    assert [raster.file for raster in result.rasters] == [
        "denoise-water-index.tif", "denoise-water-index-confidence.tif", "denoise.tif",
    ]  # fmt: skip
    image = publication_of(planned(scene, "denoise"))
    assert (result.layout.resampling, image.layout.resampling) == ("mode", "average")
    assert products_of(both)[result.main].stage == both.chain.main == 1


def test_images_of_two_stages_have_assets_of_their_own(scene: Path) -> None:
    one = planned(scene, "denoise")
    (image,) = one.chain.images
    kept = replace(image, name="kept", layers=tuple(f"kept_{band}" for band in image.bands))
    chain = replace(one.chain, stages=one.chain.stages * 2, main=1, images=(kept, replace(image, stage=1)))
    made = replace(one, chain=chain)
    counted = Counted(sums={layer.name: _some_sum() for layer in publication_of(made).layout.layers})
    assets = [asset for product in products_of(made) for asset in product.assets(counted)]
    assert [(asset.name, asset.href) for asset in assets] == [
        ("kept", "./kept.tif"), ("kept-style", "./kept.qml"), ("image", "./denoise.tif"), ("image-style", "./denoise.qml"),
    ]  # fmt: skip


def test_a_class_map_that_no_shard_has_counted_is_not_published(scene: Path) -> None:
    product = publication_of(planned(scene, "water-index")).main_product
    with pytest.raises(PublishError, match="must be computed again"):
        product.assets(replace(Counted(), sums={CONFIDENCE: _some_sum()}))


def _some_sum() -> Any:
    from earthloom.tiling.counting import count

    return count(np.arange(12, dtype=np.uint16), 0)
