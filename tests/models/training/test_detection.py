"""What a detector is taught: boxes that turn with their pixels, heat that fades with the box, and a loss that can be 0."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from earthloom.models.cards.card import ObjectRule
from earthloom.models.inference.boxes import corners, merge, overlap
from earthloom.models.inference.objects import Objects
from earthloom.models.training.augment import Variety, side_at, turned, zoom_of
from earthloom.models.training.detection import ObjectLoss, overlap_of, seen_objects, set_prior, targets, turned_boxes
from earthloom.models.training.schedule import Schedule
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.window import Window
from infra.recipes.pictures import fit

VARIETY = Variety(zoom=1.3, gain=0.1, noise=0.005)


def squares(seed: int, n: int = 8, side_px: int = 96) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Bright rectangles on a noisy ground, which do not touch."""
    dice = np.random.default_rng(seed)
    values = dice.normal(1000, 100, (2, side_px, side_px))
    boxes: list[list[int]] = []
    while len(boxes) < n:
        width, height = (int(length) for length in dice.integers(5, 13, 2))
        col, row = (int(dice.integers(0, side_px - length)) for length in (width, height))
        if all(abs(col - x) > 14 or abs(row - y) > 14 for x, y, _, _ in boxes):
            boxes.append([col, row, width, height])
            values[:, row : row + height, col : col + width] += 3000
    return values.astype(np.uint16), np.array(boxes, np.float64)


