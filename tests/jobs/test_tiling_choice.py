"""Which chips a scene is cut into, and what that is predicted to cost."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.config import load
from earthloom.jobs.planning.plan import ScenePlan, plan
from earthloom.models.cards.file import write_card
from earthloom.models.device.resolve import Device
from tests.models.nets import card_of, seeded
from tests.scenes import landscape, write_scene

CPU = Device(kind="cpu", precision="fp32", device_class="cpu-test")


def planned(path: Path, **options: Any) -> ScenePlan:
    common = {"model": "water-index", "scale": 1e-4, "quantity": "toa_reflectance", "out": str(path.parent / "out")}
    (scene,) = plan(load({"scenes": (str(path),), **common, **options}), CPU).scenes
    return scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("plan") / "a.tif", landscape(1300, 700, 2), ("green", "swir16"))


def test_a_small_scene_is_not_computed_far_beyond_its_edges(scene: Path) -> None:
    small = planned(scene)
    assert small.halo_overhead < planned(scene, core=1024).halo_overhead
    assert 256 <= small.chips.core_px <= 1024, "neither wasteful nor chopped into crumbs"
    assert small.n_chips == len([chip for block in small.blocks() for chip in small.chips.cores(block.core)])


def test_the_core_does_not_depend_on_the_block(scene: Path) -> None:
    keys = {planned(scene, shard=512, block=block).key for block in (512, 1024, 2048)}
    assert len(keys) == 1


def test_a_plan_counts_its_memory_and_names_the_core_that_would_fit(scene: Path) -> None:
    assert planned(scene, block=4096, shard=2048).memory.total_bytes >= planned(scene).memory.total_bytes
    with pytest.raises(
        Exception, match=r"would need .* GiB, more than `memory_per_worker` 0\.25 GiB.* first block"
    ) as said:
        planned(scene, memory_per_worker="256MiB")
    remedy = re.findall(r"`memory_per_worker=(\d+GiB)` would do", str(said.value))
    assert planned(scene, memory_per_worker=remedy[0])


@pytest.mark.parametrize(
    ("bytes_per_px", "limit", "remedy"), [(4000.0, "2GiB", "core"), (40000.0, "2GiB", "memory_per_worker")]
)
def test_what_a_blended_model_is_told_to_use_instead_can_be_planned(
    scene: Path, tmp_path: Path, bytes_per_px: float, limit: str, remedy: str
) -> None:
    arguments = '{"arch":"unet","decoder_channels":[16,8],"encoder_depth":2,"encoder_name":"resnet18"}'
    card = replace(
        card_of("smp", 2, 3, 4, arguments), bands=("green", "swir16"), quantities=("toa_reflectance",), overlap="blend",
        halo_px=64, core_px=1024, memory=(("fp32", bytes_per_px),),
    )  # fmt: skip
    write_card(tmp_path, seeded(card, tmp_path).card)
    with pytest.raises(Exception, match=r"would need .* GiB, more than `memory_per_worker` 2\.00 GiB") as said:
        planned(scene, model=str(tmp_path), memory_per_worker=limit)
    ((option, value),) = re.findall(r"`(\w+)=(\w+)` would", str(said.value))
    assert option == remedy
    again = planned(scene, model=str(tmp_path), **{"memory_per_worker": limit} | {option: value})
    assert again.chips.core_px >= 2 * again.chips.halo_px


def test_a_card_without_measured_memory_is_named_by_the_plan(scene: Path, tmp_path: Path) -> None:
    arguments = '{"arch":"unet","decoder_channels":[16,8],"encoder_depth":2,"encoder_name":"resnet18"}'
    card = seeded(
        replace(
            card_of("smp", 2, 3, 4, arguments), bands=("green", "swir16"), quantities=("toa_reflectance",), halo_px=32
        ),
        tmp_path,
    ).card
    common = {"scenes": (str(scene),), "scale": 1e-4, "quantity": "toa_reflectance", "out": str(tmp_path / "out")}
    for memory, told in (((), True), ((("fp32", 400.0),), False)):
        write_card(tmp_path, replace(card, memory=memory))
        made = plan(load({**common, "model": str(tmp_path)}), CPU)
        assert any("`earthloom models measure MODEL SCENE`" in text for _, text in made.notes) == told


def test_a_scene_of_one_shard_gets_the_chips_that_cost_least_though_they_do_not_divide_it(tmp_path: Path) -> None:
    square = write_scene(tmp_path / "a.tif", landscape(1300, 1300, 2), ("green", "swir16"))
    card = replace(
        card_of("smp", 2, 3, 4, '{"arch":"unet","decoder_channels":[16,8],"encoder_depth":2,"encoder_name":"resnet18"}'),
        bands=("green", "swir16"), quantities=("toa_reflectance",), halo_px=96, core_px=1024,
    )  # fmt: skip
    write_card(tmp_path, seeded(card, tmp_path).card)
    made = planned(square, model=str(tmp_path), shard=2048)
    assert (made.chips.core_px, made.n_chips) == (768, 4)
    assert planned(square, model=str(tmp_path), shard=1024).chips.core_px in (256, 512, 1024)
