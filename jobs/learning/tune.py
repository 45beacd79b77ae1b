"""`earthloom tune`: many trainings with other values, of which the validation part chooses the best.

A study lies below OUT as documents, one for each trial, so that it goes on where it was stopped, in this process or on Ray,
and more trials can be added. Values are proposed by Optuna (Akiba et al. 2019, KDD) from the trials that have ended; which
trials are ended early is `jobs.learning.halving`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from earthloom.cluster.executor import Executor, Task, WorkerFactory
from earthloom.cluster.local import LocalExecutor
from earthloom.cluster.outcome import Failed
from earthloom.cluster.package import sent_package
from earthloom.jobs.execution.engine import BUDGET
from earthloom.jobs.learning.config import RangeTable, TrainConfig
from earthloom.jobs.learning.corpus import open_corpus
from earthloom.jobs.learning.fitting import Progress
from earthloom.jobs.learning.train import begin, training_key
from earthloom.jobs.learning.training_file import to_toml
from earthloom.jobs.learning.trials import Trial, TrialWorker, result_of, with_values
from earthloom.jobs.planning.resources import here
from earthloom.jobs.records.canonical import FORMAT, canonical, digest, read_document
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store

STUDY = "study.json"
BEST = "best.toml"
_RANDOM_TRIALS = 8
"""Trials before the sampler believes what it has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The trials of a study and the best of them.

    Attributes:
        trials: by number: parameters, state (`complete`, `pruned`, `failed`), score, steps.
        best: number of the best one that was trained to its end; None if none was.
        file: the training's keys and values with those of the best one, which `earthloom train` takes.
    """

    trials: tuple[dict[str, Any], ...]
    best: int | None
    file: str | None


def tune(
    config: TrainConfig, trials: int, *, workers: int | None = None, address: str | None = None,
    on_trial: Callable[[dict[str, Any]], None] = lambda _: None,
    on_begin: Callable[[int, dict[str, Any]], None] = lambda *_: None,
    on_look: Callable[[int, Progress], None] | None = None,
) -> Study:  # fmt: skip
    """Run trials until there are so many, those of earlier runs included.

    Args:
        config: with a table of what is tried.
        trials: in all.
        workers: trials at once, on Ray; None: one after another in this process, without Ray.
        address: address of a Ray cluster, with `workers`; None: Ray inside this process.
        on_trial: called with each trial that has ended.
        on_begin: called with the number and the values of each trial that begins or resumes.
        on_look: called at each look at the validation part, where this process trains; a top-level function.

    Raises:
        ConfigError: if nothing is to be tried, a key or value of it is wrong, or there is no validation part to choose by.
        EarthloomError: what opening the data, or the engine, raises.
    """
    space = _space(config)
    begun = begin(config, workers, address, "tunes")
    store = begun.store
    corpus = open_corpus(config, begun.bands)
    prefix = f"tune/{digest({'training': training_key(config, corpus, begun.first), 'space': _plain(space)})[:16]}"
    known = {number: result for number in range(trials) if (result := result_of(store, prefix, number)) is not None}
    ended = dict(known)

    def tasks() -> Iterator[Task]:
        for number in range(trials):
            if number in known:
                continue
            parameters = _parameters(store, prefix, number, space, config, ended)
            on_begin(number, parameters)
            trial = Trial(config=begun.sent.plain(), prefix=prefix, number=number, parameters=parameters)
            yield Task(key=f"trial {number}", payload=trial)

    with ExitStack() as stack:
        executor = _executor(stack, config, workers, address, on_look)
        for outcome in stack.enter_context(closing(executor.run(tasks()))):
            number = int(outcome.key.rpartition(" ")[2])
            if isinstance(outcome, Failed):
                kept = read_document(store.get(_key(prefix, number)), _key(prefix, number))
                ended[number] = {
                    "number": number, "parameters": kept["parameters"], "state": "failed", "score": None, "steps": 0,
                    "error": outcome.error.message,
                }  # fmt: skip
            else:
                ended[number] = outcome.value
            on_trial(ended[number])
            _write(store, ended)
    return _finish(store, config, ended)


def _space(config: TrainConfig) -> dict[str, Any]:
    if find_spec("optuna") is None:
        raise ConfigError("`earthloom tune` needs Optuna: pip install 'earthloom[learn]'")
    if config.tune is None or not config.tune.space:
        raise ConfigError("nothing is to be tried: the file needs a table [tune.space] (docs/training.md)")
    if not config.split.validation:
        raise ConfigError("trials are chosen by the validation part, and there is none: set `split.validation`")
    plain = config.plain()
    for key, values in config.tune.space.items():
        tried = [values.low, values.high] if isinstance(values, RangeTable) else list(values)
        for value in tried:
            with_values(plain, {key: value})
    return dict(config.tune.space)


def _plain(space: dict[str, Any]) -> dict[str, Any]:
    return {key: each.model_dump() if isinstance(each, RangeTable) else list(each) for key, each in space.items()}


def _executor(
    stack: ExitStack, config: TrainConfig, workers: int | None, address: str | None,
    on_look: Callable[[int, Progress], None] | None,
) -> Executor:  # fmt: skip
    if workers is None:
        return LocalExecutor(WorkerFactory(TrialWorker, on_look), lanes=1, budget=BUDGET)
    factory = WorkerFactory(TrialWorker)
    from earthloom.cluster.session import connect

    packages = [stack.enter_context(sent_package())]
    session = stack.enter_context(connect(address, cpus=int(here()[0]["CPU"]), packages=packages))
    from earthloom.cluster.ray_pool import RayExecutor
    from earthloom.cluster.resources import WorkerResources

    on_gpu = config.compute.device != "cpu" and session.resources.get("GPU", 0) > 0
    cpus = 1.0 if on_gpu else max(1.0, session.resources.get("CPU", 1.0) // workers)
    resources = WorkerResources(cpus=cpus, gpus=float(on_gpu))
    return RayExecutor(factory, workers=workers, lanes=1, resources=resources, budget=BUDGET)


def _parameters(
    store: Store, prefix: str, number: int, space: dict[str, Any], config: TrainConfig, ended: dict[int, dict[str, Any]]
) -> dict[str, Any]:
    """Values that a trial tries: proposed once, then kept, so that whoever goes on with it tries the same."""
    key = _key(prefix, number)
    document: dict[str, Any] = {"format": FORMAT, "parameters": _proposed(space, config.seed, number, ended)}
    if not store.create(key, canonical(document)):
        document = read_document(store.get(key), f"{store.ref.url}/{key}")
    return dict(document["parameters"])


def _key(prefix: str, number: int) -> str:
    return f"{prefix}/trial-{number:04d}/parameters.json"


def _proposed(space: dict[str, Any], seed: int, number: int, ended: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """A function of the trials that have ended and of this one's number."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made: dict[str, Any] = {}
    for key, values in space.items():
        if not isinstance(values, RangeTable):
            made[key] = CategoricalDistribution([_as_choice(value) for value in values])
        elif isinstance(values.low, int) and isinstance(values.high, int):
            made[key] = IntDistribution(values.low, values.high, log=values.log)
        else:
            made[key] = FloatDistribution(float(values.low), float(values.high), log=values.log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=(seed * 100_003 + number) % 2**32, n_startup_trials=_RANDOM_TRIALS)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for _, result in sorted(ended.items()):
            if result["score"] is not None:
                tried = {key: _as_proposed(made[key], result["parameters"][key]) for key in made}
                study.add_trial(optuna.trial.create_trial(params=tried, distributions=made, value=result["score"]))
        asked = study.ask(made)
    return {key: json.loads(value) if isinstance(value, str) else value for key, value in asked.params.items()}


