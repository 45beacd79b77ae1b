"""Chains that end in objects or labels: cut into blocks they say what one chip over the whole scene says, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from shapely import box

from earthloom.models.cards import weights
from earthloom.models.cards.card import LabelRule, ModelCard, ModelClass, ObjectRule
from earthloom.models.cards.weights import sha256_of
from earthloom.models.inference.boxes import in_order
from earthloom.models.inference.chain import Stage, run_chain, windows
from earthloom.models.inference.footprints import Places
from earthloom.models.inference.labels import BlockLabels
from earthloom.models.inference.objects import BlockObjects
from earthloom.models.inference.predictor import Predictor
from earthloom.models.networks import registry
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window
from tests.models.nets import CPU, TinyClassifier, TinyNet, seeded
from tests.models.test_chain import Scene, Sharper, Wide, scene

SIZE = (88, 72)
CLASSES = tuple(ModelClass(value=v, name=f"c{v}", color=f"#00000{v}") for v in range(3))
CORE_PX = 16


@pytest.fixture(autouse=True, scope="module")
def _registry() -> Iterator[None]:
    known: dict[str, Any] = {"sharper": Sharper, "wide": Wide, "tiny": TinyNet, "tiny-classifier": TinyClassifier}
    with mock.patch.dict(registry.REGISTRY, known):
        yield


def card(architecture: str, **changes: Any) -> ModelCard:
    made: dict[str, Any] = {
        "name": architecture, "architecture": architecture, "bands": ("red", "nir"), "quantities": ("reflectance",),
        "mean": (0.25, 0.25), "std": (0.1, 0.1), "gsd_m": (1, 100), "classes": CLASSES, "stride_px": 1, "halo_px": 0,
    }  # fmt: skip
    return ModelCard(**made | changes)


SHARPER = card("sharper", classes=(), outputs=("red", "nir"), scale=2, halo_px=2)
CLOUDS = card("wide", masks=(0,), stride_px=4, halo_px=8)
WATER = card("wide", masks=(0, 2), stride_px=4, halo_px=8)
FINDER = card(
    "tiny", objects=ObjectRule(radius_px=3, threshold=0.5, size_px=4.0), activation="sigmoid", stride_px=2, halo_px=8
)
LABELLER = card("tiny-classifier", labels=LabelRule(), core_px=CORE_PX, halo_px=4)
ASKED = replace(LABELLER, name="asked", labels=LabelRule(footprints=True))
PLACES = Places.of(
    np.arange(30), np.array([box(5 * n, 4 * n + n % 3, 5 * n + 3 + n % 9, 4 * n + 8) for n in range(30)], object),
    Window(0, 0, 2 * SIZE[0], 2 * SIZE[1]),
)  # fmt: skip
"""In the finer pixels that SHARPER makes."""


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    """A predictor of each card; weights from a seed."""
    made = {}
    for each in (SHARPER, CLOUDS, FINDER, LABELLER, ASKED):
        torch.manual_seed(5)
        state, path = registry.build(each).state_dict(), None
        if state:
            path = tmp_path_factory.mktemp(each.name) / weights.FILE
            save_file({name: 3 * value for name, value in state.items()}, path)
        own = replace(each, weights=sha256_of(path)) if isinstance(path, Path) else each
        made[each.name] = Predictor(own, path, CPU, 1)
    return made


def stages_of(cards: Sequence[ModelCard], cores: Sequence[int]) -> tuple[Stage, ...]:
    """Of the scene, the last first."""
    factors = [int(np.prod([one.scale for one in cards[:n]], initial=1)) for n in range(len(cards))]
    stages, need = list[Stage](), 0
    for one, core, factor in reversed(list(zip(cards, cores, factors, strict=True))):
        chips = ChipGrid(
            scene=Window(0, 0, SIZE[0] * factor, SIZE[1] * factor), core_px=one.core_px if one.kind == "labels" else core,
            halo_px=PLACES.radius_px + CORE_PX // 2 + 5 if one is ASKED else one.halo_px or 0, stride_px=one.stride_px,
            margin_px=ceil_div(need, one.scale),
        )  # fmt: skip
        need = chips.margin_px + chips.halo_px
        stages.append(Stage(cards=(one,), chips=chips, precision="fp32", is_mask=bool(one.masks)))
    return tuple(stages[::-1])


def blocks_of(
    stages: Sequence[Stage], members: dict[str, Predictor], source: Scene, block_px: int
) -> list[tuple[Window, Any]]:
    """What the main stage makes of each block, from nothing but the block's own read window; the last block first."""
    main = next(number for number, stage in enumerate(stages) if stage.card.objects or stage.card.labels)
    found = []
    for core in reversed(list(stages[-1].chips.scene.zoom(stages[-1].card.scale).split(block_px))):
        _, read = windows(stages, core)[0]
        stack = source.stack(read, stages[0].reach_px)
        made = run_chain(
            stages, [[members[stage.card.name]] for stage in stages], [None] * len(stages), core, stack, frozenset({main}),
            PLACES,
        )  # fmt: skip
        found.append((core, made.made[main]))
    return found


