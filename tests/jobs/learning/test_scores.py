"""Scores from counts against scikit-learn, torchmetrics, scipy and published numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics import classification_report, cohen_kappa_score, jaccard_score

from earthloom.jobs.learning.record import scores
from earthloom.jobs.learning.scores import (
    Z_95,
    accuracy,
    area_estimates,
    averages,
    bootstrap,
    calibrate,
    class_scores,
    kappa,
    text_report,
)
from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.tiling.errors import ConfigError

NAMES = ["land", "water", "a class with a long name", "cloud", "x"]

confusions = st.integers(1, 5).flatmap(
    lambda k: arrays(np.int64, (k, k), elements=st.sampled_from([0, 0, 0, 1, 2, 3, 5, 8, 40]))
)


def pixels_of(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels and mapped classes with these counts."""
    k = len(confusion)
    labels, mapped = np.divmod(np.repeat(np.arange(k * k), confusion.ravel()), k)
    return labels, mapped


@settings(deadline=None, max_examples=150)
@given(confusion=confusions, digits=st.integers(1, 5))
def test_the_report_is_that_of_scikit_learn_to_the_digit(confusion: NDArray[np.int64], digits: int) -> None:
    if not np.diag(confusion).sum():
        return  # scikit-learn then prints the support as 3.0
    k, (labels, mapped) = len(confusion), pixels_of(confusion)
    expected = classification_report(
        labels, mapped, labels=range(k), target_names=NAMES[:k], digits=digits, zero_division=0
    )
    assert text_report(confusion, NAMES[:k], digits) == expected


def test_the_report_of_many_pixels_is_that_of_scikit_learn() -> None:
    confusion = np.random.default_rng(0).integers(0, 900_000, (3, 3))
    labels, mapped = pixels_of(confusion)
    assert text_report(confusion, NAMES[:3]) == classification_report(labels, mapped, target_names=NAMES[:3])


@settings(deadline=None, max_examples=60)
@given(confusion=confusions)
def test_iou_and_kappa_are_those_of_scikit_learn(confusion: NDArray[np.int64]) -> None:
    k, (labels, mapped) = len(confusion), pixels_of(confusion)
    if not len(labels):
        return
    expected = jaccard_score(labels, mapped, labels=range(k), average=None, zero_division=0)
    np.testing.assert_allclose(class_scores(confusion).iou, expected)
    for name in ("micro", "weighted"):
        found = averages(confusion)[name]
        expected = jaccard_score(labels, mapped, labels=range(k), average=name, zero_division=0)
        assert found["iou"] == pytest.approx(expected)
    if len({*labels, *mapped}) > 1:
        assert kappa(confusion) == pytest.approx(cohen_kappa_score(labels, mapped))


def metrics(name: str, **options: Any) -> Any:
    define_missing_ops()
    import torchmetrics.classification

    return getattr(torchmetrics.classification, name)(**options)


def test_torchmetrics_agrees() -> None:
    confusion = np.random.default_rng(1).integers(0, 500, (4, 4))
    labels, mapped = (torch.as_tensor(part) for part in pixels_of(confusion))
    scores = class_scores(confusion)
    for name, found in (
        ("MulticlassPrecision", scores.precision), ("MulticlassRecall", scores.recall),
        ("MulticlassF1Score", scores.f1), ("MulticlassJaccardIndex", scores.iou),
    ):  # fmt: skip
        expected = metrics(name, num_classes=4, average="none")(mapped, labels).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    confusion[3], confusion[:, 3] = 0, 0  # a class that is nowhere
    labels, mapped = (torch.as_tensor(part) for part in pixels_of(confusion))
    mean = float(metrics("MulticlassJaccardIndex", num_classes=4, average="macro")(mapped, labels))
    assert averages(confusion)["macro"]["iou"] == pytest.approx(mean)
    drawn = bootstrap(np.stack([confusion] * 20), resamples=10)
    assert drawn is not None
    assert drawn["mean_iou"] == pytest.approx([mean, mean])
    assert accuracy(confusion) == pytest.approx(
        float(metrics("MulticlassAccuracy", num_classes=4, average="micro")(mapped, labels))
    )
    assert kappa(confusion) == pytest.approx(
        float(metrics("MulticlassCohenKappa", num_classes=4)(mapped, labels)), abs=1e-6
    )


