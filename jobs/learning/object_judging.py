"""How well a detector finds objects: on the validation part while it learns, on the test part through the production tiler.

Found are the peaks of whole scenes, merged as a run merges them; only objects whose middle lies in the part count, on
both sides. Memory grows with objects, not with pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.boxes import Marked, boxes_of
from earthloom.jobs.learning.detection_scores import Boxes, Compared, average_precision, counted
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Look
from earthloom.jobs.learning.judging import Distance, mapped
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.boxes import Found, corners, in_order, merge, scores
from earthloom.models.inference.objects import Objects
from earthloom.models.inference.predictor import Predictor
from earthloom.models.training.augment import stacked
from earthloom.models.training.fit import Fit
from earthloom.models.training.score import answered
from earthloom.models.training.team import Team
from earthloom.tiling.background import ordered
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.window import Window

_LEAST_SCORE = 0.05
"""Lowest score of an object that counts for average precision, which is about all scores."""


def lenient(card: ModelCard) -> ModelCard:
    """The card with a threshold so low that average precision sees what its own would hide."""
    assert card.objects is not None
    rule = replace(card.objects, threshold=min(card.objects.threshold, _LEAST_SCORE))
    return replace(card, objects=rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLook:
    """Finds the objects of the validation part; every process of a team looks at all of it.

    Attributes:
        examples: the data.
        card: card of the detector.
        windows: (scene, core) of the chips.
        margin_px: context around a core.
        threads: that read.
    """

    examples: Examples
    card: ModelCard
    windows: Sequence[tuple[int, Window]]
    margin_px: int
    threads: int

    def __call__(self, fit: Fit, _team: Team) -> Look:
        found: dict[int, list[Found]] = {}
        true: dict[int, list[Marked]] = {}
        kept, is_bf16 = fit.kept(), fit.schedule.precision == "bf16"
        coming = ordered(self._window, self.windows, threads=self.threads, ahead=2 * self.threads)
        for (number, core), (values, labels) in zip(self.windows, coming, strict=True):
            crops, _ = stacked([(values, labels)])
            answer = answered(kept, crops, is_bf16=is_bf16)[0]
            seen, judged = self._peaks(number, core, answer, labels.numpy() != IGNORE)
            found.setdefault(number, []).append(seen)
            true.setdefault(number, []).append(judged)
        pictures = [_compared(self.examples, self.card, number, found[number], true[number]) for number in found]
        values_of = object_scores(pictures, self.card)
        return Look(score=values_of["ap50"], values=values_of)

    def _window(self, item: tuple[int, Window]) -> tuple[Any, Any]:
        return self.examples.judged(*item, self.margin_px, Part.VALIDATION, 0)

    def _peaks(self, number: int, core: Window, answer: Any, judged: NDArray[np.bool_]) -> tuple[Found, Marked]:
        each = self.examples.scenes[number]
        whole, read = each.scene.grid.window, core.grow(self.margin_px)
        chips = ChipGrid(
            scene=whole, core_px=core.width, halo_px=self.margin_px, stride_px=self.card.stride_px
        )  # fmt: skip
        inside = core & whole
        canvas = Objects.of(lenient(self.card)).canvas(chips, inside, "cpu")
        canvas.add(read, core, [answer])
        valid = judged[inside.slices(read)]
        return canvas.finish(valid).found, _within(boxes_of(each.labels, each.scene.grid), inside, valid)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectJudgement:
    """The objects of one part, found and true.

    Attributes:
        pictures: by scene, what was found and what is true.
        pixels: that were judged.
    """

    pictures: Mapping[str, Compared]
    pixels: int
    distance: Distance

    def record(self, card: ModelCard) -> dict[str, Any]:
        """The scores as they go into the record of a training."""
        pictures = [compared for _, compared in sorted(self.pictures.items())]
        return {
            "pixels": self.pixels,
            "objects": sum(len(true.classes) for _, true in pictures),
            **self.distance.record(self.pixels),
            "scores": object_scores(pictures, card) if any(len(true.classes) for _, true in pictures) else {},
            "by_scene": {
                name: object_scores([compared], card)["ap50"] for name, compared in sorted(self.pictures.items())
            },
        }


def judge_objects(
    predictor: Predictor, card: ModelCard, examples: Examples, part: Part, gap_px: int
) -> ObjectJudgement:
    """Find what is on each scene of a part and compare it with what was marked.

    Args:
        predictor: predictor of the `lenient` card.
        card: says how the scenes are tiled.
        gap_px: objects as near as this to a pixel that was trained on are not judged; the card's halo at least.

    Raises:
        SceneError, StorageError: if the data cannot be read.
    """
    pixels, distance = 0, Distance()
    found: dict[int, list[Found]] = {}
    true: dict[int, list[Marked]] = {}
    for number, core, labels, made in mapped(predictor, card, examples, part, gap_px, distance):
        judged = labels != IGNORE
        pixels += int(judged.sum())
        objects = made.found
        is_judged = judged[objects["row"] - core.row_off, objects["col"] - core.col_off]
        found.setdefault(number, []).append(objects[is_judged])
        each = examples.scenes[number]
        true.setdefault(number, []).append(_within(boxes_of(each.labels, each.scene.grid), core, judged))
    return ObjectJudgement(
        pictures={
            examples.scenes[number].scene.id: _compared(examples, card, number, found[number], true[number])
            for number in found
        },
        pixels=pixels, distance=distance,
    )  # fmt: skip


def object_scores(pictures: Sequence[Compared], card: ModelCard) -> dict[str, float]:
    """AP50 and AP50-95, their means over the classes that are there, and precision, recall and F1 at the card's threshold
    and an intersection over union of 0.5; 4 digits."""
    assert card.objects is not None
    found: dict[str, float] = {}
    precisions: list[NDArray[np.float64]] = []
    for value, name in enumerate(card.gives):
        if not any((true.classes == value).any() for _, true in pictures):
            continue
        each = average_precision(pictures, value)
        precisions.append(each)
        at = counted(pictures, value, least_score=card.objects.threshold)
        found |= {
            f"ap50_{name}": float(each[0]), f"ap50_95_{name}": float(each.mean()), f"precision_{name}": at.precision,
            f"recall_{name}": at.recall, f"f1_{name}": at.f1,
        }  # fmt: skip
    means = np.mean(precisions, axis=0) if precisions else np.zeros(1)
    found |= {"ap50": float(means[0]), "ap50_95": float(means.mean())}
    return {name: round(value, 4) for name, value in found.items()}


def _within(marked: Marked, window: Window, judged: NDArray[np.bool_]) -> Marked:
    """The objects whose middle lies in a window, where it is judged (h, w)."""
    cols, rows = (marked.centres - (window.col_off, window.row_off)).T
    inside = (cols >= 0) & (cols < window.width) & (rows >= 0) & (rows < window.height)
    inside[inside] = judged[rows[inside], cols[inside]]
    return marked.chosen(inside)


def _compared(
    examples: Examples, card: ModelCard, number: int, found: Sequence[Found], true: Sequence[Marked]
) -> Compared:
    assert card.objects is not None
    objects = merge(in_order(np.concatenate(found)), card.objects.merge_iou)
    pixel_m2 = examples.scenes[number].scene.grid.gsd_m() ** 2
    edges, wanted = corners(objects), np.concatenate([each.edges for each in true])
    return (
        Boxes(
            edges=edges, classes=objects["class"].astype(np.int64), areas=_areas(edges) * pixel_m2, scores=scores(objects)
        ),
        Boxes(edges=wanted, classes=np.concatenate([each.classes for each in true]), areas=_areas(wanted) * pixel_m2),
    )  # fmt: skip


def _areas(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.prod(edges[:, 2:] - edges[:, :2], axis=1))
