"""Scores of detectors: average precision as COCO defines it, and precision and recall from a given score on.

Lin et al. (2014), Microsoft COCO, with the details of its published program: detections are taken by falling score and each
gets the box of the truth that it overlaps most of those that are left; precision is read at 101 recalls. Numpy only; knows
nothing of files or networks. hotcoco, a port of that program, is the oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earthloom.models.inference.boxes import overlap
from earthloom.tiling.errors import ConfigError

IOUS: tuple[float, ...] = tuple(float(iou) for iou in np.linspace(0.5, 0.95, 10))
"""Intersections over union from which a detection counts as right, of AP50-95."""
_RECALLS = np.linspace(0, 1, 101)
_ALL = (0.0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """Objects of one picture.

    Attributes:
        edges: (n, 4) left, top, right, bottom, in pixels.
        classes: (n,) class of each.
        areas: (n,) by which they are told apart by size, in any unit; m² of what the network and the truth call so.
        scores: (n,) from 0 to 1; none of the truth.

    Raises:
        ConfigError: if lengths do not agree.
    """

    edges: NDArray[np.float64]
    classes: NDArray[np.int64]
    areas: NDArray[np.float64]
    scores: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n = len(self.classes)
        lengths = [len(self.areas), *([len(self.scores)] if self.scores is not None else [])]
        if self.edges.shape != (n, 4) or lengths != [n] * len(lengths):
            raise ConfigError(
                f"{n} objects have edges ({n}, 4), areas and scores ({n},); got {self.edges.shape} and {lengths}"
            )

    def chosen(self, which: NDArray[np.bool_]) -> Boxes:
        """The boxes that are chosen (n,)."""
        scores = None if self.scores is None else self.scores[which]
        return Boxes(
            edges=self.edges[which], classes=self.classes[which], areas=self.areas[which], scores=scores
        )  # fmt: skip


Compared = tuple[Boxes, Boxes]
"""What was found on one picture, with scores, and what is true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Objects at one score and one intersection over union."""

    right: int
    """Found where there is one."""
    wrong: int
    """Found where there is none, or a second time."""
    missed: int

    @property
    def precision(self) -> float:
        return self.right / max(self.right + self.wrong, 1)

    @property
    def recall(self) -> float:
        return self.right / max(self.right + self.missed, 1)

    @property
    def f1(self) -> float:
        return 2 * self.right / max(2 * self.right + self.wrong + self.missed, 1)


def average_precision(
    pictures: Sequence[Compared], value: int, *, ious: Sequence[float] = IOUS, areas: tuple[float, float] = _ALL,
    most: int = 10_000,
) -> NDArray[np.float64]:  # fmt: skip
    """AP of one class at each intersection over union, (len(ious),); NaN where the truth has no object of it.

    Args:
        pictures: what was found and what is true on each.
        value: the class.
        areas: objects of the truth outside are neither wanted nor wrong to find, nor are detections outside that match
            none.
        most: detections of a picture that count, the best; COCO's program takes 100.
    """
    judged = [_judge(found, true, value, ious, areas, most) for found, true in pictures]
    n_true = sum(each.n_true for each in judged)
    if not n_true:
        return np.full(len(ious), np.nan)
    scores = np.concatenate([each.scores for each in judged])
    order = np.argsort(-scores, kind="stable")
    is_right = np.concatenate([each.is_right for each in judged], axis=1)[:, order]
    counts = ~np.concatenate([each.is_ignored for each in judged], axis=1)[:, order]
    found = np.empty(len(ious))
    for place, (right, count) in enumerate(zip(is_right, counts, strict=True)):
        n_right, n_wrong = np.cumsum(right & count), np.cumsum(~right & count)
        precision = n_right / np.maximum(n_right + n_wrong, np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(n_right / n_true, _RECALLS, side="left")
        found[place] = np.where(at < len(envelope), np.append(envelope, 0)[np.minimum(at, len(envelope))], 0).mean()
    return found


def counted(pictures: Sequence[Compared], value: int, *, least_score: float, iou: float = 0.5) -> Counted:
    """Objects of one class that are right, wrong and missed, of detections with at least a score."""
    right = wrong = n_true = 0
    for found, true in pictures:
        judged = _judge(found, true, value, (iou,), _ALL, len(found.classes))
        strong = judged.scores >= least_score
        right += int((judged.is_right[0] & strong).sum())
        wrong += int((~judged.is_right[0] & strong).sum())
        n_true += judged.n_true
    return Counted(right=right, wrong=wrong, missed=n_true - right)


def mistakes(found: Boxes, true: Boxes, *, iou: float = 0.5) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which objects of one picture are wrong (n_found,), for there is none or it is found a second time, and which of the
    truth are missed (n_true,); each class by itself, by the rule of `counted` at a score of 0."""
    wrong, missed = np.ones(len(found.classes), np.bool_), np.ones(len(true.classes), np.bool_)
    for value in np.unique(np.concatenate([found.classes, true.classes])).tolist():
        judged = _judge(found, true, value, (iou,), _ALL, len(found.classes))
        wrong[judged.found] = ~judged.is_right[0]
        missed[judged.true] = ~judged.is_taken[0]
    return wrong, missed