def histogram(seed: int = 0, sharpness: float = 1.0) -> NDArray[np.int64]:
    """Counts of pixels whose odds of being right are the stated ones, to the power 1 / sharpness."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(100, 250, 200_000)
    odds = (stored / (250 - stored)) ** (1 / sharpness)
    right = rng.random(len(stored)) < odds / (1 + odds)
    return np.bincount(stored * 2 + right, minlength=502).reshape(251, 2)


@pytest.mark.parametrize("n_bins", [10, 15])
def test_the_calibration_error_is_that_of_torchmetrics(n_bins: int) -> None:
    counts = histogram(sharpness=2.5)
    counts[100 * (n_bins == 15)] += 7  # an edge of a bin, and a confidence of 0
    stored, right = np.divmod(np.repeat(np.arange(502), counts.ravel()), 2)
    confidence = torch.as_tensor(stored / 250 - 1e-6 * (stored > 0), dtype=torch.float64)  # an edge is of the lower bin
    found = calibrate(counts, n_bins)
    assert found is not None
    for norm, value in (("l1", found.ece), ("max", found.mce)):
        metric = metrics("BinaryCalibrationError", n_bins=n_bins, norm=norm)
        # the probability of "right"; torchmetrics compares it with the share of targets that are 1
        assert value == pytest.approx(float(metric(confidence, torch.as_tensor(right))), abs=2e-6)
    assert found.pixels.sum() == counts.sum()


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again_and_calibrates(sharpness: float) -> None:
    counts = histogram(sharpness=sharpness)
    found = calibrate(counts)
    assert found is not None
    assert found.temperature == pytest.approx(sharpness, rel=0.03)
    p = np.clip(np.arange(251), 0.5, 249.5) / 250

    def loss(temperature: float) -> float:
        z = np.log(p / (1 - p)) / temperature
        return float((counts * np.stack([np.log1p(np.exp(z)), np.log1p(np.exp(-z))], axis=1)).sum() / counts.sum())

    tried = np.geomspace(0.1, 10, 2001)
    losses = [loss(temperature) for temperature in tried]
    assert found.temperature == pytest.approx(tried[np.argmin(losses)], rel=0.0024)
    assert found.nll_at_temperature == pytest.approx(loss(found.temperature))
    assert found.nll_at_temperature <= min(losses)
    assert found.nll == pytest.approx(loss(1.0))
    assert found.nll_at_temperature <= found.nll
    assert calibrate(np.zeros((251, 2), np.int64)) is None


OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Table 8 of Olofsson et al. (2014): map by row; deforestation, forest gain, stable forest, stable non-forest."""
MAPPED_M2 = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 900.0


def test_areas_are_those_of_the_worked_example_of_olofsson() -> None:
    found = area_estimates(OLOFSSON.T, MAPPED_M2)
    assert found is not None
    hectares, se = found.area_m2 / 1e4, found.area_se_m2 / 1e4
    assert hectares[0] == pytest.approx(21_158, abs=1), "the map has 18,000 ha"
    assert Z_95 * se[0] == pytest.approx(6_158, abs=1.5)
    assert se[0] / (MAPPED_M2.sum() / 1e4) == pytest.approx(0.0035, abs=5e-5)
    assert np.round(found.users, 2).tolist() == [0.88, 0.73, 0.93, 0.96]
    assert np.round(Z_95 * found.users_se, 2).tolist() == [0.07, 0.10, 0.04, 0.02]
    assert np.round(found.producers, 2).tolist() == [0.75, 0.85, 0.93, 0.96]
    assert Z_95 * found.producers_se[0] == pytest.approx(0.21, abs=0.005)
    assert (round(found.overall, 2), round(Z_95 * found.overall_se, 2)) == (0.95, 0.02)
    assert hectares.sum() == pytest.approx(900_000)


