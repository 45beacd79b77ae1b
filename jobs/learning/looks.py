"""Validation of a map of classes during training: confusion and IoU on the validation part.

What objects are judged by is in `jobs.learning.object_judging`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.fitting import Look
from earthloom.jobs.learning.scores import averages, class_scores
from earthloom.jobs.learning.split import Part
from earthloom.models.training.augment import stacked
from earthloom.models.training.fit import Fit
from earthloom.models.training.score import confusion_of, summed
from earthloom.models.training.team import Team
from earthloom.tiling.background import ordered
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLook:
    """Maps the chips of the validation part; the processes of a team share them.

    Attributes:
        examples: the data.
        metric: `iou`, the mean over classes, or `iou_<class>`.
        windows: (scene, core) of the chips.
        margin_px: context around a core.
        gap_px: pixels as near as this to one that is trained on are not counted.
        threads: that read.
    """

    examples: Examples
    metric: str
    windows: Sequence[tuple[int, Window]]
    margin_px: int
    gap_px: int
    threads: int

    def __call__(self, fit: Fit, team: Team) -> Look:
        mine, classes = self.windows[team.number :: team.size], self.examples.classes
        kept, is_bf16 = fit.kept(), fit.schedule.precision == "bf16"
        total = np.zeros((len(classes), len(classes)), np.int64)
        waiting: list[tuple[Any, Any]] = []
        for number, made in enumerate(ordered(self._window, mine, threads=self.threads, ahead=2 * self.threads), 1):
            waiting.append(made)
            if len(waiting) == fit.schedule.batch or number == len(mine):
                total += confusion_of(kept, *stacked(waiting), len(classes), is_bf16=is_bf16).numpy()
                waiting = []
        counts = summed(total, team)
        values = {f"iou_{name}": float(iou) for name, iou in zip(classes, class_scores(counts).iou, strict=True)}
        score = averages(counts)["macro"]["iou"] if self.metric == "iou" else values[self.metric]
        return Look(score=score, values=values)

    def _window(self, item: tuple[int, Window]) -> tuple[Any, Any]:
        return self.examples.judged(*item, self.margin_px, Part.VALIDATION, self.gap_px)
