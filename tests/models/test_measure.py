from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.class_map import BlockMap, ClassMap
from earthloom.models.measuring import measure as module
from earthloom.models.measuring import peak_memory
from earthloom.models.measuring.measure import agreement_at, measure
from earthloom.models.zoo.rules import WATER_INDEX
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window
from tests.models.nets import CPU, card_of, seeded, stack_of
from tests.scenes import landscape

SMP = '{"arch":"unet","decoder_channels":[32,16,8],"encoder_depth":3,"encoder_name":"%s"}'


@pytest.mark.slow
def test_the_measured_halo_is_the_smallest_without_seams(tmp_path: Path) -> None:
    case = seeded(card_of("smp", 4, 4, 8, SMP % "resnet18"), tmp_path)
    values, valid = landscape(264, 160, 4), np.ones((160, 264), np.bool_)
    found = measure(replace(case.card, core_px=128), case.path, CPU, stack_of(values, valid), precisions=())
    halo = found.card.halo_px
    assert (found.stride_px, found.support_px, found.card.overlap) == (8, 71, "exact")
    assert halo is not None
    assert found.agreement is not None
    assert found.agreement.is_seamless
    predictor = case.predictor(core_px=128)
    assert agreement_at(predictor, 72, 128, stack_of(values, valid)).identical
    assert not agreement_at(predictor, halo - 8, 128, stack_of(values, valid)).is_seamless
    assert found.card.flop_per_px is not None
    assert found.card.flop_per_px > 1000
    assert found.card.digest() == case.card.digest(), "measuring does not make another model of it"


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 9, 16, 39, 40, 41])
def test_the_smallest_halo_is_found_without_trying_twice_as_much(
    needed: int, tiny_registry: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In strides; the support takes 40 of them."""
    predictor = seeded(card_of("tiny", 2, 2, 2), tmp_path).predictor()

    def agreement(_predictor: object, halo_px: int, _core_px: int, _scene: object) -> Agreement:
        flips = float(halo_px < 2 * needed)
        return Agreement(identical=not flips, flips=flips, class_flips=flips)

    monkeypatch.setattr(module, "agreement_at", agreement)
    tried: dict[int, Agreement] = {}
    found = module._smallest_halo(predictor, 40, tried, stack_of(landscape(64, 64, 2)))
    assert found == (2 * needed if needed <= 40 else None)
    assert max(tried) <= 2 * min(max(2 * needed - 1, 1), 40)


def test_global_context_is_detected_and_blended(tmp_path: Path) -> None:
    case = seeded(card_of("smp", 4, 4, 8, SMP % "tu-mobilenetv3_small_100"), tmp_path)
    values, valid = landscape(100, 100, 4), np.ones((100, 100), np.bool_)
    card = measure(case.card, case.path, CPU, stack_of(values, valid), precisions=()).card
    assert (card.overlap, card.support_px, card.halo_px) == ("blend", None, 8)


def test_a_stride_that_is_too_small_is_refused(tmp_path: Path) -> None:
    case = seeded(card_of("smp", 4, 4, 4, SMP % "resnet18"), tmp_path)
    values, valid = landscape(100, 100, 4), np.ones((100, 100), np.bool_)
    with pytest.raises(CardError, match="says stride 4 but the network's is 8"):
        measure(case.card, case.path, CPU, stack_of(values, valid), precisions=())


@pytest.mark.parametrize("side", [0, 2])
def test_too_few_pixels_to_measure_on_are_refused(side: int) -> None:
    values, valid = np.zeros((2, side, side), np.uint16), np.ones((side, side), np.bool_)
    with pytest.raises(CardError, match="at least 4 px a side"):
        measure(WATER_INDEX[0], None, CPU, stack_of(values, valid), precisions=())


def test_bytes_per_pixel_are_those_of_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RUNS", 1)
    values, valid = landscape(64, 64, 2), np.ones((64, 64), np.bool_)
    found = measure(WATER_INDEX[0], None, CPU, stack_of(values, valid), precisions=("fp32",))
    assert (found.card.halo_px, found.card.support_px) == (0, 0)
    # two bands in: 4 stored and 8 as fp32 twice over; two logits and two probabilities out: 16; the rest is passing
    assert 28 < dict(found.card.memory)["fp32"] < 120


def test_a_peak_that_cannot_be_measured_gives_the_last_words_of_the_process() -> None:
    broken = replace(WATER_INDEX[0], architecture="nothing")
    with pytest.raises(Exception, match="unknown architecture 'nothing'"):
        peak_memory.peak_bytes(broken, None, CPU, 64)


def test_agreement_counts_flips_against_valid_pixels_and_each_class_against_its_own() -> None:
    whole = np.zeros((10, 100), np.uint8)
    whole[0, :4] = 1
    whole[9] = NODATA
    tiled = whole.copy()
    tiled[0, 0] = 0
    empty = np.zeros_like(whole)
    scene = Window(0, 0, 100, 10)
    answer = ClassMap(label="made", n_classes=2, gives_probabilities=False)
    found = answer.agreement(BlockMap(scene, tiled, empty), BlockMap(scene, whole, empty), whole != NODATA)
    assert (found.flips, found.class_flips, found.identical) == (1 / 900, 1 / 4, False)
    assert not found.is_seamless