OBJECT_CHAINS = {
    "finer pixels": (SHARPER, FINDER),
    "clouds before": (CLOUDS, FINDER),
    "only on water": (FINDER, WATER),
    "all of it": (CLOUDS, SHARPER, FINDER, WATER),
}


@pytest.mark.parametrize("name", OBJECT_CHAINS)
def test_objects_of_a_chain_in_blocks_are_those_of_the_whole_scene(name: str, members: dict[str, Predictor]) -> None:
    cards, source = OBJECT_CHAINS[name], scene(*SIZE, seed=2)
    ((_, whole),) = blocks_of(stages_of(cards, [256] * len(cards)), members, source, 256)
    assert isinstance(whole, BlockObjects)
    assert len(whole.found) > 10, "an empty table would prove little"
    for block_px in (32, 48):
        parts = blocks_of(stages_of(cards, [16] * len(cards)), members, source, block_px)
        together = in_order(np.concatenate([part.found for _, part in parts]))
        assert together.tobytes() == whole.found.tobytes()
        for core, part in parts:
            assert (part.heat == whole.heat[core.slices(whole.window)]).all()


def test_footprints_of_a_chain_in_blocks_are_those_of_the_whole_scene(members: dict[str, Predictor]) -> None:
    source = scene(*SIZE, seed=2)
    ((_, whole),) = blocks_of(stages_of((CLOUDS, SHARPER, ASKED), [256] * 3), members, source, 256)
    ((_, clear),) = blocks_of(stages_of((SHARPER, ASKED), [256] * 2), members, source, 256)
    assert 5 < len(whole.places) < len(clear.places), "under clouds nothing is said"
    for block_px in (32, 48):
        parts = blocks_of(stages_of((CLOUDS, SHARPER, ASKED), [16] * 3), members, source, block_px)
        for core, part in parts:
            assert (part.classes == whole.classes[core.slices(whole.window)]).all()
            assert part.probabilities.tobytes() == whole.over(core).probabilities.tobytes()
        assert sorted(n for _, part in parts for n in part.places.numbers) == whole.places.numbers.tolist()


def test_clouds_are_not_searched_and_land_has_no_objects(members: dict[str, Predictor]) -> None:
    source = scene(*SIZE, seed=2)
    everywhere, no_clouds, on_water = (
        blocks_of(stages_of(cards, [256] * len(cards)), members, source, 256)[0][1]
        for cards in ((FINDER,), (CLOUDS, FINDER), (FINDER, WATER))
    )
    counts = [len(each.found) for each in (everywhere, no_clouds, on_water)]
    assert counts[0] > counts[1] > 0
    assert counts[0] > counts[2] > 0
    assert (no_clouds.heat == NODATA).sum() > (everywhere.heat == NODATA).sum()
    places = [set(zip(each.found["row"], each.found["col"], strict=True)) for each in (everywhere, on_water)]
    assert places[1] < places[0], "a mask that follows takes objects away and makes none"
    at = on_water.heat[on_water.found["row"], on_water.found["col"]]
    assert (at != NODATA).all()


