"""Runs one trial of a study: a training with some values changed, which ends early when other trials do better.

A trial is a task: whoever runs it again goes on from its checkpoints, and what it leaves in storage says how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.learning.config import TrainConfig, check_training
from earthloom.jobs.learning.fitting import Progress
from earthloom.jobs.learning.halving import Looks, goes_on, rungs
from earthloom.jobs.learning.seeds import train_seed
from earthloom.jobs.learning.train import out_of, reopened, settle
from earthloom.jobs.records.canonical import FORMAT, canonical, read_document
from earthloom.tiling.errors import ConfigError, MissingObjectError, PublishError
from earthloom.tiling.storage.settings import apply
from earthloom.tiling.storage.store import Store, open_store

_LOOKS = "looks.json"
_RESULT = "result.json"
_LEAST = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A trial as it is sent to a worker."""

    config: dict[str, Any]
    """The study's configuration, as plain values."""
    prefix: str
    """The study's prefix below OUT."""
    number: int
    parameters: dict[str, Any]
    """Values that are tried, by key of the file, such as `schedule.rate`."""


class TrialWorker:
    """Runs trials, one at a time.

    Args:
        on_look: told of each look at the validation part, with the trial's number; None on other machines.
    """

    def __init__(self, on_look: Callable[[int, Progress], None] | None) -> None:
        apply()
        self._on_look = on_look or (lambda *_: None)

    def __call__(self, trial: Trial) -> dict[str, Any]:
        """Run a trial and return its result, as `result_of` reads it."""
        study = check_training(trial.config)
        store = open_store(out_of(study))
        if (known := result_of(store, trial.prefix, trial.number)) is not None:
            return known
        result = {"format": FORMAT, "number": trial.number, "parameters": trial.parameters}
        result |= _run(study, store, trial, self._on_look)
        store.put(f"{_place(trial.prefix, trial.number)}/{_RESULT}", canonical(result))
        return result


def with_values(config: dict[str, Any], parameters: dict[str, Any]) -> TrainConfig:
    """A training's file with some of its values changed, by their keys: `schedule.rate`.

    Raises:
        ConfigError: if there is no such key, or a value is not one of its kind.
    """
    changed = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
    for key, value in parameters.items():
        table, _, name = key.partition(".")
        if not name or not isinstance(changed.get(table), dict):
            raise ConfigError(f"tune.space: {key!r} is no key of a table such as schedule.rate")
        if name not in changed[table]:
            raise ConfigError(f"tune.space: {table} has no key {name!r}; there are {', '.join(changed[table])}")
        changed[table][name] = value
    return check_training(changed)


def result_of(store: Store, prefix: str, number: int) -> dict[str, Any] | None:
    """The result of a trial; None while it has not ended."""
    return _document(store, f"{_place(prefix, number)}/{_RESULT}")


def looks_of(store: Store, prefix: str, number: int) -> Looks:
    """The looks at a trial so far."""
    document = _document(store, f"{_place(prefix, number)}/{_LOOKS}") or {"looks": []}
    return [(int(step), float(score)) for step, score in document["looks"]]


class _EndedError(Exception):
    """The trial is not worth going on with."""


def _run(
    study: TrainConfig, store: Store, trial: Trial, on_look: Callable[[int, Progress], None]
) -> dict[str, Any]:  # fmt: skip
    assert study.tune is not None, "a study has a table of what is tried"
    config = with_values(trial.config, trial.parameters)
    place, steps = _place(trial.prefix, trial.number), config.schedule.steps
    least = study.tune.least_steps or max(1, steps // _LEAST)
    waiting = rungs(least, steps, study.tune.reduction)
    looks = list(looks_of(store, trial.prefix, trial.number))
    waiting = [rung for rung in waiting if not looks or rung > looks[-1][0]]

    def follow(progress: Progress) -> None:
        if progress.look is None:
            return
        looks[:] = [look for look in looks if look[0] < progress.step] + [(progress.step, progress.look.score)]
        store.put(f"{place}/{_LOOKS}", canonical({"format": FORMAT, "looks": looks}))
        on_look(trial.number, progress)
        while waiting and progress.step >= waiting[0]:
            others = [
                looks_of(store, trial.prefix, number) for number in _numbers(store, trial.prefix) - {trial.number}
            ]
            if not goes_on(looks, others, waiting.pop(0), study.tune.reduction if study.tune else 2):
                raise _EndedError

    training = reopened(config, store, place, settle(store, place, config, None), index_prefix=trial.prefix)
    try:
        fitted = train_seed(training, config.seed, follow)
    except _EndedError:
        store.delete_all(f"{place}/seed-{config.seed}")
        return {"state": "pruned", "score": max(score for _, score in looks), "steps": looks[-1][0]}
    store.delete_all(f"{place}/seed-{config.seed}")
    return {"state": "complete", "score": fitted.score, "steps": fitted.steps}


def _numbers(store: Store, prefix: str) -> set[int]:
    """Numbers of the trials that have been looked at."""
    places = (head.key.split("/") for head in store.list(prefix) if head.key.endswith(f"/{_LOOKS}"))
    return {int(parts[-2].removeprefix("trial-")) for parts in places}


def _place(prefix: str, number: int) -> str:
    return f"{prefix}/trial-{number:04d}"


def _document(store: Store, key: str) -> dict[str, Any] | None:
    try:
        return read_document(store.get(key), f"{store.ref.url}/{key}")
    except (MissingObjectError, PublishError):
        return None
