"""Objects by themselves: which pixel is a centre, what of it depends on the cut (nothing), and which boxes are merged."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from earthloom.models.cards.card import ModelCard, ObjectRule
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.boxes import OBJECT, Found, corners, in_order, merge, overlap, scores
from earthloom.models.inference.objects import BlockObjects, Objects
from earthloom.models.measuring.measure import measure
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window
from tests.models.nets import CPU, card_of, seeded, stack_of
from tests.scenes import landscape

SCENE = Window(0, 0, 50, 37)
CHIPS = ChipGrid(scene=SCENE, core_px=8, halo_px=4, stride_px=2)
RULE = ObjectRule(radius_px=3, threshold=0.4, merge_iou=0.5, size_px=4.0)
OBJECTS = Objects(label="made", n_classes=2, rule=RULE)
ALL_VALID = np.ones(SCENE.shape, np.bool_)


def objects_card(**changes: Any) -> ModelCard:
    card = card_of("tiny", 2, 2, 2)
    return replace(card, **{"objects": RULE, "activation": "sigmoid", "task": "object-detection", **changes})


def whole_answer(seed: int, *, steps: float) -> Tensor:
    """(K + 4, h, w) over the chips' extent; the coarser the steps, the more pixels are equal."""
    dice = np.random.default_rng(seed)
    numbers = dice.normal(0, 1.5, (OBJECTS.values_per_px, *CHIPS.extent.shape))
    return torch.from_numpy((np.round(numbers / steps) * steps).astype(np.float32))


def woven(whole: Tensor, core: Window, valid: NDArray[np.bool_] = ALL_VALID) -> BlockObjects:
    """What a canvas makes of the parts of one answer that the chips of `core` see, in an order of its own."""
    canvas = OBJECTS.canvas(CHIPS, core, "cpu")
    for owned in CHIPS.cores(core)[::-1]:
        read = owned.grow(CHIPS.halo_px)
        canvas.add(read, owned, [whole[(slice(None), *read.slices(CHIPS.extent))].clone()])
    return canvas.finish(valid[core.slices(SCENE)])


def found_of(rows: list[tuple[float, ...]]) -> Found:
    """Objects of one class from (row, col, logit, width, height)."""
    made = np.zeros(len(rows), OBJECT)
    for place, name in enumerate(("row", "col", "logit", "width", "height")):
        made[name] = [row[place] for row in rows]
    return made


# ---- peaks


@given(seed=st.integers(0, 10**6), steps=st.sampled_from([0.01, 0.5, 2.0]))
@settings(deadline=None, max_examples=25)
def test_centres_are_the_maxima_that_scipy_finds_and_of_equals_the_first(seed: int, steps: float) -> None:
    whole = whole_answer(seed, steps=steps)
    expected = []
    radius, least = RULE.radius_px, np.float32(math.log(0.4 / 0.6))
    for value in range(OBJECTS.n_classes):
        logits = whole[(value, *SCENE.slices(CHIPS.extent))].numpy()
        best = maximum_filter(logits, 2 * radius + 1, mode="constant", cval=-np.inf)
        for row, col in np.argwhere((logits == best) & (logits >= least)):
            top, left = max(0, row - radius), max(0, col - radius)
            around = logits[top : row + radius + 1, left : col + radius + 1]
            first_row, first_col = np.argwhere(around == logits[row, col])[0]
            if (first_row + top, first_col + left) == (row, col):
                expected.append((row, col, value))
    found = woven(whole, SCENE).found
    assert list(zip(found["row"], found["col"], found["class"], strict=True)) == sorted(expected)
    for each in found:
        at = whole[(slice(None), each["row"] + 4, each["col"] + 4)].numpy()
        assert each["logit"] == at[each["class"]]
        assert (each["dx"], each["dy"]) == (at[4], at[5])
        assert (each["width"], each["height"]) == tuple(np.maximum(at[2:4] * 4, 1))


@given(
    seed=st.integers(0, 10**6), steps=st.sampled_from([0.01, 0.5]), width=st.integers(5, 50), height=st.integers(5, 37)
)
@settings(deadline=None, max_examples=15)
def test_objects_do_not_depend_on_how_the_scene_is_cut_into_blocks(
    seed: int, steps: float, width: int, height: int
) -> None:
    whole = whole_answer(seed, steps=steps)
    valid = np.random.default_rng(seed).uniform(size=SCENE.shape) > 0.2
    at_once = woven(whole, SCENE, valid)
    blocks = [
        Window(col, row, width, height) & SCENE
        for col in range(0, SCENE.width, width)
        for row in range(0, SCENE.height, height)
    ]
    parts = [woven(whole, block, valid) for block in blocks]
    together = in_order(np.concatenate([part.found for part in parts]))
    assert together.tobytes() == at_once.found.tobytes()
    for block, part in zip(blocks, parts, strict=True):
        assert (part.heat == at_once.heat[block.slices(SCENE)]).all()
        assert at_once.over(block).found.tobytes() == part.found.tobytes()


def test_the_heat_is_the_probability_of_the_likeliest_class_and_nodata_where_not_valid() -> None:
    whole = whole_answer(1, steps=0.01)
    valid = ALL_VALID.copy()
    valid[5:9, 7:20] = False
    made = woven(whole, SCENE, valid)
    logits = whole[(slice(2), *SCENE.slices(CHIPS.extent))].double()
    expected = (logits.amax(dim=0).sigmoid() * 250).numpy()
    assert np.abs(made.heat[valid] - expected[valid]).max() <= 0.5 + 1e-4
    assert (made.heat[~valid] == NODATA).all()
    assert valid[made.found["row"], made.found["col"]].all()
    hidden = np.zeros(SCENE.shape, np.bool_)
    hidden[:, :25] = True
    rest = made.hide(hidden)
    assert (rest.found["col"] >= 25).all()
    assert len(rest.found) == (made.found["col"] >= 25).sum()
    assert (rest.heat[:, :25] == NODATA).all()


