"""Labels by themselves: one class for each chip, what of it depends on the cut (nothing), and which chips stay undecided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from earthloom.models.cards import weights
from earthloom.models.cards.card import LabelRule, ModelCard, ObjectRule
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.cards.weights import sha256_of
from earthloom.models.inference.labels import BlockLabels, n_valid
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.inference.stack import Stack
from earthloom.models.measuring.measure import framed, measure
from earthloom.models.networks import registry
from earthloom.models.training.network import fill
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window
from tests.models.nets import CPU, TinyClassifier, card_of, stack_of
from tests.scenes import landscape

CORE_PX, HALO_PX = 16, 4


def labels_card(**changes: Any) -> ModelCard:
    card = card_of("tiny-classifier", 2, 3, 1)
    own = {
        "labels": LabelRule(least_valid=0.5), "core_px": CORE_PX, "halo_px": HALO_PX, "task": "scene-classification",
    }  # fmt: skip
    return replace(card, **{**own, **changes})


def of_timm(encoder: str, bands: int) -> ModelCard:
    return replace(
        labels_card(), architecture="chip-classifier", arguments=f'{{"encoder_name":"{encoder}"}}',
        bands=tuple(f"b{n}" for n in range(bands)), mean=(0.2,) * bands, std=(0.1,) * bands,
    )  # fmt: skip


def drawn(card: ModelCard, folder: Path, seed: int = 3) -> tuple[ModelCard, Path]:
    """The card's network with weights from a seed, of which each class wins somewhere on a landscape."""
    torch.manual_seed(seed)
    network = registry.build(card).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, std=0.4)
    raw = torch.from_numpy(landscape(160, 160, 2).astype(np.float32)) * 1e-4
    side = CORE_PX + 2 * HALO_PX
    chips = ((raw - 0.25) / 0.1).unfold(1, side, CORE_PX).unfold(2, side, CORE_PX).flatten(1, 2).transpose(0, 1)
    head = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        logits = network(chips)[:, :, 0, 0]
        head.weight *= (1 / logits.std(dim=0))[:, None]
        head.bias.copy_((head.bias - logits.mean(dim=0)) / logits.std(dim=0))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / weights.FILE
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return replace(card, weights=sha256_of(path)), path


@pytest.fixture(autouse=True, scope="module")
def _registry() -> Iterator[None]:
    with mock.patch.dict(registry.REGISTRY, {"tiny-classifier": TinyClassifier}):
        yield


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    card, path = drawn(labels_card(), tmp_path_factory.mktemp("labels"))
    return Predictor(card, path, CPU, 2)


def a_scene(width: int, height: int, seed: int, holes: float) -> Stack:
    valid = np.random.default_rng(seed).uniform(size=(height, width)) >= holes
    return stack_of(landscape(width, height, 2, seed), valid)


def grid_of(scene: Stack) -> ChipGrid:
    return ChipGrid(scene=scene.window, core_px=CORE_PX, halo_px=HALO_PX, stride_px=1)


def block(predictor: Predictor, scene: Stack, core: Window) -> BlockLabels:
    """A block from nothing but its own read window."""
    chips = grid_of(scene)
    made = predict_block(predictor, chips, core, framed(scene, chips.read(core), HALO_PX)).made
    assert isinstance(made, BlockLabels)
    return made


@given(
    width=st.integers(9, 90), height=st.integers(9, 90), seed=st.integers(0, 99), holes=st.sampled_from([0.0, 0.4, 0.55]),
    rows=st.integers(1, 4), cols=st.integers(1, 4), order=st.randoms(use_true_random=False),
)  # fmt: skip
@settings(deadline=None, max_examples=12)
def test_labels_do_not_depend_on_how_the_scene_is_cut_nor_on_the_order(
    predictor: Predictor, width: int, height: int, seed: int, holes: float, rows: int, cols: int, order: Any
) -> None:
    scene = a_scene(width, height, seed, holes)
    whole = block(predictor, scene, scene.window)
    assert whole.classes.shape == (ceil_div(height, CORE_PX), ceil_div(width, CORE_PX))
    parts = [
        Window(col, row, cols * CORE_PX, rows * CORE_PX) & scene.window
        for row in range(0, height, rows * CORE_PX)
        for col in range(0, width, cols * CORE_PX)
    ]
    order.shuffle(parts)
    for part in parts:
        own, same = block(predictor, scene, part), whole.over(part)
        known = own.classes != NODATA
        assert (own.classes == same.classes).all()
        assert (own.confidence == same.confidence).all()
        assert own.probabilities[:, known].tobytes() == same.probabilities[:, known].tobytes()


def test_a_label_is_what_the_network_says_of_the_chip_cut_by_hand(predictor: Predictor) -> None:
    scene = a_scene(70, 53, 1, 0.1)
    made = block(predictor, scene, scene.window)
    padded = np.pad(np.asarray(scene.values), ((0, 0), (HALO_PX,) * 2, (HALO_PX,) * 2), mode="reflect")
    valid = np.pad(scene.valid, HALO_PX, mode="reflect")
    padded, valid = np.pad(padded, ((0, 0), (0, 64), (0, 64))), np.pad(valid, ((0, 64), (0, 64)))
    side, decided = CORE_PX + 2 * HALO_PX, 0
    for row, col in np.argwhere(made.classes != NODATA):
        cut = (slice(row * CORE_PX, row * CORE_PX + side), slice(col * CORE_PX, col * CORE_PX + side))
        chip = torch.from_numpy(((padded[(slice(None), *cut)].astype(np.float32) * np.float32(1e-4)) - 0.25) / 0.1)
        chip = torch.where(torch.from_numpy(valid[cut]), chip, torch.zeros(())).float()
        with torch.inference_mode():
            expected = predictor.module(chip[None])[0, :, 0, 0].softmax(0).numpy()
        assert made.probabilities[:, row, col] == pytest.approx(expected, abs=1e-4)
        assert made.confidence[row, col] == pytest.approx(250 * expected.max(), abs=0.6)
        decided += 1
    assert decided > 8
    assert len(np.unique(made.classes[made.classes != NODATA])) > 1, "labels of one class would prove little"


