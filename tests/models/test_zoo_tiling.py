"""Every model of the zoo: the same answer however the scene is cut, and that of one pass at a halo of its support."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.class_map import BlockMap
from earthloom.models.inference.objects import BlockObjects
from earthloom.models.inference.passes import Threads
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import agreement_at, framed
from earthloom.models.networks.survey import Part
from earthloom.models.zoo import catalogue, variants
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import round_up
from earthloom.tiling.window import Window
from tests.models.nets import CPU, stack_of
from tests.scenes import landscape

_WIDTH, _HEIGHT = 150, 110
_WILD = ("blue", "green", "red", "nir")


@functools.cache
def predictor_of(label: str) -> Predictor:
    card = next(card for card, _ in catalogue() if card.label == label)
    try:
        folder = next(folder for found, folder in variants(card.name) if found.label == label)
    except CardError as error:
        pytest.skip(str(error))
    path = weights.fetch(folder, card.weights) if card.weights else None
    return Predictor(
        card.bind((*(band for band in card.bands if band != "*"), *_WILD)), path, CPU, 1, threads=Threads(2)
    )


def scene(card: ModelCard) -> Stack:
    """Smooth hills with a hole, in the range that the card's values have."""
    values, valid = landscape(_WIDTH, _HEIGHT, len(card.bands)), np.ones((_HEIGHT, _WIDTH), np.bool_)
    valid[30:50, 60:90] = False
    return stack_of(values, valid)


def _labels() -> Iterator[Any]:
    """Of every model; those whose network an earlier one has too are left to `make test-rest`."""
    seen = set()
    for card, _ in catalogue():
        network = json.loads(card.arguments).get("base", card.architecture)
        yield pytest.param(card.label, marks=[pytest.mark.zoo] if network in seen else [])
        seen.add(network)


@pytest.mark.slow
@pytest.mark.parametrize("label", _labels())
def test_a_model_of_the_zoo_gives_the_same_for_two_block_sizes_and_no_seams(label: str) -> None:
    predictor = predictor_of(label)
    card = predictor.card
    whole_scene = scene(card)
    valid = whole_scene.valid
    core_px = round_up(64, card.stride_px)
    blend = card.overlap == "blend"
    halo_px = round_up(16, card.stride_px) if blend else card.halo_px or 0
    chips = ChipGrid(
        scene=Window(0, 0, _WIDTH, _HEIGHT), core_px=core_px, halo_px=halo_px, stride_px=card.stride_px, blend=blend
    )
    context = None
    if card.needs_survey:
        seen = Part(chips.scene, predictor.normalise(whole_scene).numpy(), valid)
        context = predictor.context_of(predictor.surveying.look(chips.scene, [seen]))

    def made(core: Window) -> list[NDArray[np.generic]]:
        read = chips.read(core)
        found = predict_block(predictor, chips, core, framed(whole_scene, read, halo_px), context).made
        if isinstance(found, BlockMap):
            return [found.classes[None], found.confidence[None]]
        if isinstance(found, BlockObjects):
            placed = np.zeros(core.shape, found.found.dtype)
            placed[found.found["row"] - core.row_off, found.found["col"] - core.col_off] = found.found
            return [found.heat[None], placed[None]]
        hole = np.kron(valid[core.slices(chips.scene)], np.ones((card.scale, card.scale), bool))
        return [torch.where(torch.from_numpy(hole), found, 0).numpy()]

    whole = made(chips.scene)
    for core in chips.scene.split(core_px):
        where = core.zoom(card.scale).slices(chips.scene.zoom(card.scale))
        for part, everything in zip(made(core), whole, strict=True):
            assert np.array_equal(part, everything[(slice(None), *where)])
    if card.outputs:
        assert np.isfinite(whole[0]).all()
    else:
        assert np.array_equal(whole[0][0] == 255, ~valid)
    if not blend:
        # a halo below the support is good for the real scenes that it was measured on, in tests of those models
        assert card.support_px is not None
        reach_px = round_up(card.support_px, card.stride_px)
        assert agreement_at(predictor, reach_px, core_px, whole_scene).identical


def test_mutant_a_card_with_half_its_halo_shows_seams() -> None:
    predictor = predictor_of("landwater-4b")
    assert not agreement_at(predictor, 16, 64, scene(predictor.card)).identical
    assert replace(predictor.card, halo_px=16).digest() == predictor.card.digest(), "the halo is in the scene's key"