def batch(step: int, size: int, side_px: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops of two pictures at places that depend on the step alone, and what is to be said of them."""
    made = []
    for place in range(size):
        dice = np.random.default_rng((3, step, place))
        values, boxes = squares(int(dice.integers(2)))
        side = side_at(side_px, zoom_of(VARIETY, dice))
        row, col = dice.integers(0, 96 - side + 1, 2)
        part = values[:, row : row + side, col : col + side].astype(np.float32) * np.float32(1e-4)
        whole = np.ones((side, side), np.bool_)
        crop, wanted = seen_objects(
            part, whole, whole, boxes - [col, row, 0, 0], np.zeros(len(boxes), np.int64), side_px, 1, VARIETY, (0.1, 0.1),
            dice,
        )  # fmt: skip
        made.append((crop.normalised((0.1, 0.1), (0.1, 0.1))[0], wanted))
    return torch.stack([crop for crop, _ in made]), torch.stack([wanted for _, wanted in made])


@pytest.mark.parametrize("turn", range(8))
def test_boxes_turn_with_their_pixels(turn: int) -> None:
    picture = np.zeros((1, 20, 20), np.float32)
    picture[0, 3:7, 11:18] = 1
    (box,) = turned_boxes(np.array([[11.0, 3, 7, 4]]), turn, 20)
    rows, cols = np.nonzero(turned(torch.from_numpy(picture), turn)[0].numpy())
    assert box.tolist() == [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]


def test_targets_are_highest_at_the_centre_and_say_the_box_around_it() -> None:
    made = targets(np.array([[10.0, 20, 8, 4], [30, 5, 7, 9]]), np.array([0, 1]), 2, 48)
    assert made.shape == (8, 48, 48)
    assert np.unravel_index(made[1].argmax(), (48, 48)) == (9, 33)
    assert made[1].max() == 1, "the centre of odd sides is the middle of a pixel"
    for row, col in ((22, 14), (21, 13), (22, 15)):
        width, height, dx, dy = made[2:6, row, col]
        assert (width, height) == (8, 4)
        assert (col + 0.5 + dx, row + 0.5 + dy) == (14, 22)
        assert made[6, row, col] > 0
    assert made[6, 22, 30] == 0
    of_each = [made[6, :, :26].sum(), made[6, :, 26:].sum()]
    np.testing.assert_allclose(of_each, [1, 1], rtol=1e-5, err_msg="a small box counts as much as a large one")
    assert made[7].all()


@given(
    left=st.floats(0, 40), top=st.floats(0, 40), width=st.floats(3, 20), height=st.floats(3, 20), far=st.floats(45, 70)
)
@settings(deadline=None, max_examples=50)
def test_each_object_has_one_pixel_of_full_heat(
    left: float, top: float, width: float, height: float, far: float
) -> None:
    boxes = np.array([[left, top, width, height], [left, far, width, height]])
    made = targets(boxes, np.zeros(2, np.int64), 1, 96)
    rows, cols = np.nonzero(made[0] == 1)
    centres = np.floor(boxes[:, :2] + boxes[:, 2:] / 2)
    assert sorted(zip(cols.tolist(), rows.tolist(), strict=True)) == sorted(map(tuple, centres.astype(int).tolist()))


def test_heat_is_summed_over_pixels_and_divided_by_the_number_of_objects() -> None:
    boxes = np.array([[20.0, 20, 9, 9], [60, 60, 9, 9]])
    costs = []
    for n in (1, 2):
        wanted = torch.from_numpy(targets(boxes[:n], np.zeros(n, np.int64), 1, 96))[None]
        answer = torch.cat([torch.full((1, 1, 96, 96), -20.0), wanted[:, 1:3] / 16, wanted[:, 3:5]], dim=1)
        costs.append(ObjectLoss(size_px=16.0)(answer, wanted).item())
    heat = wanted[0, 0, :48, :48].double()  # where 0 is said: error y, cross-entropy 20 y
    assert costs[0] == pytest.approx((20 * heat**3).sum().item(), rel=1e-3)
    assert costs[1] == pytest.approx(costs[0], rel=1e-3), "of two objects each counts half"


def test_nothing_is_learned_of_an_object_that_a_crop_cuts_in_two() -> None:
    made = targets(np.array([[-6.0, 10, 8, 8], [20, 20, 6, 6]]), np.zeros(2, np.int64), 1, 48)
    assert not made[-1, 10:18, :2].any()
    assert made[-1, :, 2:].all()
    assert made[0, 14, 0] < 0.01


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_does() -> None:
    wanted = torch.from_numpy(targets(np.array([[10.0, 20, 8, 4]]), np.zeros(1, np.int64), 1, 48))[None]
    answer = torch.cat([torch.logit(wanted[:, :1], eps=1e-6), wanted[:, 1:3] / 16, wanted[:, 3:5]], dim=1)
    loss = ObjectLoss(size_px=16.0)
    assert loss(answer, wanted).item() == pytest.approx(0, abs=1e-4)
    for channel in range(5):
        worse = answer.clone()
        worse[:, channel] += 1
        assert loss(worse, wanted).item() > 0.02
    unknown = wanted.clone()
    unknown[:, -1] = 0
    assert loss(answer + 1, unknown).item() == 0


def test_what_is_hidden_from_a_crop_is_neither_seen_nor_learned() -> None:
    values, boxes = squares(0)
    valid = np.ones((96, 96), np.bool_)
    valid[:, :40] = False
    crop, wanted = seen_objects(
        values.astype(np.float32), valid, np.ones((96, 96), np.bool_), boxes, np.zeros(len(boxes), np.int64), 96, 1,
        Variety(), (0.0, 0.0), np.random.default_rng(0),
    )  # fmt: skip
    hidden = (crop.labels != 0).numpy()
    assert hidden.mean() == 40 / 96
    assert not wanted[-1].numpy()[hidden].any()
    assert wanted[-1].numpy()[~hidden].all()


def test_what_is_not_known_is_seen_and_not_learned() -> None:
    values, boxes = squares(0)
    known = np.ones((96, 96), np.bool_)
    known[:, :40] = False
    crop, wanted = seen_objects(
        values.astype(np.float32), np.ones((96, 96), np.bool_), known, boxes, np.zeros(len(boxes), np.int64), 96, 1,
        Variety(), (0.0, 0.0), np.random.default_rng(0),
    )  # fmt: skip
    assert bool(crop.valid.all())
    assert crop.values.sum().item() == pytest.approx(values.sum(), rel=1e-6)
    assert wanted[-1].numpy().mean() == pytest.approx(56 / 96, abs=0.05)
    assert not wanted[-1].numpy()[(crop.labels != 0).numpy()].any()


@pytest.mark.parametrize(
    ("other", "wanted"),
    [((10.0, 4, 0, 0), 1.0), ((10.0, 4, 5, 0), 1 / 3), ((5.0, 4, 0, 0), 0.5), ((10.0, 4, 20, 0), -1 / 3)],
)
def test_the_overlap_of_boxes_is_the_published_generalised_one(other: tuple[float, ...], wanted: float) -> None:
    """10 x 4 px beside another box: intersection over union, less the share of the hull that neither covers."""
    planes = [torch.tensor(pair).reshape(1, 2, 1, 1) for pair in ((10.0, 4.0), (0.0, 0.0), other[:2], other[2:])]
    assert overlap_of(*planes).item() == pytest.approx(wanted)


def test_a_small_network_learns_to_find_bright_rectangles(one_thread: None) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(8, 5, 5, padding=2))
    set_prior(network, 1)
    schedule = Schedule(steps=100, batch=4, rate=2e-2, memory_steps=20, precision="fp32")
    trained = fit(network, partial(batch, side_px=32), schedule, loss=ObjectLoss(size_px=8.0))
    unseen, boxes = squares(9)
    x = torch.from_numpy((unseen.astype(np.float32) * 1e-4 - 0.1) / 0.1)
    with torch.inference_mode():
        answer = trained(x[None])[0]
    whole = Window(0, 0, 96, 96)
    chips = ChipGrid(scene=whole, core_px=96, halo_px=0, stride_px=1)
    canvas = Objects(label="made", n_classes=1, rule=ObjectRule(threshold=0.3, size_px=8.0)).canvas(chips, whole, "cpu")
    canvas.add(whole, whole, [answer])
    found = corners(merge(canvas.finish(np.ones((96, 96), np.bool_)).found, 0.3))
    true = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    right = sum(overlap(box, found).max(initial=0) > 0.5 for box in true)
    assert right >= 7
    assert len(found) <= 10


def test_a_head_of_other_channels_is_refused() -> None:
    with pytest.raises(ConfigError, match="need 6"):
        set_prior(nn.Conv2d(1, 5, 1), 2)