def test_too_few_valid_pixels_leave_a_chip_undecided_and_a_mask_may_take_the_rest(predictor: Predictor) -> None:
    scene = a_scene(48, 40, 0, 0.0)
    valid = scene.valid.copy()
    valid[:8, :16] = False  # half of the first core is left, which is enough
    valid[:9, 16:32] = False  # less than half of the second
    made = block(predictor, replace(scene, valid=valid), scene.window)
    assert made.classes[0, 0] != NODATA
    assert made.classes[0, 1] == NODATA
    assert made.confidence[0, 1] == NODATA
    assert (made.classes[2] != NODATA).all(), "8 of 16 rows of the last core lie in the scene"
    hidden = ~valid
    hidden[8:10, 0:16] = True
    masked = made.hide(hidden)
    assert masked.classes[0, 0] == NODATA
    assert (masked.classes[1:] == made.classes[1:]).all()
    assert n_valid(~hidden, CORE_PX)[0].tolist() == [96, 112, 256]


def test_chips_in_a_batch_get_the_bits_that_they_get_alone() -> None:
    torch.manual_seed(0)
    network = registry.build(of_timm("test_resnet", 2)).eval()
    chips = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 2, 24, 24)).astype(np.float32))
    with torch.inference_mode():
        together = network(chips)
        alone = torch.cat([network(chip[None]) for chip in chips])
    assert torch.equal(together, alone)


def test_several_networks_and_mirror_images_are_averaged(tmp_path: Path) -> None:
    scene = a_scene(64, 48, 2, 0.0)
    members = [Predictor(*drawn(labels_card(), tmp_path / str(seed), seed), CPU, 1) for seed in (3, 4)]
    single = [block(member, scene, scene.window).probabilities for member in members]
    chips = grid_of(scene)
    made = predict_block(members, chips, scene.window, framed(scene, chips.extent, HALO_PX)).made
    assert made.probabilities == pytest.approx((single[0] + single[1]) / 2, abs=1e-6)
    card, path = drawn(labels_card(), tmp_path / "flips")
    flipped = Predictor(card, path, CPU, 1, flips=True)
    mirror = replace(scene, values=np.asarray(scene.values)[:, :, ::-1].copy())
    both = [block(flipped, each, scene.window).probabilities for each in (scene, mirror)]
    assert both[0] == pytest.approx(both[1][:, :, ::-1], abs=1e-4)


def test_the_card_travels_and_refuses_what_makes_no_sense() -> None:
    card = labels_card()
    assert from_item(to_item(card, weights_name="", n_parameters=0)) == card
    assert (card.kind, card.makes) == ("labels", "labels: class_0, class_1, class_2")
    assert card.digest() != labels_card(labels=LabelRule(least_valid=0.6)).digest()
    for changes, words in (
        ({"overlap": "blend"}, "given to each chip by itself"),
        ({"masks": (1,)}, "mask nothing"),
        ({"objects": ObjectRule(), "activation": "sigmoid"}, "are no objects"),
    ):
        with pytest.raises(CardError, match=words):
            labels_card(**changes)
    with pytest.raises(CardError, match="above 0 and at most 1"):
        LabelRule(least_valid=0)
    with pytest.raises(CardError, match="unknown encoder"):
        registry.build(of_timm("hf-hub:timm/resnet18", 3))
    strange = '{"encoder_name":"test_resnet","pretrained":true}'
    with pytest.raises(CardError, match="pretrained are not taken from a card"):
        registry.build(replace(of_timm("test_resnet", 3), arguments=strange))


def test_measuring_keeps_the_ground_of_a_label_and_proves_that_cuts_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
    card, path = drawn(labels_card(), tmp_path)
    found = measure(card, path, CPU, a_scene(50, 40, 0, 0.0))
    assert (found.card.core_px, found.card.halo_px, found.card.overlap) == (CORE_PX, HALO_PX, "exact")
    assert found.agreement is not None
    assert found.agreement.identical
    assert (found.card.flop_per_px or 0) > 0


@pytest.mark.parametrize(("encoder", "bands"), [("resnet18", 13), ("tf_efficientnet_lite0", 3), ("convnext_tiny", 4)])
def test_classifiers_of_timm_take_any_bands_and_published_weights(encoder: str, bands: int, tmp_path: Path) -> None:
    import timm

    card = of_timm(encoder, bands)
    network = registry.build(card)
    assert network(torch.zeros(2, bands, 64, 64)).shape == (2, 3, 1, 1)
    torch.manual_seed(1)
    published = timm.create_model(encoder, pretrained=False)  # as ImageNet's: 3 bands, 1000 classes
    save_file(
        {name: value.contiguous() for name, value in published.state_dict().items()}, tmp_path / "imagenet.safetensors"
    )
    found = fill(network, card, tmp_path / "imagenet.safetensors", None)
    assert len(found.unused) == 2, "the last layer, of a thousand classes"
    assert len(found.missing) == 2
    assert len(found.adapted) == (bands != 3)
