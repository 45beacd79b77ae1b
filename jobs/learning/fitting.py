"""One training with one seed: steps, looks at the validation part, checkpoints, and going on where a process was killed.

What comes out is a function of the job alone, not of when it was interrupted. Knows nothing of cards or of the test part.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.batches import Ahead, Crops, ordered
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import ComputeTable
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.split import Part
from earthloom.models.training.augment import stacked
from earthloom.models.training.fit import Fit
from earthloom.models.training.score import confusion_of, iou, mean_iou, summed
from earthloom.models.training.team import Team
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """When and how the validation part is looked at.

    Attributes:
        steps: between two looks.
        patience: looks without a better one, after which the training ends; None: never.
        metric: `iou`, the mean over classes, or `iou_<class>`.
        windows: (scene, core) of the validation part's chips; none: no look is taken.
        margin_px: context around a core.
        gap_px: pixels as near as this to one that is trained on are not counted.
    """

    steps: int
    patience: int | None
    metric: str
    windows: tuple[tuple[int, Window], ...]
    margin_px: int
    gap_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a training tells while it goes on."""

    seed: int
    step: int
    steps: int
    loss: float
    """Of this step."""
    rate: float
    """Learning rate, as a share of the highest."""
    waited_s: float
    """Of `elapsed_s`, what was spent waiting for crops."""
    elapsed_s: float
    counts: NDArray[np.int64] | None = None
    """Of a look: the confusion over the validation part."""
    score: float | None = None
    is_best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What came of one seed.

    Attributes:
        weights: name -> tensor, of the network that is kept.
        step: of which they are.
        steps: that were taken.
        score: on the validation part; None without one.
        looks: every look: step, mean loss since the last one, score, confusion.
    """

    seed: int
    weights: dict[str, Any]
    step: int
    steps: int
    score: float | None
    looks: list[dict[str, Any]]


def fit_seed(
    fit: Fit, crops: Crops, examples: Examples, looking: Looking, checkpoints: Checkpoints, compute: ComputeTable, *,
    team: Team, on_progress: Callable[[Progress], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    """Train, or go on training, to the end.

    Args:
        fit: at its beginning.
        crops, examples: the data.
        looking: at the validation part.
        checkpoints: of this training and seed.
        compute: threads, and how often a checkpoint is written.
        team: the processes that train together; the first of them writes.

    Raises:
        EngineError: if the loss is no longer a number.
        SceneError, StorageError: if the data cannot be read, or a checkpoint not written.
    """
    schedule, seed = fit.schedule, fit.schedule.seed
    if (done := checkpoints.finished()) is not None:
        if team.is_first:
            checkpoints.tidy()
        return Fitted(seed=seed, weights=done[0], **done[1])
    journal = _Journal()
    if (found := checkpoints.latest()) is not None:
        tensors, note = found
        fit.resume(tensors, note["step"])
        journal = _Journal(**note["journal"])
    n_parts = schedule.batch // team.size
    places = range(team.number * n_parts, (team.number + 1) * n_parts)
    batches = Ahead(
        crops.crop, places, schedule.steps * schedule.accumulate, threads=compute.readers, ahead=compute.ahead
    )
    begun = saved = time.monotonic()
    while fit.step < schedule.steps and not journal.is_out_of(looking.patience):
        loss = fit.advance(batches.batch)
        journal.add(loss)
        is_last = fit.step == schedule.steps
        looks = bool(looking.windows) and (fit.step % looking.steps == 0 or is_last)
        counts, score, is_best = None, None, False
        if looks:
            counts = _look(fit, examples, looking, compute.readers, team)
            score = score_of(counts, looking.metric, examples.classes)
            is_best = journal.look(fit.step, score, counts)
            if is_best and team.is_first:
                checkpoints.save_best(fit.step, _own(fit))
        on_progress(
            Progress(
                seed=seed, step=fit.step, steps=schedule.steps, loss=loss, rate=schedule.rate_at(fit.step - 1),
                waited_s=batches.waited_s, elapsed_s=time.monotonic() - begun, counts=counts, score=score, is_best=is_best,
            )
        )  # fmt: skip
        if team.is_first and (looks or is_last or time.monotonic() - saved >= compute.checkpoint_s):
            note = {"step": fit.step, "journal": journal.to_dict()}
            checkpoints.save(fit.step, fit.state(), note, journal.best_step)
            saved = time.monotonic()
    note = {
        "step": journal.best_step or fit.step, "steps": fit.step, "score": journal.best_score, "looks": journal.looks,
    }  # fmt: skip
    weights: dict[str, Any] = {}  # the first process of a team has them, and writes them
    if team.is_first:
        weights = _own(fit) if journal.best_step is None else checkpoints.best(journal.best_step)
        checkpoints.finish(weights, note)
    team.wait()
    return Fitted(seed=seed, weights=weights, **note)


def _own(fit: Fit) -> dict[str, Any]:
    """The averaged weights as they are now, on the CPU."""
    return {name: value.cpu().contiguous() for name, value in fit.average.state_dict().items()}


def score_of(counts: NDArray[np.int64], metric: str, classes: Sequence[str]) -> float:
    """What is made large: the mean IoU, or that of one class."""
    return mean_iou(counts) if metric == "iou" else iou(counts, list(classes).index(metric.removeprefix("iou_")))


class _Journal:
    """What was seen so far, as it goes into a checkpoint."""

    def __init__(
        self, looks: list[dict[str, Any]] | None = None, total: float = 0.0, steps: int = 0, best_step: int | None = None,
        best_score: float | None = None, worse: int = 0,
    ) -> None:  # fmt: skip
        self.looks = looks or []
        self.best_step, self.best_score = best_step, best_score
        self._total, self._steps, self._worse = total, steps, worse

    def add(self, loss: float) -> None:
        self._total += loss
        self._steps += 1

    def look(self, step: int, score: float, counts: NDArray[np.int64]) -> bool:
        """Note a look and say whether it is the best so far."""
        mean = round(self._total / max(self._steps, 1), 6)
        self.looks.append({"step": step, "loss": mean, "score": round(score, 6), "counts": counts.tolist()})
        self._total, self._steps = 0.0, 0
        if self.best_score is None or score > self.best_score:
            self.best_step, self.best_score, self._worse = step, score, 0
            return True
        self._worse += 1
        return False

    def is_out_of(self, patience: int | None) -> bool:
        return patience is not None and self._worse >= patience

    def to_dict(self) -> dict[str, Any]:
        return {
            "looks": self.looks, "total": self._total, "steps": self._steps, "best_step": self.best_step,
            "best_score": self.best_score, "worse": self._worse,
        }  # fmt: skip


def _look(fit: Fit, examples: Examples, looking: Looking, threads: int, team: Team) -> NDArray[np.int64]:
    """The confusion of the averaged weights over the validation part."""

    def window_of(item: tuple[int, Window]) -> tuple[Any, Any]:
        return examples.judged(*item, looking.margin_px, Part.VALIDATION, looking.gap_px)

    mine, n_classes = looking.windows[team.number :: team.size], len(examples.classes)
    is_bf16 = fit.schedule.precision == "bf16"
    total = np.zeros((n_classes, n_classes), np.int64)
    waiting: list[tuple[Any, Any]] = []
    for number, made in enumerate(ordered(window_of, mine, threads=threads, ahead=2 * threads), 1):
        waiting.append(made)
        if len(waiting) == fit.schedule.batch or number == len(mine):
            total += confusion_of(fit.average, *stacked(waiting), n_classes, is_bf16=is_bf16).numpy()
            waiting = []
    return summed(total, team)