def test_the_standard_error_of_areas_is_that_of_repeated_samples() -> None:
    rng = np.random.default_rng(0)
    share = OLOFSSON / OLOFSSON.sum(axis=1, keepdims=True)
    areas, producers = [], []
    for _ in range(4000):
        drawn = np.stack([rng.multinomial(n, p) for n, p in zip(OLOFSSON.sum(axis=1), share, strict=True)])
        found = area_estimates(drawn.T, MAPPED_M2)
        assert found is not None
        areas.append(found.area_m2)
        producers.append(found.producers)
    exact = area_estimates(OLOFSSON.T, MAPPED_M2)
    assert exact is not None
    np.testing.assert_allclose(np.std(areas, axis=0), exact.area_se_m2, rtol=0.04)
    np.testing.assert_allclose(np.std(producers, axis=0), exact.producers_se, rtol=0.1)  # a linearised ratio


def test_areas_need_labels_in_every_class_of_the_map() -> None:
    few = OLOFSSON.copy()
    few[1] = [0, 1, 0, 0]
    assert area_estimates(few.T, MAPPED_M2) is None
    without = area_estimates(few.T, MAPPED_M2 * [1, 0, 1, 1])
    assert without is not None
    assert np.isfinite(without.area_se_m2).all()
    with pytest.raises(ConfigError, match="4 classes are scored and 3 areas given"):
        area_estimates(OLOFSSON.T, MAPPED_M2[:3])


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Blocks of one class each, whose accuracy differs from block to block: pixels within a block are wrong together."""
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(60):
        right = rng.beta(8, 2, 60)
        blocks = np.zeros((60, 2, 2), np.int64)
        blocks[:, 1, 1] = rng.binomial(400, right)
        blocks[:, 1, 0] = 400 - blocks[:, 1, 1]
        found = bootstrap(blocks, resamples=300, seed=seed)
        assert found is not None
        low, high = found["accuracy"]
        inside += low <= 0.8 <= high
    assert 52 <= inside <= 60
    first, again = (bootstrap(blocks, seed=4) for _ in range(2))
    assert first is not None
    assert again is not None
    assert all((again[name] == first[name]).all() for name in first)
    assert first["iou"].shape == (2, 2)
    assert bootstrap(blocks[:9]) is None


def test_intervals_are_those_of_the_scores_of_each_set_that_is_drawn() -> None:
    """A class that a set does not show counted as missed there: of a map without an error, mean IoU was 0.67 to 1."""
    rare = np.zeros((20, 3, 3), np.int64)
    rare[:, 0, 0], rare[:, 1, 1], rare[7, 2, 2] = 90, 10, 5
    perfect = bootstrap(rare)
    assert perfect is not None
    assert perfect["mean_iou"].tolist() == [1, 1]
    assert perfect["iou"].tolist() == perfect["f1"].tolist() == [[1, 1]] * 3
    dice = np.random.default_rng(5)
    blocks = dice.integers(0, 30, (12, 4, 4)) * (dice.uniform(size=(12, 1, 1)) < 0.7)
    blocks[:, 3], blocks[:, :, 3], blocks[2, 3, 3], blocks[2, 3, 0], blocks[:, 0, 0] = 0, 0, 4, 3, 9
    found = bootstrap(blocks, resamples=200, seed=1)
    assert found is not None
    drawn = [
        np.tensordot(weights, blocks, 1).astype(np.int64)
        for weights in np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), 200)
    ]
    means = [averages(confusion)["macro"]["iou"] for confusion in drawn]
    np.testing.assert_allclose(found["mean_iou"], np.percentile(means, (2.5, 97.5)))
    for value in range(4):
        shown = [c for c in drawn if c[value].any() or c[:, value].any()]
        for name in ("iou", "f1"):
            values = [getattr(class_scores(confusion), name)[value] for confusion in shown]
            np.testing.assert_allclose(found[name][value], np.percentile(values, (2.5, 97.5)))
    np.testing.assert_allclose(found["accuracy"], np.percentile([accuracy(each) for each in drawn], (2.5, 97.5)))


def test_a_class_without_labels_has_no_scores_in_a_record_though_the_mean_counts_what_was_taken_for_it() -> None:
    """It had 0 in record and card, as if it had been missed everywhere."""
    found = scores(np.array([[6, 0, 2], [0, 4, 0], [0, 0, 0]]), ("soil", "grass", "rock"))
    assert {name for name in found if "_" in name} == {
        f"{score}_{name}" for score in ("iou", "precision", "recall", "f1") for name in ("soil", "grass")
    }
    assert found["iou"] == pytest.approx((0.75 + 1 + 0) / 3, abs=1e-4)
