from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from earthloom.models import zoo
from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.models.cards.file import from_item, to_item
from earthloom.models.inference.class_map import ClassMap
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.measuring import receptive_field
from earthloom.models.measuring.measure import agreement_at, framed
from earthloom.models.networks.registry import build
from earthloom.models.networks.segment.paired import PairedClasses
from earthloom.models.zoo.disaster import BURN_SEVERITY, ENTRIES, FLOOD, FLOOD_REFERENCE, paired_card
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import round_up
from earthloom.tiling.window import Window
from tests.models.nets import BF16, CPU, Case, card_of, copy_landwater, landwater, seeded, stack_of
from tests.scenes import landscape

CARDS = [card for entry in ENTRIES for card in entry.cards]
DRY, FLOODED, PERMANENT, RECEDED, CLOUDED = range(5)
SHADOW, WATER, SNOW, LAND, CLOUD = range(5)


class OneHot(nn.Module):
    """Gives its only channel's number as a class of which it is sure."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x[:, 0].long(), self.classes).movedim(-1, 1).float()


def changes(card: ModelCard, before: int, after: int) -> list[float]:
    """What a paired card makes of a pixel whose classes are certain."""
    table = card.kwargs["table"]
    network = PairedClasses(
        OneHot(len(table)), in_channels=2, classes=len(card.classes), table=table, gives_probabilities=True
    )
    x = torch.tensor([after, before], dtype=torch.float32).reshape(1, 2, 1, 1)
    answer: list[float] = network(x).flatten().tolist()
    return answer


# ---- thin changes


STAYS = [[0, 2], [3, 1]]
"""No building, unchanged, new, demolished."""


def opened(after: NDArray[np.int_], before: NDArray[np.int_], radius_px: int = 1) -> NDArray[np.int_]:
    """Changes (H, W) of maps of 0 and 1, of which the base is sure; -1 is nodata on both dates."""
    network = PairedClasses(
        Certain(), in_channels=4, classes=4, table=STAYS, gives_probabilities=True, radius_px=radius_px
    )
    channels = [(date == value).astype(np.float32) for date in (after, before) for value in (0, 1)]
    found: NDArray[np.int_] = network(torch.from_numpy(np.stack(channels)[None]))[0].argmax(dim=0).numpy()
    return found


class Certain(nn.Module):
    """Gives its two channels as the probabilities of two classes."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), share=st.floats(0.3, 0.9), radius_px=st.integers(1, 3))
def test_changes_too_thin_for_a_disc_are_what_was_before_as_scipy_opens_them(
    seed: int, share: float, radius_px: int
) -> None:
    dice = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(dice.normal(size=(40, 50)), 2) for _ in range(2)]
    after, before = (np.where(one > np.quantile(one, share), 1, 0) for one in smooth)
    rows, cols = np.mgrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    disc = np.hypot(rows, cols) <= radius_px + 1 / 3
    wanted = np.array(STAYS)[before, after]
    for change in (2, 3):
        there = wanted == change
        inside = ndimage.binary_erosion(there, disc, border_value=1)
        kept = ndimage.binary_dilation(inside, disc)
        wanted[there & ~kept] = np.array([0, 1])[before[there & ~kept]]
    assert np.array_equal(opened(after, before, radius_px), wanted)


def test_a_wall_of_two_pixels_is_no_change_and_a_shed_of_three_is_one() -> None:
    before, after = np.zeros((20, 20), int), np.zeros((20, 20), int)
    after[2:12, 4:6], after[2:12, 10:13] = 1, 1
    found = opened(after, before)
    assert not found[:, 4:6].any()
    assert (found[3:11, 10:13] == 2).all()
    assert np.array_equal(opened(after, before, radius_px=0), np.where(after, 2, 0))


def test_ground_beside_nodata_is_not_thin_because_of_it() -> None:
    before, after = np.zeros((12, 12), int), np.zeros((12, 12), int)
    after[4:8, :4] = 1
    before[:, 2:], after[:, 2:] = -1, -1
    assert (opened(after, before)[4:8, :2] == 2).all()


# ---- cards


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.label)
def test_every_card_builds_its_network_and_comes_back_from_disk(card: ModelCard) -> None:
    x = torch.rand(2, len(card.bands), 32, 48)
    with torch.inference_mode():
        assert build(card).eval()(x).shape == (2, len(card.classes), 32, 48)
    item = json.loads(json.dumps(to_item(card, weights_name="weights.safetensors", n_parameters=0)))
    assert from_item(item) == card
    assert card.halo_px is not None
    assert card.support_px is not None
    assert card.halo_px >= card.support_px
    assert len({c.color for c in card.classes}) == len(card.classes)


def test_the_variants_of_flood_tell_the_same_classes() -> None:
    assert {card.classes for card in FLOOD + FLOOD_REFERENCE} == {FLOOD[0].classes}
    assert [card.variant for card in FLOOD] == ["6b", "4b", "mndwi", "ndwi"]


