"""Losses against their published definitions, other people's code and simple cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.models.training.augment import IGNORE
from earthloom.models.training.loss import Loss, balanced_weights
from earthloom.tiling.errors import ConfigError

define_missing_ops()


def case(seed: int = 0, classes: int = 3, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, 9, 7, generator=dice)
    labels = torch.randint(classes, (2, 9, 7), generator=dice)
    labels[torch.rand(labels.shape, generator=dice) < ignored] = IGNORE
    return logits, labels


def only(**terms: float) -> Loss:
    none: dict[str, Any] = {"cross_entropy": 0.0, "dice": 0.0}
    return Loss(**none | terms)


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_mean(weights: tuple[float, ...] | None, smoothing: float) -> None:
    logits, labels = case()
    found = Loss(cross_entropy=1, dice=0, smoothing=smoothing, class_weights=weights)(logits, labels)
    wanted = torch.nn.functional.cross_entropy(
        logits, labels, weight=None if weights is None else torch.tensor(weights), ignore_index=IGNORE,
        label_smoothing=smoothing,
    )  # fmt: skip
    assert float(found) == pytest.approx(float(wanted), rel=1e-6)


def test_lovasz_is_that_of_segmentation_models_pytorch() -> None:
    import segmentation_models_pytorch as smp

    for seed in range(5):
        logits, labels = case(seed)
        wanted = smp.losses.LovaszLoss(mode="multiclass", ignore_index=IGNORE)(logits, labels)
        assert float(only(lovasz=1)(logits, labels)) == pytest.approx(float(wanted), rel=1e-5)


def test_lovasz_of_a_hard_answer_is_the_mean_of_one_minus_iou() -> None:
    """At the corners of the cube the Lovász extension is the set function itself (Berman et al. 2018, section 3)."""
    labels = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    found = torch.tensor([[[0, 1, 1, 1, 2, 0]]])
    logits = 200.0 * torch.nn.functional.one_hot(found, 3).movedim(-1, 1).float()
    ious = [1 / 3, 2 / 3, 1 / 2]
    assert float(only(lovasz=1)(logits, labels)) == pytest.approx(1 - np.mean(ious), abs=1e-5)


def test_focal_is_equation_five_of_its_paper() -> None:
    logits, labels = case()
    p = logits.double().softmax(dim=1).numpy()
    known = labels.numpy() != IGNORE
    rows = [p[n, int(labels[n, r, c]), r, c] for n, r, c in np.argwhere(known)]
    wanted = np.mean([-((1 - value) ** 2) * np.log(value) for value in rows])
    assert float(only(focal=1)(logits, labels)) == pytest.approx(wanted, rel=1e-5)
    assert float(Loss(cross_entropy=0, dice=0, focal=1, gamma=0)(logits, labels)) == pytest.approx(
        float(only(cross_entropy=1)(logits, labels)), rel=1e-6
    )


def test_dice_of_a_sure_and_right_answer_is_nothing_and_of_a_wrong_one_nearly_all() -> None:
    labels = torch.randint(2, (1, 32, 32), generator=torch.Generator().manual_seed(0))
    right = 50.0 * torch.nn.functional.one_hot(labels, 2).movedim(-1, 1).float()
    assert float(only(dice=1)(right, labels)) == pytest.approx(0, abs=1e-3)
    assert float(only(dice=1)(right, 1 - labels)) > 0.99


def test_a_sum_is_the_sum_of_its_terms() -> None:
    logits, labels = case()
    both = Loss(cross_entropy=0.5, dice=2, focal=1, lovasz=3)(logits, labels)
    parts = [0.5 * only(cross_entropy=1)(logits, labels), 2 * only(dice=1)(logits, labels)]
    parts += [only(focal=1)(logits, labels), 3 * only(lovasz=1)(logits, labels)]
    assert float(both) == pytest.approx(float(sum(parts)), rel=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), noise=st.floats(0, 100))
def test_pixels_that_are_ignored_change_no_loss_and_get_no_gradient(seed: int, noise: float) -> None:
    every = Loss(cross_entropy=1, dice=1, focal=1, lovasz=1, class_weights=(1.0, 2.0, 3.0))
    logits, labels = case(seed, ignored=0.5)
    hidden = (labels == IGNORE)[:, None].expand_as(logits)
    other = torch.where(hidden, logits + noise, logits).requires_grad_()
    value = every(other, labels)
    assert value.item() == pytest.approx(float(every(logits, labels)), rel=1e-5)
    value.backward()  # type: ignore[no-untyped-call]
    assert other.grad is not None
    assert float(other.grad.masked_select(hidden).abs().sum()) == 0


def test_a_batch_without_a_known_pixel_teaches_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    every = Loss(cross_entropy=1, dice=1, focal=1, lovasz=1, class_weights=(1.0, 0.0, 3.0))
    value = every(logits, torch.full((1, 4, 4), IGNORE))
    value.backward()  # type: ignore[no-untyped-call]
    assert value.item() == pytest.approx(0)
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) == 0


def test_weights_from_data_are_the_medians_share_over_a_classs_own() -> None:
    assert balanced_weights((100, 25, 50)) == (0.5, 2.0, 1.0)
    assert balanced_weights((100, 50, 0)) == (0.75, 1.5, 0.0), "the median of the two that are there"
    with pytest.raises(ConfigError, match="not one pixel is labelled"):
        balanced_weights((0, 0))


@pytest.mark.parametrize(
    "wrong", [{"cross_entropy": 0, "dice": 0}, {"focal": -1}, {"smoothing": 1.0}, {"class_weights": (0.0, 0.0)}]
)
def test_a_loss_of_nothing_or_of_less_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Loss(**wrong)  # type: ignore[arg-type]
