"""Footprints by themselves: what each gets depends on nothing but the chip around it, whatever the cut of the scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box

from earthloom.models.cards.card import LabelRule, ModelCard
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.inference.around import predict_footprints
from earthloom.models.inference.footprints import BlockFootprints, Places
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import framed
from earthloom.models.networks import registry
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window
from tests.models.nets import CPU, TinyClassifier, stack_of
from tests.models.test_labels import CORE_PX, HALO_PX, drawn, labels_card
from tests.scenes import landscape

SIDE = 96
SCENE = Window(0, 0, SIDE, SIDE)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    with mock.patch.dict(registry.REGISTRY, {"tiny-classifier": TinyClassifier}):
        card, path = drawn(labels_card(), tmp_path_factory.mktemp("model"))
        yield Predictor(replace(card, labels=LabelRule(footprints=True)), path, CPU, 2)


def scene_of(hole: Window) -> Stack:
    stack = stack_of(landscape(SIDE, SIDE, 2))
    hidden = np.zeros(SCENE.shape, np.bool_)
    hidden[hole.slices(SCENE)] = True
    return stack.hide(hidden)


def answered(predictor: Predictor, scene: Stack, places: Places, core: Window) -> BlockFootprints:
    chips = ChipGrid(
        scene=SCENE, core_px=32, halo_px=places.radius_px + CORE_PX // 2 + HALO_PX + 1, stride_px=1
    )  # as jobs.planning.footprints makes it
    found: BlockFootprints = predict_footprints(
        [predictor], SCENE, core, framed(scene, chips.read(core), chips.halo_px), places
    ).made
    return found


boxes = st.tuples(st.floats(-9, 100), st.floats(-9, 100), st.floats(0.05, 30), st.floats(0.05, 30))


@settings(deadline=None, max_examples=40)
@given(
    rectangles=st.lists(boxes, max_size=12), cut=st.tuples(st.integers(1, SIDE - 1), st.integers(1, SIDE - 1)),
    hole=st.builds(Window, st.integers(0, 80), st.integers(0, 80), st.integers(1, 40), st.integers(1, 40)),
)  # fmt: skip
def test_what_blocks_say_is_what_one_block_says_and_each_footprint_is_told_once(
    predictor: Predictor, rectangles: list[tuple[float, float, float, float]], cut: tuple[int, int], hole: Window
) -> None:
    outlines = np.empty(len(rectangles), object)
    outlines[:] = [box(x, y, x + w, y + h) for x, y, w, h in rectangles]
    places = Places.of(np.arange(len(rectangles)), outlines, SCENE)
    scene = scene_of(hole & SCENE)
    whole = answered(predictor, scene, places, SCENE)
    told: list[tuple[int, bytes]] = []
    for rows in ((0, cut[0]), (cut[0], SIDE)):
        for cols in ((0, cut[1]), (cut[1], SIDE)):
            core = Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])
            part, same = answered(predictor, scene, places, core), whole.over(core)
            assert part.classes.tobytes() == same.classes.tobytes()
            assert part.confidence.tobytes() == same.confidence.tobytes()
            assert part.places.numbers.tolist() == same.places.numbers.tolist()
            told += zip(part.places.numbers.tolist(), [row.tobytes() for row in part.probabilities], strict=True)
    expected = zip(whole.places.numbers.tolist(), [row.tobytes() for row in whole.probabilities], strict=True)
    assert sorted(told) == sorted(expected)
    at = whole.places.rows, whole.places.cols
    assert (whole.classes[at] != 255).all(), "a footprint is on the map, however small"
    assert (whole.classes[~scene.valid] == 255).all()


def test_a_footprint_gets_what_the_network_says_of_the_chip_around_its_middle(predictor: Predictor) -> None:
    scene = scene_of(Window(0, 0, 0, 0))
    outlines = np.array([box(40, 50, 52, 61), box(70.2, 20.2, 70.4, 20.4)], object)
    found = answered(predictor, scene, Places.of(np.arange(2), outlines, SCENE), SCENE)
    assert list(zip(found.places.rows, found.places.cols, strict=True)) == [(55, 46), (20, 70)]
    normalised, half = predictor.normalise(scene), CORE_PX // 2 + HALO_PX
    for number, (row, col) in enumerate(((55, 46), (20, 70))):
        chip = normalised[:, row - half : row + half, col - half : col + half]
        with torch.inference_mode():
            expected = predictor.module(chip[None])[0, :, 0, 0].softmax(0).numpy()
        assert found.probabilities[number] == pytest.approx(expected, abs=1e-6)
    inside = np.zeros(SCENE.shape, np.bool_)
    inside[50:61, 40:52] = True
    inside[20, 70] = True
    assert ((found.classes != 255) == inside).all()


def test_too_little_ground_around_it_leaves_a_footprint_without_a_class(predictor: Predictor) -> None:
    outlines = np.array([box(40, 40, 44, 44)], object)
    places = Places.of(np.arange(1), outlines, SCENE)
    assert len(answered(predictor, scene_of(Window(34, 34, 16, 7)), places, SCENE).places) == 1
    assert len(answered(predictor, scene_of(Window(34, 34, 16, 10)), places, SCENE).places) == 0
    assert len(answered(predictor, scene_of(Window(42, 42, 1, 1)), places, SCENE).places) == 0, "its middle has no data"


def as_item(card: ModelCard) -> dict[str, Any]:
    return to_item(card, weights_name="weights.safetensors", n_parameters=1)


def test_what_a_card_says_of_footprints_survives_its_file_and_leaves_other_digests_alone() -> None:
    card: ModelCard = labels_card()
    asked = replace(card, labels=LabelRule(footprints=True))
    assert (card.kind, asked.kind) == ("labels", "footprints")
    assert asked.digest() != card.digest()
    assert "footprints" not in as_item(card)["properties"]["earthloom:labels"]
    assert as_item(asked)["properties"]["earthloom:labels"]["footprints"] is True
    for one in (card, asked):
        assert from_item(as_item(one)).labels == one.labels