def test_a_pair_asks_for_the_bands_of_both_dates() -> None:
    assert FLOOD[3].bands == ("green", "nir", "before_green", "before_nir")
    assert BURN_SEVERITY[1].bands == ("nir", "swir22", "before_nir", "before_swir22")
    assert FLOOD[0].mean[:6] == FLOOD[0].mean[6:]
    assert FLOOD_REFERENCE[3].bands == ("green", "nir", "permanent_water")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": (), "outputs": ("band0",)}, "only a segmentation"),
        ({"needs_survey": True}, "without a survey"),
        ({"bands": ("band0", "*")}, "named bands"),
        (
            {"classes": tuple(ModelClass(value=v, name=f"c{v}", color=f"#0000{v:02x}") for v in range(3))},
            "has 3 classes",
        ),
    ],
)
def test_a_model_that_cannot_be_paired_is_refused(change: dict[str, Any], message: str) -> None:
    base = replace(card_of("tiny", 2, 2, 2), **change)
    with pytest.raises(CardError, match=message):
        paired_card(base, name="change", table=[[0, 1], [2, 0]], classes=FLOOD[0].classes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": "paired"}, "unknown architecture 'paired' to pair"),
        ({"base": "torch.load"}, "unknown architecture"),
        ({"table": [[0, 1]]}, "a row and a column for each class"),
        ({"table": [[0, 1], [2, 9]]}, r"names \[9\], but the changes are 0 to 4"),
        ({"table": [[0, 1], [2, "x"]]}, "names"),
        ({"arguments": {"in_channels": 3}}, "would take 3 channels but each date has 4 bands"),
        ({"arguments": {"color": 3}}, "cannot be built"),
        ({"arguments": {"classes": 99999}}, "beyond 8192"),
    ],
)
def test_a_hostile_table_or_base_is_an_error_of_the_card(change: dict[str, Any], message: str) -> None:
    card = replace(FLOOD[1], arguments=json.dumps(FLOOD[1].kwargs | change))
    with pytest.raises(CardError, match=message):
        build(card)


# ---- pairs


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (LAND, WATER, FLOODED), (WATER, WATER, PERMANENT), (WATER, LAND, RECEDED), (LAND, LAND, DRY), (SNOW, LAND, DRY),
        (LAND, CLOUD, CLOUDED), (CLOUD, WATER, CLOUDED), (SHADOW, LAND, CLOUDED), (WATER, SHADOW, CLOUDED),
        (WATER, SNOW, CLOUDED), (SNOW, WATER, CLOUDED), (SNOW, SNOW, DRY),
    ],
)  # fmt: skip
def test_two_certain_answers_of_landwater_make_one_certain_change(before: int, after: int, change: int) -> None:
    assert changes(FLOOD[0], before, after) == [float(value == change) for value in range(5)]


@pytest.mark.parametrize(
    ("before", "after", "change"), [(0, 1, FLOODED), (1, 1, PERMANENT), (1, 0, RECEDED), (0, 0, DRY)]
)
def test_two_certain_answers_of_an_index_make_one_certain_change(before: int, after: int, change: int) -> None:
    assert changes(FLOOD[2], before, after) == [float(value == change) for value in range(5)]


@pytest.mark.parametrize("number", [1, 100, 255])
def test_a_map_of_permanent_water_stands_for_the_earlier_date(number: int) -> None:
    for card, land, water in ((FLOOD_REFERENCE[0], LAND, WATER), (FLOOD_REFERENCE[2], 0, 1)):
        table = card.kwargs["table"]
        network = PairedClasses(
            OneHot(len(table)), in_channels=2, classes=5, table=table, gives_probabilities=True,
            reference=card.kwargs["reference"],
        )  # fmt: skip
        after, there = torch.tensor([land, water, water, land]).float(), torch.tensor([0, 0, number, number]).float()
        found = network(torch.stack([after, there])[None, :, None])[0, :, 0].argmax(dim=0)
        assert found.tolist() == [DRY, FLOODED, PERMANENT, RECEDED]


def test_a_reference_names_classes_that_there_are() -> None:
    card = replace(FLOOD_REFERENCE[0], arguments=json.dumps(FLOOD_REFERENCE[0].kwargs | {"reference": [3, 7]}))
    with pytest.raises(CardError, match="two of the classes 0 to 4"):
        build(card)


def test_a_doubtful_answer_makes_a_doubtful_change() -> None:
    network = PairedClasses(nn.Identity(), in_channels=4, classes=3, table=[[0, 1], [2, 0]], gives_probabilities=True)
    after, before = (0.75, 0.25), (0.5, 0.5)
    answer = network(torch.tensor([*after, *before]).reshape(1, 4, 1, 1)).flatten().tolist()
    assert answer == [0.5 * 0.75 + 0.5 * 0.25, 0.5 * 0.25, 0.5 * 0.75]


def test_one_logit_stands_for_two_classes() -> None:
    network = PairedClasses(nn.Identity(), in_channels=2, classes=2, table=[[0, 1], [1, 0]])
    answer = network(torch.tensor([30.0, -30.0]).reshape(1, 2, 1, 1)).flatten().tolist()
    assert answer == pytest.approx([0, 1], abs=1e-9)