@dataclass(frozen=True, slots=True)
class _Judged:
    found: NDArray[np.intp]
    """Places of the class's detections in what was found, by falling score."""
    true: NDArray[np.intp]
    """Places of the class's objects in the truth; those that are wanted first."""
    scores: NDArray[np.float64]
    is_right: NDArray[np.bool_]
    """(intersections over union, detections)"""
    is_ignored: NDArray[np.bool_]
    is_taken: NDArray[np.bool_]
    """(intersections over union, objects of the truth) whether one was found there"""
    n_true: int


def _judge(
    found: Boxes, true: Boxes, value: int, ious: Sequence[float], areas: tuple[float, float], most: int
) -> _Judged:
    if found.scores is None:
        raise ConfigError("objects that were found have scores; give them")
    mine = np.flatnonzero(found.classes == value)
    mine = mine[np.argsort(-found.scores[mine], kind="stable")][:most]
    theirs = np.flatnonzero(true.classes == value)
    outside = (true.areas[theirs] < areas[0]) | (true.areas[theirs] > areas[1])
    theirs = theirs[np.argsort(outside, kind="stable")]  # those that are wanted first
    outside = np.sort(outside)
    small_or_large = (found.areas[mine] < areas[0]) | (found.areas[mine] > areas[1])
    overlaps = np.array([overlap(found.edges[each], true.edges[theirs]) for each in mine]).reshape(
        len(mine), len(theirs)
    )
    is_right = np.zeros((len(ious), len(mine)), np.bool_)
    is_ignored, is_taken = np.zeros_like(is_right), np.zeros((len(ious), len(theirs)), np.bool_)
    for place, iou in enumerate(ious):
        taken = is_taken[place]
        for number, shared in enumerate(overlaps):
            best = _best(shared, taken, outside, min(iou, 1 - 1e-10))
            if best is None:
                is_ignored[place, number] = small_or_large[number]
                continue
            taken[best], is_right[place, number] = True, True
            is_ignored[place, number] = outside[best]
    return _Judged(
        found=mine, true=theirs, scores=found.scores[mine], is_right=is_right, is_ignored=is_ignored, is_taken=is_taken,
        n_true=int((~outside).sum()),
    )  # fmt: skip


def _best(
    shared: NDArray[np.float64], taken: NDArray[np.bool_], outside: NDArray[np.bool_], least: float
) -> int | None:
    """The box that is overlapped most, the last one of equals; one that is wanted before one that is not."""
    for group in (~outside, outside):
        able = np.flatnonzero(group & ~taken & (shared >= least))
        if able.size:
            return int(able[np.flatnonzero(shared[able] == shared[able].max())[-1]])
    return None
