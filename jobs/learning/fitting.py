"""One training with one seed: steps, validation, checkpoints, and going on where an earlier process was killed.

What comes out is a function of the job alone, not of when it was interrupted. Knows nothing of cards, of what is learned
or of the test part.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    """The scores of one look at the validation part.

    Attributes:
        score: the figure that training makes as large as it can.
        values: the other figures, by name.
    """

    score: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """The plan of looks at the validation part.

    Attributes:
        steps: number of steps between two looks.
        patience: number of looks without a better score after which the training ends; None: it never ends early.
        look: judges the averaged weights of a fit, together with the other processes of a team; None if there is no
            validation part.
    """

    steps: int
    patience: int | None
    look: Callable[[Fit, Team], Look] | None

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the validation part is looked at after a step."""
        return self.look is not None and step > 0 and (step % self.steps == 0 or step == steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state of a training after a step."""

    seed: int
    step: int
    steps: int
    loss: float
    """Loss of this step."""
    rate: float
    """Learning rate, as a share of the highest."""
    waited_s: float
    """Part of `elapsed_s` that was spent waiting for crops."""
    elapsed_s: float
    look: Look | None = None
    """The look at the validation part after this step; None if none was taken."""
    is_best: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The network that training with one seed ended with.

    Attributes:
        weights: tensors of the network that is kept, by name.
        step: the step after which the network had these weights.
        steps: number of steps that were taken.
        score: of these weights on the validation part; None if there is no such part.
        looks: one entry for each look: its step, the mean loss since the last look, and its score.
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
        fit: the network and its optimiser, before the first step.
        crops: the training data.
        looking: when and how the validation part is looked at.
        checkpoints: where those of this training and seed are kept.
        compute: number of threads, and how often a checkpoint is written.
        team: the processes that train together; the first of them writes.

    Raises:
        EngineError: if the loss is no longer a number.
        SceneError, StorageError: if the data cannot be read, or a checkpoint not written.
    """
    if (finished := checkpoints.finished()) is not None:
        if team.is_first:
            checkpoints.tidy()
        weights, note = finished
        return Fitted(seed=fit.schedule.seed, weights=weights, **note)
    return _SeedTraining(fit, crops, looking, checkpoints, compute, team, on_progress).run()


class _SeedTraining:
    """One seed's training while it goes on; it begins where the latest checkpoint ends."""

    def __init__(
        self, fit: Fit, crops: Crops, looking: Looking, checkpoints: Checkpoints, compute: ComputeTable, team: Team,
        on_progress: Callable[[Progress], None],
    ) -> None:  # fmt: skip
        self._fit, self._looking, self._checkpoints = fit, looking, checkpoints
        self._compute, self._team, self._on_progress = compute, team, on_progress
        self._journal, self._loss = _Journal(), math.nan
        if (latest := checkpoints.latest()) is not None:
            tensors, note = latest
            fit.resume(tensors, note["step"])
            self._journal, self._loss = _Journal(**note["journal"]), note.get("loss", math.nan)
        n_places = fit.schedule.batch // team.size
        self._batches = Ahead(
            crops.crop, range(team.number * n_places, (team.number + 1) * n_places),
            fit.schedule.steps * fit.schedule.accumulate, threads=compute.readers, ahead=compute.ahead,
        )  # fmt: skip
        self._begun_s = self._saved_s = time.monotonic()
        self._saved_step = fit.step
        self._is_whole = True

    def run(self) -> Fitted:
        """Train to the end; a process that is being stopped first writes a checkpoint of the steps since the last one."""
        try:
            self._train()
        except (SystemExit, KeyboardInterrupt):
            is_unsaved = self._fit.step > self._saved_step
            if self._team.is_first and self._is_whole and is_unsaved:  # else a second signal has left half a step
                self._save_while_stopping()
            raise
        return self._finish()

    def _train(self) -> None:
        fit, schedule, journal = self._fit, self._fit.schedule, self._journal
        if self._looking.is_due(fit.step, schedule.steps) and fit.step != journal.last_step:
            self._end_step()  # its look was interrupted
        while fit.step < schedule.steps and not journal.is_out_of(self._looking.patience):
            self._batches.wait(fit.step * schedule.accumulate)  # where a signal need not wait: no step has begun
            with unbroken(), self._changing():
                self._loss = fit.advance(self._batches.batch)
                journal.add(self._loss)
            self._end_step()

    def _end_step(self) -> None:
        """Take a look if one is due, tell of the step, and write a checkpoint if it is time for one."""
        fit, looking, steps = self._fit, self._looking, self._fit.schedule.steps
        seen = None
        if looking.look is not None and looking.is_due(fit.step, steps):
            seen = looking.look(fit, self._team)
            with unbroken():  # a look that is in the journal is told: it is not taken again
                with self._changing():
                    is_best = self._journal.look(fit.step, seen.score)
                    if is_best and self._team.is_first:
                        self._checkpoints.save_best(fit.step, _own(fit))
                self._tell(seen, is_best=is_best)
        else:
            self._tell(None, is_best=False)
        is_time = time.monotonic() - self._saved_s >= self._compute.checkpoint_s
        if self._team.is_first and (seen is not None or fit.step == steps or is_time):
            self._save()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Weights, journal and best weights belong together only before and after; an error in between leaves half a step."""
        self._is_whole = False
        yield
        self._is_whole = True

    def _tell(self, look: Look | None, *, is_best: bool) -> None:
        schedule, step = self._fit.schedule, self._fit.step
        self._on_progress(
            Progress(
                seed=schedule.seed, step=step, steps=schedule.steps, loss=self._loss, rate=schedule.rate_at(step - 1),
                waited_s=self._batches.waited_s, elapsed_s=time.monotonic() - self._begun_s, look=look, is_best=is_best,
            )
        )  # fmt: skip

    def _save(self) -> None:
        fit, journal = self._fit, self._journal
        note = {"step": fit.step, "loss": self._loss, "journal": journal.to_dict()}
        self._checkpoints.save(fit.step, fit.state(), note, journal.best_step)
        self._saved_s, self._saved_step = time.monotonic(), fit.step

    def _save_while_stopping(self) -> None:
        """Write a checkpoint; what cannot be written is made again from the last one."""
        step, steps = self._fit.step, self._fit.schedule.steps
        try:
            with unbroken():
                self._save()
        except EarthloomError as error:
            _log.warning("step %d of %d is not kept: %s", step, steps, error)
        else:
            _log.warning("stopped after step %d of %d, which is kept", step, steps)

    def _finish(self) -> Fitted:
        fit, journal = self._fit, self._journal
        note: dict[str, Any] = {
            "step": journal.best_step or fit.step, "steps": fit.step, "score": journal.best_score,
            "looks": journal.looks,
        }  # fmt: skip
        weights: dict[str, Any] = {}  # the first process of a team has them, and writes them
        if self._team.is_first:
            weights = _own(fit) if journal.best_step is None else self._checkpoints.best(journal.best_step)
            self._checkpoints.finish(weights, note)
        self._team.wait()
        return Fitted(seed=fit.schedule.seed, weights=weights, **note)


def _own(fit: Fit) -> dict[str, Any]:
    """The weights that would be kept if training ended now, on the CPU."""
    return {name: value.cpu().contiguous() for name, value in fit.kept().state_dict().items()}


class _Journal:
    """The looks taken so far and the losses since the last one, as they go into a checkpoint."""

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
        """The step of the last look; None before the first."""
        return self.looks[-1]["step"] if self.looks else None

    def is_out_of(self, patience: int | None) -> bool:
        return patience is not None and self._worse >= patience

    def to_dict(self) -> dict[str, Any]:
        return {
            "looks": self.looks, "total": self._total, "steps": self._steps, "best_step": self.best_step,
            "best_score": self.best_score, "worse": self._worse,
        }  # fmt: skip