@pytest.fixture
def paired(tiny_registry: None, tmp_path: Path) -> tuple[Case, Case]:
    """A seeded network and the pair of it, from one file."""
    base = seeded(card_of("tiny", 2, 2, 2), tmp_path)
    card = paired_card(base.card, name="change", table=[[0, 1], [3, 2]], classes=FLOOD[0].classes)
    return base, Case(card, base.path)


@pytest.mark.parametrize("device", [CPU, BF16], ids=["fp32", "bf16"])
def test_a_pair_is_the_product_of_two_runs_of_its_base(paired: tuple[Case, Case], device: Any) -> None:
    base, both = paired
    x = torch.rand(3, 4, 32, 32)
    single, double = base.predictor(device), both.predictor(device)
    with torch.inference_mode():
        x = x.to(next(single.module.parameters()).dtype)
        after, before = (
            torch.stack([ClassMap.of(single.card).probabilities(one) for one in single.module(part.contiguous())])
            for part in x.chunk(2, 1)
        )
        answer = double.module(x)
    assert torch.allclose(answer[:, FLOODED], before[:, 0] * after[:, 1], atol=0.02 if device is BF16 else 1e-6)
    assert torch.allclose(answer.sum(dim=1), torch.ones(3, 32, 32))
    assert torch.equal(answer[:, CLOUDED], torch.zeros(3, 32, 32))


def test_swapping_the_dates_swaps_flooded_and_receded(paired: tuple[Case, Case]) -> None:
    network = paired[1].predictor().module
    x = torch.rand(1, 4, 32, 32)
    with torch.inference_mode():
        there, back = network(x), network(x.roll(2, dims=1))
    assert torch.equal(there[:, [DRY, RECEDED, PERMANENT, FLOODED]], back[:, [DRY, FLOODED, PERMANENT, RECEDED]])


@pytest.mark.slow
def test_a_pair_sees_as_far_as_its_base_and_its_tiles_equal_the_whole(paired: tuple[Case, Case]) -> None:
    base, both = paired
    reach = receptive_field.support(base.predictor().module, 2, 2)
    assert reach is not None
    assert receptive_field.support(both.predictor().module, 4, 2) == reach
    values = np.concatenate([landscape(70, 50, 2), landscape(70, 50, 2, seed=1)])
    valid = np.random.default_rng(0).random((50, 70)) > 0.1
    agreement = agreement_at(both.predictor(), round_up(reach, 2), 16, stack_of(values, valid))
    assert agreement.identical


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["6b", "4b"])
def test_flood_runs_on_the_weights_of_landwater(variant: str) -> None:
    case = landwater(variant)
    card = next(card for card in FLOOD if card.variant == variant)
    assert card.weights == case.card.weights
    pixels = landscape(64, 64, len(case.card.bands)).astype(np.float32) * 1e-4
    x = (torch.from_numpy(pixels) - torch.tensor(card.mean[: len(pixels)])[:, None, None])[None]
    single, double = Predictor(case.card, case.path, CPU), Predictor(card, case.path, CPU)
    with torch.inference_mode():
        water = ClassMap.of(single.card).probabilities(single.module(x)[0])[WATER]
        twice = double.module(torch.cat([x, x], dim=1))[0]
    assert torch.allclose(twice[PERMANENT], water * water, atol=1e-6)
    assert torch.equal(twice[FLOODED], twice[RECEDED])


def test_flood_takes_the_weights_that_landwater_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it tried to download"))
    with monkeypatch.context() as empty:
        empty.setenv("EARTHLOOM_CACHE", str(tmp_path / "empty"))
        with pytest.raises(CardError, match="earthloom models add flood"):
            zoo.variants("flood")
    copy_landwater(tmp_path, monkeypatch)
    assert [card for card, _ in zoo.variants("flood")] == [*FLOOD, *FLOOD_REFERENCE]
    assert (zoo.folder_of(FLOOD[0]) / weights.FILE).is_file()


def test_an_index_tells_what_was_flooded_and_never_clouds() -> None:
    land, water = [2000, 3000], [800, 200]  # green, nir
    dates = [land + land, water + land, water + water, land + water]
    values = np.array(dates, np.uint16).T[:, :, None].repeat(8, axis=2)
    values = np.concatenate([values, values], axis=2)
    scene = Window(0, 0, 16, 4)
    chips = ChipGrid(scene=scene, core_px=16, halo_px=0, stride_px=1)
    valid = np.ones(scene.shape, bool)
    valid[:, 0] = False
    pixels = framed(stack_of(values, valid), chips.extent, 0)
    found = predict_block(Predictor(FLOOD[3], None, CPU), chips, scene, pixels).made.classes
    assert (found[:, 0] == NODATA).all()
    assert [set(row[1:].tolist()) for row in found] == [{DRY}, {FLOODED}, {PERMANENT}, {RECEDED}]
