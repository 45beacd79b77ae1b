"""Each kind of answer by itself, on tensors made by hand: no network, no predictor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.class_map import BlockMap, ClassMap, blend_weights
from earthloom.models.inference.image import Image
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window
from tests.models.nets import card_of, stack_of

SCENE = Window(0, 0, 24, 16)
EXACT = ChipGrid(scene=SCENE, core_px=8, halo_px=4, stride_px=2)
BLENDED = replace(EXACT, blend=True)
CLASSES = ClassMap(label="made", n_classes=3, gives_probabilities=True, masks=(2,))
IMAGE = Image(label="made", bands=("red", "nir"), scale=2, mean=(0.25, 0.5), std=(0.1, 0.2))


def image_card(output_dtype: str = "") -> ModelCard:
    return replace(
        card_of("tiny", 3, 3, 2), classes=(), outputs=("band2", "band0"), std=(0.1, 0.2, 0.3), scale=2,
        output_dtype=output_dtype,
    )  # fmt: skip


def whole_answer(kind: ClassMap | Image, seed: int = 0) -> Tensor:
    """(K, scale * h, scale * w) for `EXACT.extent`: probabilities of classes, or numbers around 0."""
    dice = torch.Generator().manual_seed(seed)
    size = (kind.values_per_px // kind.scale**2, *EXACT.extent.zoom(kind.scale).shape)
    numbers = torch.randn(size, generator=dice)
    return numbers.softmax(dim=0) if isinstance(kind, ClassMap) else numbers


def woven(
    kind: ClassMap | Image, chips: ChipGrid, core: Window, whole: Tensor, valid: np.ndarray | None = None
) -> object:
    """What a canvas makes of the parts of one answer to the whole scene that the chips of `core` see."""
    canvas = kind.canvas(chips, core, "cpu")
    for owned in chips.cores(core):
        read = owned.grow(chips.halo_px)
        inside = read.zoom(kind.scale).slices(chips.extent.zoom(kind.scale))
        canvas.add(read, owned, [whole[(slice(None), *inside)].clone()])
    return canvas.finish(np.ones(core.shape, np.bool_) if valid is None else valid)


# ---- which kind, and what shape


def test_a_card_gives_the_kind_that_its_classes_or_outputs_say() -> None:
    assert answer_of(card_of("tiny", 2, 3, 2)) == ClassMap(label="made", n_classes=3, gives_probabilities=False)
    made = answer_of(image_card())
    assert made == Image(label="made", bands=("band2", "band0"), scale=2, mean=(0.25, 0.25), std=(0.3, 0.1))
    assert answer_of(image_card(output_dtype="uint8")) == replace(made, mean=(), std=())


@pytest.mark.parametrize(
    ("kind", "wrong", "wanted"),
    [(CLASSES, (1, 3, 8, 6), (1, 3, 8, 8)), (CLASSES, (1, 2, 8, 8), (1, 3, 8, 8)), (CLASSES, (2, 3, 8, 8), (1, 3, 8, 8)),
     (IMAGE, (1, 2, 8, 8), (1, 2, 16, 16)), (IMAGE, (1, 3, 16, 16), (1, 2, 16, 16))],
)  # fmt: skip
def test_an_answer_of_another_shape_is_refused_with_both_shapes(
    kind: ClassMap | Image, wrong: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    chips = (1, 4, 8, 8)
    kind.check(torch.zeros(wanted), chips)
    with pytest.raises(CardError) as refusal:
        kind.check(torch.zeros(wrong), chips)
    for shape in (chips, wrong, wanted):
        assert str(shape) in str(refusal.value)
    with pytest.raises(CardError, match="give tuple, but"):
        kind.check((torch.zeros(wanted),), chips)


def test_two_classes_may_come_as_one_logit_but_not_as_one_probability() -> None:
    two = replace(CLASSES, n_classes=2, gives_probabilities=False)
    two.check(torch.zeros(1, 1, 8, 8), (1, 4, 8, 8))
    with pytest.raises(CardError, match="2 classes need"):
        replace(two, gives_probabilities=True).check(torch.zeros(1, 1, 8, 8), (1, 4, 8, 8))


# ---- from chips to a block


@pytest.mark.parametrize("kind", [CLASSES, IMAGE], ids=["class map", "image"])
@pytest.mark.parametrize("core", [SCENE, Window(8, 0, 8, 16), Window(16, 8, 8, 8)], ids=str)
def test_a_pixel_is_decided_by_the_chip_that_owns_it(kind: ClassMap | Image, core: Window) -> None:
    whole = whole_answer(kind)
    inside = (slice(None), *core.zoom(kind.scale).slices(EXACT.extent.zoom(kind.scale)))
    made = woven(kind, EXACT, core, whole)
    if isinstance(made, BlockMap):
        best = whole[inside].max(dim=0)
        assert made.window == core
        assert np.array_equal(made.classes, best.indices.numpy())
        assert np.array_equal(made.confidence, (best.values * 250).round().numpy())
    else:
        std, mean = (torch.tensor(values)[:, None, None] for values in (IMAGE.std, IMAGE.mean))
        torch.testing.assert_close(made, whole[inside] * std + mean)


def test_a_chip_does_not_touch_pixels_that_others_own() -> None:
    canvas = CLASSES.canvas(EXACT, SCENE, "cpu")
    owned = Window(8, 8, 8, 8)
    canvas.add(owned.grow(4), owned, [torch.eye(3)[1][:, None, None].expand(3, 16, 16).clone()])
    made = canvas.finish(np.ones(SCENE.shape, np.bool_))
    expected = np.full(SCENE.shape, NODATA)
    expected[owned.slices(SCENE)] = 1
    assert np.array_equal(made.classes, expected)


def test_pixels_that_are_not_valid_are_nodata_in_both_layers() -> None:
    valid = np.random.default_rng(0).random(SCENE.shape) > 0.3
    for chips in (EXACT, BLENDED):
        made = woven(CLASSES, chips, SCENE, whole_answer(CLASSES), valid)
        assert isinstance(made, BlockMap)
        assert np.array_equal(made.classes == NODATA, ~valid)
        assert np.array_equal(made.confidence == NODATA, ~valid)


@given(steps=st.integers(1, 8), halo=st.integers(1, 16))
@settings(deadline=None)
def test_weights_of_neighbours_add_up_to_one_and_never_vanish(steps: int, halo: int) -> None:
    core = 2 * halo + steps - 1
    weights = blend_weights(ChipGrid(scene=SCENE, core_px=core, halo_px=halo, stride_px=1, blend=True))
    assert weights.shape == (core + 2 * halo,)
    assert weights.dtype == np.float32
    assert np.array_equal(weights, weights[::-1])
    assert (weights > 0).all()
    assert (weights[2 * halo : core] == 1).all()
    assert (np.diff(weights[: 2 * halo]) > 0).all()
    np.testing.assert_allclose(weights[-2 * halo :] + weights[: 2 * halo], 1, atol=1e-6)
    assert weights[halo] >= 0.5, "what a scene's edge keeps of its only chip"


def test_chips_that_agree_are_cross_faded_to_what_they_say() -> None:
    whole = whole_answer(CLASSES)
    exact, blended = (woven(CLASSES, chips, SCENE, whole) for chips in (EXACT, BLENDED))
    assert isinstance(exact, BlockMap)
    assert isinstance(blended, BlockMap)
    assert np.array_equal(exact.classes, blended.classes)
    assert np.abs(exact.confidence.astype(int) - blended.confidence).max() <= 1


def test_a_cross_faded_map_does_not_depend_on_the_block() -> None:
    """Each chip says something else, so that the weights and the order of adding show."""
    answers = {owned: whole_answer(CLASSES, seed)[:, :16, :16] for seed, owned in enumerate(BLENDED.cores(SCENE))}

    def made(core: Window) -> BlockMap:
        canvas = CLASSES.canvas(BLENDED, core, "cpu")
        for owned in BLENDED.cores(core):
            canvas.add(owned.grow(4), owned, [answers[owned].clone()])
        return canvas.finish(np.ones(core.shape, np.bool_))

    whole = made(SCENE)
    for core in SCENE.split(8):
        part = whole.over(core)
        assert np.array_equal(made(core).classes, part.classes)
        assert np.array_equal(made(core).confidence, part.confidence)


def test_an_ensemble_is_the_mean_of_probabilities_and_images_make_none() -> None:
    logits = replace(CLASSES, gives_probabilities=False)
    canvas = CLASSES.canvas(EXACT, SCENE, "cpu", [logits])
    one, two = torch.tensor([0.5, 0.4, 0.1]), torch.tensor([0.1, 0.6, 0.3])
    owned = Window(0, 0, 8, 8)
    canvas.add(owned.grow(4), owned, [part[:, None, None].expand(3, 16, 16).clone() for part in (one, two.log())])
    made = canvas.finish(np.ones(SCENE.shape, np.bool_))
    assert (made.classes[0, 0], made.confidence[0, 0]) == (1, 125)
    with pytest.raises(CardError, match="neither averaged over an ensemble of 2 nor cross-faded"):
        IMAGE.canvas(EXACT, SCENE, "cpu", [IMAGE])
    with pytest.raises(CardError, match="leave its overlap exact"):
        IMAGE.canvas(BLENDED, SCENE, "cpu")


# ---- how well two answers agree


def test_maps_agree_as_far_as_their_flips_on_valid_pixels() -> None:
    classes, confidence = np.zeros((10, 100), np.uint8), np.full((10, 100), 200, np.uint8)
    classes[0, :40] = 1
    valid = np.ones((10, 100), np.bool_)
    valid[9] = False
    whole = BlockMap(Window(0, 0, 100, 10), classes, confidence)
    assert CLASSES.agreement(whole, whole, valid).identical
    flipped = classes.copy()
    flipped[0, 0] = 2  # class 1 loses one of 40, class 2 had none
    flipped[9] = 1  # below nodata
    found = CLASSES.agreement(replace(whole, classes=flipped), whole, valid)
    assert (found.identical, found.flips, found.class_flips) == (False, 1 / 900, 1.0)
    assert not found.is_seamless
    surer = CLASSES.agreement(replace(whole, confidence=confidence + 1), whole, valid)
    assert (surer.identical, surer.flips, surer.is_seamless) == (False, 0.0, True)


def test_images_agree_in_every_bit_that_lies_over_a_valid_pixel_or_not_at_all() -> None:
    valid = np.ones((4, 5), np.bool_)
    valid[1, 2] = False
    whole = torch.rand(2, 8, 10, generator=torch.Generator().manual_seed(0))
    tiled = whole.clone()
    tiled[:, 2:4, 4:6] += 1
    assert IMAGE.agreement(tiled, whole, valid).is_seamless
    tiled[1, 0, 0] = torch.nextafter(tiled[1, 0, 0], torch.tensor(2.0))
    found = IMAGE.agreement(tiled, whole, valid)
    assert (found.identical, found.flips, found.is_seamless) == (False, 1.0, False)


# ---- what later stages get


def test_a_mask_hides_its_classes_and_an_image_masks_nothing() -> None:
    classes = np.array([[0, 1, 2], [2, NODATA, 0]], np.uint8)
    made = BlockMap(Window(4, 6, 3, 2), classes, np.full((2, 3), 99, np.uint8))
    hidden = CLASSES.masked(made)
    assert hidden.tolist() == [[False, False, True], [True, False, False]]
    kept = made.hide(hidden)
    assert kept.classes.tolist() == [[0, 1, 255], [255, 255, 0]]
    assert kept.confidence.tolist() == [[99, 99, 255], [255, 99, 99]]
    assert made.classes.tolist() == classes.tolist(), "what was made stays as it is"
    with pytest.raises(CardError, match="makes an image and masks nothing"):
        IMAGE.masked(torch.zeros(2, 4, 4))


def test_a_part_of_a_map_knows_where_it_lies() -> None:
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    made = BlockMap(Window(10, 20, 4, 3), classes, classes + 100)
    part = made.over(Window(11, 21, 2, 2))
    assert part.window == Window(11, 21, 2, 2)
    assert part.classes.tolist() == [[5, 6], [9, 10]]
    assert part.confidence.tolist() == [[105, 106], [109, 110]]


def test_later_stages_read_an_image_in_place_of_its_bands_and_a_map_not_at_all() -> None:
    stack = replace(stack_of(np.ones((3, 4, 5), np.uint16)), names=("red", "nir", "blue"))
    same, kept = CLASSES.settle(stack, BlockMap(stack.window, *np.zeros((2, 4, 5), np.uint8)), {"red"})
    assert same is stack
    assert isinstance(kept, BlockMap)
    after, image = IMAGE.settle(stack, torch.zeros(2, 8, 10), {"blue"})
    assert after is image
    assert (after.names, after.window, tuple(after.values.shape)) == (("red", "nir"), Window(0, 0, 10, 8), (2, 8, 10))


# ---- bytes


def test_bytes_are_those_of_the_buffers() -> None:
    sizes = CLASSES.woven_bytes(blend=False), CLASSES.woven_bytes(blend=True), CLASSES.passed_bytes(is_first=True)
    assert sizes == (0, 4 * (3 + 1), 0), "a sum per class and the weights"
    assert (CLASSES.values_per_px, CLASSES.stored_bytes) == (3, 2)
    assert (IMAGE.values_per_px, IMAGE.woven_bytes(blend=False)) == (2 * 2**2, 0)
    assert (IMAGE.passed_bytes(is_first=True), IMAGE.passed_bytes(is_first=False)) == (2 * 4 * 8, 3 * 4 * 8)
