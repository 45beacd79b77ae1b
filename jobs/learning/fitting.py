"""One training with one seed: steps, validation, checkpoints, and going on where an earlier process was killed.

What comes out is a function of the job alone, not of when it was interrupted. Knows nothing of cards, of what is learned
or of the test part.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.learning.batches import Ahead, Crops
from earthloom.jobs.learning.checkpoints import Checkpoints
from earthloom.jobs.learning.config import ComputeTable
from earthloom.jobs.learning.unbroken import unbroken
from earthloom.models.training.fit import Fit
from earthloom.models.training.team import Team
from earthloom.tiling.errors import EarthloomError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen of the validation part.

    Attributes:
        score: what is made large.
        values: its other figures, by name.
    """

    score: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """When and how the validation part is looked at.

    Attributes:
        steps: between two looks.
        patience: looks without a better one, after which the training ends; None: never.
        look: judges the averaged weights of a fit, together with the other processes of a team; None: there is no such part.
    """

    steps: int
    patience: int | None
    look: Callable[[Fit, Team], Look] | None

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the validation part is looked at after a step."""
        return self.look is not None and step > 0 and (step % self.steps == 0 or step == steps)


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
    look: Look | None = None
    """At the validation part, where one was taken."""
    is_best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What came of one seed.

    Attributes:
        weights: name -> tensor, of the network that is kept.
        step: of which they are.
        steps: that were taken.
        score: on the validation part; None without one.
        looks: every look: step, mean loss since the last one, score.
    """

    seed: int
    weights: dict[str, Any]
    step: int
    steps: int
    score: float | None
    looks: list[dict[str, Any]]


def fit_seed(
    fit: Fit, crops: Crops, looking: Looking, checkpoints: Checkpoints, compute: ComputeTable, *,
    team: Team, on_progress: Callable[[Progress], None] = lambda _: None,
) -> Fitted:  # fmt: skip
    """Train, or go on training, to the end.

    Args:
        fit: at its beginning.
        crops: the data.
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
    journal, loss = _Journal(), math.nan
    if (found := checkpoints.latest()) is not None:
        tensors, note = found
        fit.resume(tensors, note["step"])
        journal, loss = _Journal(**note["journal"]), note.get("loss", math.nan)
    n_parts = schedule.batch // team.size
    places = range(team.number * n_parts, (team.number + 1) * n_parts)
    batches = Ahead(
        crops.crop, places, schedule.steps * schedule.accumulate, threads=compute.readers, ahead=compute.ahead
    )
    begun = saved = time.monotonic()
    saved_step, is_whole = fit.step, True

    def save() -> None:
        nonlocal saved, saved_step
        note = {"step": fit.step, "loss": loss, "journal": journal.to_dict()}
        checkpoints.save(fit.step, fit.state(), note, journal.best_step)
        saved, saved_step = time.monotonic(), fit.step

    def tell(seen: Look | None, *, is_best: bool) -> None:
        on_progress(
            Progress(
                seed=seed, step=fit.step, steps=schedule.steps, loss=loss, rate=schedule.rate_at(fit.step - 1),
                waited_s=batches.waited_s, elapsed_s=time.monotonic() - begun, look=seen, is_best=is_best,
            )
        )  # fmt: skip

    def look_and_tell() -> None:
        nonlocal is_whole
        seen = None
        if looking.look is not None and looking.is_due(fit.step, schedule.steps):
            seen = looking.look(fit, team)
            with unbroken():  # a look that is in the journal is told: it is not taken again
                is_whole = False
                is_best = journal.look(fit.step, seen.score)
                if is_best and team.is_first:
                    checkpoints.save_best(fit.step, _own(fit))
                is_whole = True
                tell(seen, is_best=is_best)
        else:
            tell(None, is_best=False)
        is_last = fit.step == schedule.steps
        if team.is_first and (seen is not None or is_last or time.monotonic() - saved >= compute.checkpoint_s):
            save()

    try:
        if looking.is_due(fit.step, schedule.steps) and fit.step != journal.last_step:  # a look that was interrupted
            look_and_tell()
        while fit.step < schedule.steps and not journal.is_out_of(looking.patience):
            batches.wait(fit.step * schedule.accumulate)  # where a signal need not wait: no step has begun
            with unbroken():
                is_whole = False
                loss = fit.advance(batches.batch)
                journal.add(loss)
                is_whole = True
            look_and_tell()
    except (SystemExit, KeyboardInterrupt):
        if team.is_first and is_whole and fit.step > saved_step:  # else a second signal has left half a step
            _keep(save, fit.step, schedule.steps)
        raise
    note = {
        "step": journal.best_step or fit.step, "steps": fit.step, "score": journal.best_score, "looks": journal.looks,
    }  # fmt: skip
    weights: dict[str, Any] = {}  # the first process of a team has them, and writes them
    if team.is_first:
        weights = _own(fit) if journal.best_step is None else checkpoints.best(journal.best_step)
        checkpoints.finish(weights, note)
    team.wait()
    return Fitted(seed=seed, weights=weights, **note)


def _keep(save: Callable[[], None], step: int, steps: int) -> None:
    """Write a checkpoint while the process is being stopped; what cannot be written is made again from the last one."""
    try:
        with unbroken():
            save()
    except EarthloomError as error:
        _log.warning("step %d of %d is not kept: %s", step, steps, error)
    else:
        _log.warning("stopped after step %d of %d, which is kept", step, steps)


def _own(fit: Fit) -> dict[str, Any]:
    """The weights that would be kept now, on the CPU."""
    return {name: value.cpu().contiguous() for name, value in fit.kept().state_dict().items()}


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

    def look(self, step: int, score: float) -> bool:
        """Note a look and say whether it is the best so far."""
        mean = round(self._total / max(self._steps, 1), 6)
        self.looks.append({"step": step, "loss": mean, "score": round(score, 6)})
        self._total, self._steps = 0.0, 0
        if self.best_score is None or score > self.best_score:
            self.best_step, self.best_score, self._worse = step, score, 0
            return True
        self._worse += 1
        return False

    @property
    def last_step(self) -> int | None:
        """Of the last look."""
        return self.looks[-1]["step"] if self.looks else None

    def is_out_of(self, patience: int | None) -> bool:
        return patience is not None and self._worse >= patience

    def to_dict(self) -> dict[str, Any]:
        return {
            "looks": self.looks, "total": self._total, "steps": self._steps, "best_step": self.best_step,
            "best_score": self.best_score, "worse": self._worse,
        }  # fmt: skip
