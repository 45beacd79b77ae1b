"""The memory plan of a worker: what makes it grow, by how much, and what does not. Its truth is measured by the bench."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from earthloom.jobs.planning.memory import AHEAD, FAR_AHEAD, MemoryPlan, Work, predict, publishing_bytes, survey_bytes
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.chain import Stage
from earthloom.models.zoo.enhance import ENTRIES
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.scene import Band
from earthloom.tiling.window import Window
from tests.models.nets import card_of

MIB = 2**20
SIDE_PX = 20_000


def stage(
    card: ModelCard, *, halo_px: int = 0, blend: bool = False, side_px: int = SIDE_PX, core_px: int = 1024
) -> Stage:
    chips = ChipGrid(
        scene=Window(0, 0, side_px, side_px), core_px=core_px, halo_px=halo_px, stride_px=card.stride_px, blend=blend
    )
    return Stage(cards=(card,), chips=chips, precision="fp32", flips=False, compiled=False, is_mask=False)


def planned(
    *stages: Stage, bands: int = 2, dtype: str = "uint16", passes: int = 1, ahead: int = AHEAD, keeps_pages: bool = False,
    **options: Any,
) -> MemoryPlan:  # fmt: skip
    sources = tuple(Band(name=f"b{n}", asset=0, index=n, dtype=dtype) for n in range(1, bands + 1))
    given = {"block_px": 2048, "shard_px": 2048, "stored_bytes": 2} | options
    return predict(Work(stages=stages, bands=sources, **given), passes=passes, ahead=ahead, keeps_pages=keeps_pages)


def test_a_network_counts_by_its_precision_and_twice_in_fp32_while_it_is_loaded() -> None:
    none, large = (planned(stage(MEASURED), network_bytes=size * MIB) for size in (0, 1000))
    assert (none.network_bytes, none.loading_bytes) == (0, 0)
    assert (large.network_bytes, large.loading_bytes) == (1000 * MIB, 2000 * MIB)
    half = planned(replace(stage(MEASURED), precision="bf16"), network_bytes=1000 * MIB)
    assert (half.network_bytes, half.loading_bytes) == (500 * MIB, 2000 * MIB)
    assert large.total_bytes == none.total_bytes + 1000 * MIB
    tiny_chips = planned(
        stage(MEASURED, side_px=64, core_px=64), network_bytes=10_000 * MIB, block_px=512, shard_px=512
    )
    assert tiny_chips.total_bytes == tiny_chips.idle_bytes == tiny_chips.base_bytes + 20_000 * MIB
    on_gpu = planned(stage(MEASURED), network_bytes=1000 * MIB, on_gpu=True)
    assert (on_gpu.network_bytes, on_gpu.loading_bytes) == (0, 2000 * MIB)


def test_a_network_that_needs_large_libraries_has_a_larger_base_also_below_others() -> None:
    ours, smp = planned(stage(WATER_INDEX[0])), planned(stage(MEASURED))
    assert smp.base_bytes > ours.base_bytes + 100 * MIB
    paired = replace(WATER_INDEX[0], architecture="paired", arguments='{"base":"smp"}')
    explained = replace(
        paired, architecture="explained", arguments=f'{{"base":"paired","arguments":{paired.arguments}}}'
    )
    assert planned(stage(paired)).base_bytes == planned(stage(explained)).base_bytes == smp.base_bytes


def test_a_run_of_one_block_has_one_in_memory_whatever_its_lanes() -> None:
    one, two, many = (planned(stage(WATER_INDEX[0], side_px=1500), n_blocks=n) for n in (1, 2, 9))
    assert two.blocks_bytes == 2 * one.blocks_bytes
    assert many.blocks_bytes == many.shape.lanes * one.blocks_bytes
    assert one.shape == many.shape, "what is done at once does not depend on it"


def test_a_scene_alone_is_published_in_the_place_of_its_blocks() -> None:
    alone, among = (planned(stage(WATER_INDEX[0]), n_scenes=n) for n in (1, 2))
    assert alone.scene_bytes < among.scene_bytes
    assert alone.shape.scene_bytes == among.shape.scene_bytes


def test_a_survey_counts_like_a_publication_by_what_it_looks_at() -> None:
    denoise = next(card for entry in ENTRIES for card in entry.cards if card.label == "denoise").bind(("a", "b", "c"))
    small, large = (survey_bytes([stage(denoise, side_px=side)]) for side in (512, SIDE_PX))
    assert (small, large) == (64 * 3 * 512**2, 64 * 3 * 2**21)
    assert survey_bytes([stage(WATER_INDEX[0])]) == 0
    assert planned(stage(denoise)).shape.scene_bytes == large


def test_layers_of_more_than_a_byte_are_counted_in_fp64() -> None:
    narrow, wide = (planned(stage(WATER_INDEX[0]), has_wide_layers=wide).blocks_bytes for wide in (False, True))
    assert wide - narrow == pytest.approx((AHEAD + 2) * 2048**2 * (12 - 2.5 * 2))


MEASURED = replace(card_of("smp", 2, 4, 16), memory=(("fp32", 1000.0), ("bf16", 500.0)))


def test_a_scene_of_any_size_needs_the_same() -> None:
    plans = [planned(stage(MEASURED, halo_px=96, side_px=side)) for side in (5_000, 20_000, 1_000_000)]
    sizes = [made.total_bytes - made.scene_bytes for made in plans]
    assert len(set(sizes)) == 1
    assert planned(stage(MEASURED, halo_px=96, side_px=300)).total_bytes < sizes[0], (
        "a block is not larger than its scene"
    )


def test_publishing_takes_a_blocks_lane_and_grows_with_a_row_of_tiles_and_a_record_for_each_shard() -> None:
    small, large, wide = (
        publishing_bytes(Window(0, 0, *size), 2048, 2) for size in ((256, 256), (20_000, 20_000), (200_000, 2_000))
    )
    assert small < 3 * MIB
    assert 100 * MIB < large < 200 * MIB, "not the 763 MiB of its layers"
    assert large < wide < 600 * MIB
    made = planned(stage(WATER_INDEX[0]))
    each = planned(stage(WATER_INDEX[0]), ahead=AHEAD + 1).blocks_bytes - made.blocks_bytes
    assert made.scene_bytes == pytest.approx(large - each, rel=0.01)
    assert planned(stage(WATER_INDEX[0], side_px=256)).scene_bytes < 48 * MIB


def test_the_total_is_the_sum_of_the_parts_and_never_below_what_an_idle_worker_takes() -> None:
    made = planned(stage(WATER_INDEX[0]))
    assert (
        made.total_bytes == made.base_bytes + made.chips_bytes + made.blocks_bytes + made.cache_bytes + made.scene_bytes
    )
    assert (made.network_bytes, made.loading_bytes) == (0, 0), "no network of its own"
    assert 400 * MIB < made.base_bytes < 500 * MIB
    assert min(made.chips_bytes, made.blocks_bytes, made.cache_bytes) >= 0


def test_chips_cost_the_cards_measured_bytes_for_each_pixel_chip_and_pass() -> None:
    one = planned(stage(MEASURED, halo_px=96)).chips_bytes
    assert one == pytest.approx((1024 + 2 * 96) ** 2 * 1000)
    assert planned(stage(MEASURED, halo_px=96), batch=3).chips_bytes == pytest.approx(3 * one)
    two_passes = planned(stage(MEASURED, halo_px=96), passes=2).chips_bytes
    assert 2 * one < two_passes < 2.2 * one, "and answers wait to be looked at"
    assert planned(stage(MEASURED, halo_px=96), keeps_pages=True).chips_bytes == pytest.approx(1.5 * one)
    coarse = replace(stage(MEASURED, halo_px=96), precision="bf16")
    assert planned(coarse).chips_bytes == pytest.approx(one / 2)


def test_pages_are_kept_up_to_a_sixth_below_the_predicted_peak() -> None:
    keeping = planned(stage(MEASURED, halo_px=96), passes=2, keeps_pages=True)
    assert keeping.shape.kept_bytes == keeping.total_bytes * 5 // 6
    assert planned(stage(MEASURED, halo_px=96), passes=2).shape.kept_bytes == 0


def test_on_a_gpu_chips_are_not_in_the_workers_memory() -> None:
    made, host = (planned(stage(MEASURED, halo_px=96, blend=True), on_gpu=on_gpu) for on_gpu in (True, False))
    assert made.chips_bytes == 0
    assert made.blocks_bytes < host.blocks_bytes, "nor is what blended chips are added up in"


def test_blocks_cost_their_values_mask_and_outputs_for_each_lane() -> None:
    near, far = (planned(stage(WATER_INDEX[0]), ahead=ahead) for ahead in (AHEAD, FAR_AHEAD))
    assert (near.shape.lanes, far.shape.lanes) == (AHEAD + 2, FAR_AHEAD + 2)
    held = 2048**2 * (2 * 2 + 1)
    layers = 2048**2 * 2
    each = (far.blocks_bytes - near.blocks_bytes) / (FAR_AHEAD - AHEAD)
    assert held + 3.4 * layers < each < held + 3.7 * layers + 20 * MIB


def test_the_widest_dtype_and_every_band_count() -> None:
    narrow = planned(stage(WATER_INDEX[0]), dtype="uint8").blocks_bytes
    wide = planned(stage(WATER_INDEX[0]), dtype="float64").blocks_bytes
    assert wide - narrow == pytest.approx((AHEAD + 2) * 2048**2 * 2 * 7)
    assert planned(stage(WATER_INDEX[0]), bands=4).blocks_bytes > planned(stage(WATER_INDEX[0])).blocks_bytes


def test_passes_that_a_block_has_no_chips_for_compute_several_blocks_at_once() -> None:
    one_chip = planned(stage(MEASURED, halo_px=96, core_px=2048), passes=4)
    many = planned(stage(MEASURED, halo_px=96, core_px=256), passes=4)
    assert (one_chip.shape.computing, many.shape.computing) == (4, 2)
    assert one_chip.shape.lanes == one_chip.shape.computing + AHEAD + 1


def test_of_a_chain_the_largest_stage_counts_whole_and_the_others_in_part() -> None:
    denoise = next(card for entry in ENTRIES for card in entry.cards if card.label == "denoise").bind(
        ("band0", "band1")
    )
    first, last = stage(denoise, halo_px=denoise.halo_px or 0), stage(MEASURED, halo_px=96)
    alone = [planned(part).chips_bytes for part in (first, last)]
    both = planned(first, last)
    assert max(alone) < both.chips_bytes < sum(alone)
    assert both.blocks_bytes > planned(last).blocks_bytes, "the image between them is held"