def test_a_reflection_beyond_the_scene_is_no_rival_of_a_centre_at_its_edge() -> None:
    whole = torch.full((OBJECTS.values_per_px, *CHIPS.extent.shape), -5.0)
    whole[0, 4, 14], whole[0, 3, 14] = 1.0, 2.0  # row 0 of the scene, and the row above it
    found = woven(whole, SCENE).found
    assert [(each["row"], each["col"]) for each in found] == [(0, 10)]


def test_boxes_stay_finite_whatever_the_network_says() -> None:
    whole = whole_answer(2, steps=0.01)
    whole[2:] = torch.tensor([math.nan, math.inf, -math.inf, 1e30]).reshape(4, 1, 1)
    found = woven(whole, SCENE).found
    assert len(found)
    assert np.isfinite(corners(found)).all()


# ---- boxes


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, st.integers(-1, 2), *[st.integers(1, 9)] * 2), max_size=25),
    st.randoms(),
)
@settings(deadline=None, max_examples=50)
def test_merging_is_the_greedy_rule_whatever_the_order(rows: list[tuple[float, ...]], shuffler: Any) -> None:
    rows = list({row[:2]: row for row in rows}.values())
    given_rows = sorted(rows, key=lambda row: (-row[2], row[0], row[1]))
    kept: list[tuple[float, ...]] = []
    for row in given_rows:  # Neubeck and Van Gool 2006, algorithm 1
        one = corners(found_of([row]))[0]
        if all(overlap(one, corners(found_of([other])))[0] <= 0.3 for other in kept):
            kept.append(row)
    shuffler.shuffle(rows)
    stays = merge(found_of(rows), 0.3)
    assert [(each["row"], each["col"]) for each in stays] == sorted(row[:2] for row in kept)


def test_boxes_of_different_classes_are_not_merged() -> None:
    twins = found_of([(5, 5, 1, 4, 4), (5, 6, 2, 4, 4)])
    assert [each["col"] for each in merge(twins, 0.3)] == [6]
    twins["class"][0] = 1
    assert len(merge(twins, 0.3)) == 2


def test_overlap_and_score_are_those_of_the_textbook() -> None:
    shared = overlap(np.array([0.0, 0, 4, 4]), np.array([[2.0, 0, 6, 4], [0, 0, 4, 4], [9, 9, 10, 10]]))
    assert shared == pytest.approx([8 / 24, 1, 0])
    logits = np.array([-800.0, -1.0, 0.0, 3.0], np.float32)
    found = np.zeros(4, OBJECT)
    found["logit"] = logits
    assert scores(found) == pytest.approx(torch.from_numpy(logits).double().sigmoid().numpy())


# ---- cards


def test_a_card_of_objects_comes_back_from_its_item_and_says_what_it_gives() -> None:
    card = objects_card(halo_px=8)
    item = to_item(card, weights_name="weights.safetensors", n_parameters=0)
    assert from_item(item) == card
    (output,) = item["properties"]["mlm:output"]
    assert (output["name"], output["tasks"], output["result"]["shape"][1]) == ("objects", ["object-detection"], 6)
    assert (card.kind, card.makes, card.sizes) == ("objects", "objects: class_0, class_1", {"classes": 6})
    assert answer_of(card) == OBJECTS
    assert card.digest() != replace(card, objects=replace(RULE, merge_iou=0.4)).digest()


def test_the_digest_of_a_card_without_objects_is_what_it_was() -> None:
    assert card_of("tiny", 2, 2, 2).digest() == "1315b0fc25bae7d8a41fc6765fecfc5c4908c32096d01eea5de030728919acb9"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap": "blend"}, "exact tiles only"),
        ({"masks": (1,)}, "mask nothing"),
        ({"activation": "softmax"}, "'sigmoid' of objects"),
        ({"objects": None}, "'sigmoid' of objects"),
        ({"halo_px": 2}, "less than radius_px 3"),
        ({"scale": 2}, "scale"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CardError, match=words):
        objects_card(**changes)


@pytest.mark.parametrize("wrong", [{"radius_px": 0}, {"threshold": 1.0}, {"merge_iou": 0.0}, {"size_px": math.inf}])
def test_a_rule_out_of_its_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CardError, match=next(iter(wrong))):
        ObjectRule(**wrong)


def test_what_objects_cannot_do_is_refused() -> None:
    for others, chips in ((OBJECTS,), CHIPS), ((), replace(CHIPS, blend=True)):
        with pytest.raises(CardError, match="neither averaged"):
            OBJECTS.canvas(chips, SCENE, "cpu", others)
    with pytest.raises(CardError, match="masks nothing"):
        OBJECTS.masked(woven(whole_answer(0, steps=1.0), SCENE))
    with pytest.raises(CardError, match="two of the offset"):
        OBJECTS.check(torch.zeros(1, 5, 8, 8), (1, 2, 8, 8))


def test_the_measured_halo_covers_the_support_and_the_radius(tiny_registry: None, tmp_path: Any) -> None:
    case = seeded(objects_card(core_px=32), tmp_path)
    found = measure(case.card, case.path, CPU, stack_of(landscape(80, 72, 2)), precisions=())
    assert (found.support_px, found.card.halo_px) == (4, 8)
    assert found.agreement is not None
    assert found.agreement.identical
