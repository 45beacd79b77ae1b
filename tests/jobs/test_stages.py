"""What a chain of models becomes for one scene, before anything runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import ScenePlan, plan
from earthloom.models.device.resolve import Device
from earthloom.tiling.errors import ConfigError
from tests.maps import fetched
from tests.scenes import landscape, write_scene

CPU = Device(kind="cpu", precision="bf16", device_class="cpu-test")
BANDS = ("blue", "green", "red", "nir", "swir16", "lwir")
STORED = ("red", "green", "blue", "nir", "swir16")  # viewers take the first three for red, green and blue


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("stages") / "a.tif", landscape(700, 500, 6), BANDS)


def planned(scene: Path, *model: str, **options: Any) -> ScenePlan:
    common = {
        "scale": 1e-4,
        "quantity": "boa_reflectance",
        "out": str(scene.parent / "out"),
        "shard": 512,
        "block": 512,
    }
    made = plan(load({"scenes": (str(scene),), "model": model, **common, **options}), CPU)
    assert not made.refused, made.refused
    return made.scenes[0]


def test_any_band_stands_for_what_reflects_light(scene: Path) -> None:
    made = planned(scene, "denoise")
    assert made.card.bands == BANDS[:-1]
    assert [image.bands for image in made.chain.images] == [STORED]
    assert made.chain.stages[0].precision == "fp32", "an image in bf16 would have 8 significant bits"


def test_an_image_between_stages_has_the_bands_that_later_ones_want(scene: Path) -> None:
    made = planned(scene, "denoise", "water-index")
    first, last = made.chain.stages
    assert first.card.outputs == ("green", "swir16")
    assert [band.name for band in made.chain.bands] == ["green", "swir16"]
    assert made.chain.images == ()
    assert (last.chips.margin_px, first.chips.margin_px) == (0, last.chips.halo_px)
    assert made.product == "denoise-water-index"
    kept = planned(scene, "denoise", "water-index", keep=("denoise",))
    assert kept.chain.images[0].layers == tuple(f"denoise_{name}" for name in STORED)
    assert kept.key != made.key


def test_the_variant_is_that_of_the_scenes_quantity(scene: Path) -> None:
    assert planned(scene, "dehaze").card.variant == "reflectance"
    assert planned(scene, "dehaze", quantity="dn", scale=None).card.variant == "dn"


def test_a_chains_key_does_not_depend_on_the_block(scene: Path) -> None:
    keys = {planned(scene, "denoise", "water-index", block=block).key for block in (512, 1024, 2048)}
    assert len(keys) == 1
    others = {
        planned(scene, "water-index").key,
        planned(scene, "destripe").key,
        planned(scene, "denoise", "water-index", flips=True).key,
    }
    assert not keys & others
    assert len(others) == 3


@pytest.mark.parametrize(
    ("dtype", "nodata", "expected"),
    [("uint16", None, 0.0), ("uint16", 9.0, 9.0), ("int16", None, -32768.0), ("float32", None, math.nan)],
)
def test_an_image_has_the_nodata_of_its_scene_or_one_that_its_dtype_has(
    dtype: str, nodata: float | None, expected: float, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(64, 64, 2).astype(dtype), ("red", "nir"), nodata=nodata)
    (image,) = planned(scene, "denoise").chain.images
    assert image.dtype == dtype
    assert image.nodata == expected or (math.isnan(expected) and math.isnan(image.nodata))


def test_one_result_has_one_grid(scene: Path) -> None:
    with pytest.raises(ConfigError, match="one result has one grid"):
        planned(scene, "denoise", fetched("sr-x2"), keep=("denoise",))


def test_models_come_from_a_config_file_as_a_list(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('model = ["denoise", "water-index"]\nkeep = ["denoise"]\n')
    config = load({"scenes": (str(scene),), "out": "x"}, tmp_path / "run.toml")
    assert (config.model, config.keep) == (("denoise", "water-index"), ("denoise",))
    assert load({"scenes": (str(scene),), "out": "x", "model": "landwater"}).model == ("landwater",)


def test_a_map_becomes_a_mask_by_the_classes_that_are_named(scene: Path) -> None:
    made = planned(scene, "ndvi", "water-index@water")
    first, last = made.chain.stages
    assert (first.is_mask, last.is_mask, made.chain.main) == (False, True, 0)
    kept = {each.name for each in last.card.classes if each.value not in last.card.masks}
    assert kept == {"water"}
    assert made.product == "ndvi-water-index-water"
    assert made.key != planned(scene, "ndvi", "water-index@land").key
    for word, message in (
        ("water-index@sea", "'sea' is none of the classes of water-index-mndwi; it has land, water"),
        ("water-index@water+land", "names all classes of water-index-mndwi: it masks nothing"),
        ("denoise@water", "only a map of classes says where other stages count"),
    ):
        with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
            planned(scene, "ndvi", word)
    with pytest.raises(ConfigError, match="`model=water-index@land` makes one of it"):
        planned(scene, "water-index", "ndvi")
