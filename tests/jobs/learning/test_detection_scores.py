"""Scores of objects against hotcoco, a port of COCO's own program, and against hand counts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from earthloom.jobs.learning.detection_scores import IOUS, Boxes, average_precision, counted, mistakes
from earthloom.tiling.errors import ConfigError
from tests.scenes import real


def boxes_of(xywh: NDArray[np.float64], classes: NDArray[np.int64], scores: NDArray[np.float64] | None = None) -> Boxes:
    edges = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return Boxes(edges=edges, classes=classes, areas=xywh[:, 2] * xywh[:, 3], scores=scores)


def drawn(seed: int, n_pictures: int) -> list[tuple[Boxes, Boxes]]:
    """Pictures with things that were found near, beside and twice."""
    dice = np.random.default_rng(seed)
    pictures = []
    for _ in range(n_pictures):
        n_true = int(dice.integers(0, 12))
        true = np.concatenate([dice.integers(0, 300, (n_true, 2)), dice.integers(4, 120, (n_true, 2))], 1).astype(float)
        again = true[dice.integers(0, n_true, int(dice.integers(0, 15)))] if n_true else true
        near = np.maximum(again + dice.integers(-6, 7, again.shape), [0, 0, 1, 1])
        n_false = int(dice.integers(0, 6))
        false = np.concatenate([dice.integers(0, 300, (n_false, 2)), dice.integers(4, 120, (n_false, 2))], 1)
        found = np.concatenate([near, false]).astype(float)
        scores = np.round(dice.uniform(size=len(found)), 1 if seed % 2 else 6)  # with and without ties
        pictures.append(
            (boxes_of(found, dice.integers(0, 2, len(found)), scores), boxes_of(true, dice.integers(0, 2, n_true)))
        )
    return pictures


def by_hotcoco(pictures: list[tuple[Boxes, Boxes]], tmp_path: Any) -> Any:
    from hotcoco import COCO, COCOeval

    def xywh(edges: NDArray[np.float64]) -> list[float]:
        return [float(edges[0]), float(edges[1]), float(edges[2] - edges[0]), float(edges[3] - edges[1])]

    truth: dict[str, Any] = {
        "images": [{"id": n + 1, "width": 512, "height": 512, "file_name": f"{n}"} for n in range(len(pictures))],
        "categories": [{"id": value + 1, "name": str(value)} for value in range(2)],
        "annotations": [],
    }
    results = []
    for n, (found, true) in enumerate(pictures):
        for edges, value, area in zip(true.edges, true.classes, true.areas, strict=True):
            truth["annotations"].append(
                {"id": len(truth["annotations"]) + 1, "image_id": n + 1, "category_id": int(value) + 1, "bbox": xywh(edges),
                 "area": float(area), "iscrowd": 0}
            )  # fmt: skip
        assert found.scores is not None
        for edges, value, score in zip(found.edges, found.classes, found.scores, strict=True):
            results.append(
                {"image_id": n + 1, "category_id": int(value) + 1, "bbox": xywh(edges), "score": float(score)}
            )
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "found.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    judge = COCOeval(coco, coco.load_res(str(tmp_path / "found.json")), "bbox")
    judge.evaluate()
    judge.accumulate()
    assert judge.eval is not None
    return np.asarray(judge.eval["precision"])  # (ious, recalls, classes, area ranges, most)


@given(seed=st.integers(0, 10**6), n_pictures=st.integers(1, 5))
@settings(deadline=None, max_examples=25)
def test_average_precision_is_that_of_coco(
    seed: int, n_pictures: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pictures = drawn(seed, n_pictures)
    if not any(len(found.classes) for found, _ in pictures) or not any(len(true.classes) for _, true in pictures):
        return  # hotcoco refuses empty files
    precision = by_hotcoco(pictures, tmp_path_factory.mktemp("coco"))
    for value in range(2):
        for place, areas in enumerate([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)]):
            expected = precision[:, :, value, place, -1]
            found = average_precision(pictures, value, areas=areas, most=100)
            if (expected == -1).all():
                assert np.isnan(found).all()
            else:
                assert found == pytest.approx(expected.mean(axis=1), abs=1e-9)


def test_real_ships_shifted_by_a_pixel_score_as_coco_says(tmp_path: Any) -> None:
    pictures = []
    for name in ("busan", "gdynia"):
        ships = json.loads(real(f"ships_s2/{name}_ships.json").read_text())["ships"]
        xywh = np.array([ship["bbox_xywh_px"] for ship in ships])
        nothing = np.zeros(len(xywh), np.int64)
        scores = np.linspace(1, 0.1, len(xywh))
        pictures.append((boxes_of(xywh + np.array([1, 0, 0, 1]), nothing, scores), boxes_of(xywh, nothing)))
    expected = by_hotcoco(pictures, tmp_path)[:, :, 0, 0, -1].mean(axis=1)
    found = average_precision(pictures, 0, most=100)
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[0] > 0.95 > found[-1]


def test_right_wrong_and_missed_are_counted_at_a_score() -> None:
    true = boxes_of(np.array([[0.0, 0, 10, 10], [50, 50, 10, 10]]), np.zeros(2, np.int64))
    found = boxes_of(
        np.array([[0.0, 0, 10, 9], [1, 0, 10, 10], [80, 80, 5, 5], [50, 50, 10, 10]]), np.zeros(4, np.int64),
        np.array([0.9, 0.8, 0.7, 0.2]),
    )  # fmt: skip
    strict = counted([(found, true)], 0, least_score=0.5)
    assert (strict.right, strict.wrong, strict.missed) == (1, 2, 1)
    assert (strict.precision, strict.recall, strict.f1) == pytest.approx((1 / 3, 1 / 2, 0.4))
    lenient = counted([(found, true)], 0, least_score=0.1)
    assert (lenient.right, lenient.wrong, lenient.missed) == (2, 2, 0)
    none = average_precision([(found, boxes_of(np.zeros((0, 4)), np.zeros(0, np.int64)))], 0)
    assert none.shape == (len(IOUS),)
    assert np.isnan(none).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 objects"):
        Boxes(edges=np.zeros((2, 4)), classes=np.zeros(2, np.int64), areas=np.zeros(1))
    true = boxes_of(np.zeros((1, 4)), np.zeros(1, np.int64))
    with pytest.raises(ConfigError, match="scores"):
        counted([(true, true)], 0, least_score=0.5)


@given(seed=st.integers(0, 10**6), n_pictures=st.integers(1, 5))
@settings(deadline=None, max_examples=25)
def test_mistakes_are_those_that_are_counted(seed: int, n_pictures: int) -> None:
    pictures = drawn(seed, n_pictures)
    each = [mistakes(found, true, iou=0.5) for found, true in pictures]
    for value in range(2):
        at = counted(pictures, value, least_score=0.0)
        wrong = sum(int((of[found.classes == value]).sum()) for (found, _), (of, _) in zip(pictures, each, strict=True))
        missed = sum(int((of[true.classes == value]).sum()) for (_, true), (_, of) in zip(pictures, each, strict=True))
        assert (wrong, missed) == (at.wrong, at.missed)


def test_of_two_boxes_on_one_object_the_less_likely_is_the_mistake() -> None:
    xywh = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 8, 8]], float)
    found = boxes_of(xywh, np.zeros(3, np.int64), np.array([0.4, 0.9, 0.8]))
    true = boxes_of(np.array([[0, 0, 10, 10], [200, 0, 5, 5]], float), np.zeros(2, np.int64))
    wrong, missed = mistakes(found, true)
    assert wrong.tolist() == [True, False, True]
    assert missed.tolist() == [False, True]