def _as_proposed(distribution: Any, value: Any) -> Any:
    return _as_choice(value) if hasattr(distribution, "choices") else value


def _as_choice(value: Any) -> str:
    """A value of a list as Optuna knows it; a table has its keys in order, as it has when a trial's document is read."""
    return json.dumps(value, sort_keys=True)


def _write(store: Store, ended: dict[int, dict[str, Any]]) -> Study:
    """Put the study as it stands beside the trials."""
    trials = tuple(result for _, result in sorted(ended.items()))
    complete = [result for result in trials if result["state"] == "complete" and result["score"] is not None]
    best = max(complete, key=lambda result: (result["score"], -result["number"]))["number"] if complete else None
    store.put(STUDY, canonical({"format": FORMAT, "trials": list(trials), "best": best}) + b"\n")
    return Study(trials=trials, best=best, file=None)


def _finish(store: Store, config: TrainConfig, ended: dict[int, dict[str, Any]]) -> Study:
    study = _write(store, ended)
    if study.best is None:
        return study
    best = with_values(config.plain(), ended[study.best]["parameters"]).plain(exclude_none=True)
    best["out"] = f"{config.out.rstrip('/')}/best"
    store.put(BEST, to_toml({name: value for name, value in best.items() if name != "tune"}).encode())
    return replace(study, file=f"{config.out.rstrip('/')}/{BEST}")
