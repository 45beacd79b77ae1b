"""What every executor promises: one suite, run on the local one and on Ray."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from earthloom.cluster.executor import Executor, Task, WorkerFactory
from earthloom.cluster.local import LocalExecutor
from earthloom.cluster.outcome import Done, Failed, Outcome
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.retry import Budget
from earthloom.tiling.errors import CardError, ConfigError, EngineError
from tests.cluster import workers

LANES = 3
WORKERS = 2
Make = Callable[..., Any]


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def make(request: pytest.FixtureRequest) -> Make:
    """Builds the executor under test from a worker factory."""
    if request.param == "local":

        def local(function: Callable[[Any], Any], arguments: Any = None, **options: Any) -> LocalExecutor:
            options.pop("workers", None)
            return LocalExecutor(WorkerFactory(function, arguments), **{"lanes": LANES, **options})

        return local
    request.getfixturevalue("ray_session")

    def on_ray(function: Callable[[Any], Any], arguments: Any = None, **options: Any) -> Executor:
        from earthloom.cluster.ray_pool import RayExecutor

        defaults: dict[str, Any] = {"workers": WORKERS, "lanes": LANES, "resources": WorkerResources(cpus=0.5)}
        return RayExecutor(WorkerFactory(function, arguments), **(defaults | options))

    return on_ray


def numbered(payloads: Iterable[Any]) -> Iterator[Task]:
    return (Task(key=f"block-{number}", payload=payload) for number, payload in enumerate(payloads))


def by_key(outcomes: Iterable[Outcome]) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        assert outcome.key not in found, f"{outcome.key} has two outcomes"
        found[outcome.key] = outcome
    return found


def values(outcomes: Iterable[Outcome]) -> list[int]:
    return sorted(outcome.value for outcome in outcomes if isinstance(outcome, Done))


def test_every_task_has_one_outcome_with_its_own_value(make: Make) -> None:
    outcomes = by_key(make(workers.square).run(numbered(range(40))))
    assert values(outcomes.values()) == [n * n for n in range(40)]
    assert all(isinstance(o, Done) and o.value == int(key.removeprefix("block-")) ** 2 for key, o in outcomes.items())
    assert all(outcome.attempts == 1 and outcome.seconds >= 0 for outcome in outcomes.values())


def test_no_tasks_give_no_outcomes_and_make_no_worker_on_ray(make: Make, tmp_path: Path) -> None:
    executor = make(workers.starts_at_second_try, tmp_path, budget=Budget(backoff_s=0.01))  # it leaves a file
    assert list(executor.run(iter(()))) == []
    assert isinstance(executor, LocalExecutor) or list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [0.1, 0.0], ids=["slow", "quick"])
def test_tasks_are_pulled_only_a_window_ahead(make: Make, seconds: float) -> None:
    latest = 0

    def endless() -> Iterator[Task]:
        nonlocal latest
        for latest in itertools.count(1):
            yield Task(key=str(latest), payload=seconds)

    run = make(workers.sleeper).run(endless())
    assert latest == 0
    for finished, _ in enumerate(itertools.islice(run, 40), start=1):
        assert latest - finished <= 2 * LANES * WORKERS
    run.close()


def test_a_task_may_follow_from_the_outcome_of_another(make: Make) -> None:
    done: list[int] = []

    def doubling() -> Iterator[Task | None]:
        yield Task(key="0", payload=2)
        for number in range(1, 4):
            while len(done) < number:
                yield None
            yield Task(key=str(number), payload=done[-1])

    for outcome in make(workers.square).run(doubling()):
        assert isinstance(outcome, Done)
        done.append(outcome.value)
    assert done == [4, 16, 256, 65536]


def test_tasks_that_wait_for_an_outcome_hold_up_no_others(make: Make) -> None:
    done: set[str] = set()

    def two_chains() -> Iterator[Task | None]:
        yield Task(key="slow", payload=0.5)
        for number in range(5):
            yield Task(key=f"quick-{number}", payload=0.0)
        while "slow" not in done:
            yield None
        yield Task(key="after slow", payload=0.0)

    order = []
    for outcome in make(workers.sleeper).run(two_chains()):
        done.add(outcome.key)
        order.append(outcome.key)
    assert order[-2:] == ["slow", "after slow"]
    assert len(order) == 7


def test_a_source_that_would_wait_for_ever_is_an_error(make: Make) -> None:
    def stuck() -> Iterator[Task | None]:
        yield Task(key="0", payload=2)
        while True:
            yield None

    with pytest.raises(EngineError, match="no task runs that it could be waiting for"):
        list(make(workers.square).run(stuck()))


@pytest.mark.parametrize("seconds", [0.0, 0.005])
def test_one_lane_gives_outcomes_in_the_order_of_its_tasks(make: Make, seconds: float) -> None:
    outcomes = list(make(workers.sleeper, workers=1, lanes=1).run(numbered([seconds] * 100)))
    assert [outcome.key for outcome in outcomes] == [f"block-{number}" for number in range(100)]


def test_an_endless_outage_does_not_pull_all_tasks(make: Make) -> None:
    pulled: list[int] = []

    def many() -> Iterator[Task]:
        for number in range(1000):
            pulled.append(number)
            yield Task(key=str(number), payload=number)

    executor = make(workers.always_busy, budget=Budget(attempts=2, backoff_s=0.4, jitter=0))
    run = executor.run(many())
    assert isinstance(next(run), Failed)
    assert len(pulled) <= 2 * LANES * WORKERS
    run.close()


def test_transient_faults_are_retried_until_every_task_is_done(make: Make) -> None:
    executor = make(workers.FaultsEveryThirdCall, budget=Budget(attempts=20, backoff_s=0.01))
    outcomes = by_key(executor.run(numbered(range(30))))
    assert values(outcomes.values()) == list(range(30))
    assert sum(outcome.attempts for outcome in outcomes.values()) >= 30 + 30 // 3


def test_a_task_that_waits_for_its_retry_blocks_no_other(make: Make, tmp_path: Path) -> None:
    patient = Budget(attempts=600, backoff_s=0.1, backoff_max_s=0.1, jitter=0)
    executor = make(workers.FaultsUntilOthersAreDone, 20, workers=1, lanes=1, budget=patient)
    outcomes = by_key(executor.run(numbered(range(20))))
    assert values(outcomes.values()) == list(range(20))
    assert outcomes.pop("block-0").attempts > 1
    assert {outcome.attempts for outcome in outcomes.values()} == {1}


def test_a_permanent_fault_fails_its_task_once_and_stops_no_other(make: Make) -> None:
    outcomes = by_key(make(workers.refuses_odd).run(numbered(range(20))))
    for number in range(20):
        outcome = outcomes[f"block-{number}"]
        if number % 2 == 0:
            assert isinstance(outcome, Done)
            continue
        assert isinstance(outcome, Failed)
        assert outcome.attempts == 1
        assert outcome.error.kind == "CardError"
        assert outcome.error.exit_code == 2
        assert outcome.error.message == f"block {number} is odd; give even ones"


def test_lanes_of_one_worker_run_at_the_same_time(make: Make) -> None:
    outcomes = list(make(workers.MeetsOthers, workers=1).run(numbered(range(9))))
    assert values(outcomes) == list(range(9))


def test_closing_early_returns_at_once_though_workers_are_busy(make: Make) -> None:
    run = make(workers.sleeper).run(numbered([0.0, 60.0, 60.0, 60.0, 60.0, 60.0]))
    assert isinstance(next(run), Done)
    begun = time.monotonic()
    run.close()
    assert time.monotonic() - begun < 30, "a worker was waited for"


def test_an_error_of_the_task_source_ends_the_run_as_it_is(make: Make) -> None:
    def broken() -> Iterator[Task]:
        yield Task(key="a", payload=2)
        raise LookupError("the plan is damaged")

    with pytest.raises(LookupError, match="the plan is damaged"):
        list(make(workers.square).run(broken()))


def test_a_factory_that_fails_ends_the_run_at_once_with_its_own_error(make: Make) -> None:
    pulled: list[int] = []

    def asked_for() -> Iterator[int]:
        for number in range(1000):
            pulled.append(number)
            yield number

    with pytest.raises(CardError, match="the weights of landwater are missing; run `earthloom models add landwater`"):
        list(make(workers.no_weights, "landwater").run(numbered(asked_for())))
    assert len(pulled) <= 2 * LANES * WORKERS


def test_a_bug_in_the_factory_is_an_engine_error_that_names_it(make: Make) -> None:
    with pytest.raises(EngineError, match="ZeroDivisionError: no such luck"):
        list(make(workers.has_a_bug).run(numbered(range(5))))


def test_a_factory_that_fails_transiently_is_tried_again(make: Make, tmp_path: Path) -> None:
    executor = make(workers.starts_at_second_try, tmp_path, workers=1, budget=Budget(backoff_s=0.1))
    assert values(executor.run(numbered([3]))) == [9]


def test_workers_report_their_process_and_peak_memory(make: Make) -> None:
    executor = make(workers.allocates, workers=1)
    (outcome,) = executor.run(numbered([300_000_000]))
    (stats,) = executor.worker_stats()
    assert outcome.value == stats.vitals.pid
    assert (stats.vitals.pid == os.getpid()) == isinstance(executor, LocalExecutor)
    assert stats.vitals.peak_bytes > 300_000_000
    assert stats.tasks == 1
    assert stats.start_s > 0


def test_an_executor_can_run_again(make: Make) -> None:
    executor = make(workers.square, workers=1)
    for _ in range(2):
        assert values(executor.run(numbered(range(5)))) == [0, 1, 4, 9, 16]


def test_an_executor_without_lanes_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        make(workers.square, lanes=0)


def test_a_factory_that_does_not_pickle_is_refused() -> None:
    with pytest.raises(EngineError, match="cannot be sent to workers"):
        WorkerFactory(lambda _: workers.square(None))


def test_a_panic_is_one_failed_task(make: Make) -> None:
    outcomes = by_key(make(workers.panics).run(numbered(range(4))))
    assert {key for key, outcome in outcomes.items() if isinstance(outcome, Done)} == {"block-0", "block-2", "block-3"}
    failed = outcomes["block-1"]
    assert isinstance(failed, Failed)
    assert "index out of bounds" in failed.error.message