def test_an_object_counts_where_a_mask_leaves_a_pixel_near_its_centre(members: dict[str, Predictor]) -> None:
    source, near_px = scene(*SIZE, seed=2), 2  # half of the finder's usual side

    def whole(*cards: ModelCard) -> Any:
        return blocks_of(stages_of(cards, [256] * len(cards)), members, source, 256)[0][1]

    everywhere, on_water = whole(FINDER), whole(FINDER, WATER)
    with mock.patch.object(ObjectRule, "near_px", 0):
        by_centre = whole(FINDER, WATER)
    left = by_centre.heat != NODATA
    wanted = [
        found
        for found in everywhere.found
        if left[max(found["row"] - near_px, 0) : found["row"] + near_px + 1,
                max(found["col"] - near_px, 0) : found["col"] + near_px + 1].any()
    ]  # fmt: skip
    assert len(by_centre.found) < len(wanted) < len(everywhere.found)
    assert on_water.found.tobytes() == np.array(wanted).tobytes()


LABEL_CHAINS = {
    "finer pixels": (SHARPER, LABELLER),
    "clouds before": (CLOUDS, LABELLER),
    "only on water": (LABELLER, WATER),
    "all of it": (CLOUDS, SHARPER, LABELLER, WATER),
}


@pytest.mark.parametrize("name", LABEL_CHAINS)
def test_labels_of_a_chain_in_blocks_are_those_of_the_whole_scene(name: str, members: dict[str, Predictor]) -> None:
    cards, source = LABEL_CHAINS[name], scene(*SIZE, seed=2)
    ((_, whole),) = blocks_of(stages_of(cards, [256] * len(cards)), members, source, 256)
    assert isinstance(whole, BlockLabels)
    assert (whole.classes != NODATA).sum() > 0
    for block_px in (32, 48):
        for core, part in blocks_of(stages_of(cards, [16] * len(cards)), members, source, block_px):
            same = whole.over(core)
            assert (part.classes == same.classes).all()
            assert (part.confidence == same.confidence).all()
            known = part.classes != NODATA
            assert part.probabilities[:, known].tobytes() == same.probabilities[:, known].tobytes()


def test_a_mask_leaves_chips_undecided_of_which_too_little_is_left(members: dict[str, Predictor]) -> None:
    source = scene(*SIZE, seed=2)
    everywhere, on_water = (
        blocks_of(stages_of(cards, [256] * len(cards)), members, source, 256)[0][1]
        for cards in ((LABELLER,), (LABELLER, WATER))
    )
    decided = [each.classes != NODATA for each in (everywhere, on_water)]
    assert decided[0].sum() > decided[1].sum()
    assert (everywhere.classes[decided[1]] == on_water.classes[decided[1]]).all()


@pytest.mark.parametrize("axis", [1, 2], ids=["upside down", "left to right"])
def test_the_mean_over_mirror_images_says_of_a_mirror_image_the_mirrored_boxes(axis: int, tmp_path: Path) -> None:
    case = seeded(FINDER, tmp_path)
    predictor = Predictor(case.card, case.path, CPU, 1, flips=True)
    chip = torch.randn((2, 24, 32), generator=torch.Generator().manual_seed(1))

    def fill(of: torch.Tensor, out: torch.Tensor) -> None:
        out.copy_(of)

    def said(of: torch.Tensor) -> torch.Tensor:
        ((_, answer),) = predictor.run([of], fill, (24, 32))
        return answer.clone()

    straight, mirrored = said(chip), said(chip.flip(axis)).flip(axis)
    offset = {1: -1, 2: -2}[axis]  # rows are the last channel, columns the one before
    assert straight[offset].abs().max() > 0.01
    mirrored[offset] *= -1
    torch.testing.assert_close(mirrored, straight, atol=1e-5, rtol=1e-4)
