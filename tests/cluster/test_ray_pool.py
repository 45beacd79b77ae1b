"""What only separate processes can show: workers that die, and clusters that lack what was asked for."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from earthloom.cluster import crew
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.outcome import Done, Failed, Outcome
from earthloom.cluster.places import Size
from earthloom.cluster.ray_pool import RayExecutor
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.retry import Budget
from earthloom.tiling.errors import EngineError
from tests.cluster import workers
from tests.cluster.test_executors import by_key, numbered

pytestmark = pytest.mark.usefixtures("ray_session")
HALF = WorkerResources(cpus=0.5)


@pytest.mark.parametrize("how", ["kill", "segfault"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_tasks_whose_worker_is_killed_once_are_all_done(tmp_path: Path, how: str, lanes: int) -> None:
    killers = frozenset(random.Random(how).sample(range(30), 4))
    deaths = workers.Deaths(tmp_path, once=killers, how=how)
    executor = RayExecutor(WorkerFactory(workers.deadly, deaths), workers=2, lanes=lanes, resources=HALF)
    outcomes = by_key(executor.run(numbered(range(30))))
    for number in range(30):
        outcome = outcomes[f"block-{number}"]
        assert isinstance(outcome, Done)
        assert outcome.value == number
        assert outcome.attempts <= (2 if number in killers else 1)
    assert len(executor.worker_stats()) >= 2 + 1


def test_a_poison_task_is_quarantined_and_no_innocent_is_charged(tmp_path: Path) -> None:
    deaths = workers.Deaths(tmp_path, always=frozenset({3, 11}))
    executor = RayExecutor(WorkerFactory(workers.deadly, deaths), workers=2, lanes=3, resources=HALF)
    outcomes = by_key(executor.run(numbered(range(24))))
    assert len(outcomes) == 24
    for number in range(24):
        outcome = outcomes[f"block-{number}"]
        if number in deaths.always:
            assert isinstance(outcome, Failed)
            assert outcome.error.kind == "PoisonTask"
            assert outcome.attempts == 3
            assert outcome.error.message.startswith("killed its worker 3 times while running alone")
            assert not outcome.error.transient
        else:
            assert isinstance(outcome, Done)
            assert outcome.attempts == 1


@pytest.mark.parametrize("after_s", [0.05, 1.0], ids=["in company", "outlived it"])
def test_only_deaths_alone_are_charged_and_suspects_run_alone(tmp_path: Path, after_s: float) -> None:
    witness = workers.Witness(tmp_path, after_s)
    executor = RayExecutor(WorkerFactory(workers.witnessed, witness), workers=1, lanes=3, resources=HALF)
    outcomes = by_key(executor.run(numbered(range(30))))
    assert isinstance(poison := outcomes.pop("block-0"), Failed)
    assert poison.attempts == 3
    assert all(isinstance(outcome, Done) and outcome.attempts == 1 for outcome in outcomes.values())
    notes = [note.read_text() for note in sorted(tmp_path.iterdir())]
    assert len(notes) == 1 + 3  # the first was not charged: others had been in the worker with it
    assert notes[1:] == ["", "", ""]


def test_the_limit_of_deaths_is_the_budgets(tmp_path: Path) -> None:
    deaths = workers.Deaths(tmp_path, always=frozenset({0}))
    executor = RayExecutor(
        WorkerFactory(workers.deadly, deaths), workers=1, lanes=1, resources=HALF, budget=Budget(deaths=1)
    )
    (outcome,) = executor.run(numbered([0]))
    assert isinstance(outcome, Failed)
    assert outcome.error.message.startswith("killed its worker once")
    assert len(executor.worker_stats()) == 1


def test_workers_that_only_die_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_DEATHS_IN_A_ROW", 5)
    deaths = workers.Deaths(tmp_path, always=frozenset(range(100)))
    executor = RayExecutor(WorkerFactory(workers.deadly, deaths), workers=1, lanes=3, resources=HALF)
    with pytest.raises(EngineError, match="5 workers died in a row and no task came back between"):
        list(executor.run(numbered(range(100))))


def test_a_worker_that_dies_while_starting_is_not_started_for_ever() -> None:
    executor = RayExecutor(WorkerFactory(workers.dies_at_start), workers=1, resources=HALF)
    with pytest.raises(EngineError, match="3 workers in a row died while starting"):
        list(executor.run(numbered(range(10))))


def test_absent_gpus_are_refused_at_once() -> None:
    executor = RayExecutor(WorkerFactory(workers.square), resources=WorkerResources(cpus=0.5, gpus=0.5))
    begun = time.monotonic()  # of a worker that does not come it is told after minutes
    with pytest.raises(EngineError, match=r"needs 0\.5 GPUs .* has 0 GPUs; .*`device=cpu`"):
        next(executor.run(numbered(range(10))))
    assert time.monotonic() - begun < 30


def test_workers_that_cannot_be_placed_are_not_waited_for_for_ever() -> None:
    whole = WorkerResources(cpus=2)
    holder = RayExecutor(WorkerFactory(workers.sleeper), workers=1, resources=whole).run(numbered([0.0, 60.0]))
    next(holder)
    try:
        late = RayExecutor(WorkerFactory(workers.square), workers=1, resources=whole, size=Size(wait_s=2))
        with pytest.raises(EngineError, match="no worker started within 2 s"):
            list(late.run(numbered(range(3))))
    finally:
        holder.close()


def test_dismiss_gives_back_the_workers_of_a_run_that_was_left_in_the_middle() -> None:
    whole = WorkerResources(cpus=2)
    executor = RayExecutor(WorkerFactory(workers.sleeper), workers=1, resources=whole, keeps_workers=True)
    left = executor.run(numbered([0.0, 600.0]))  # as an error's traceback keeps it, whose reader closes nothing
    next(left)
    executor.dismiss()
    late = RayExecutor(WorkerFactory(workers.square), workers=1, resources=whole, size=Size(wait_s=120))
    assert len(list(late.run(numbered(range(3))))) == 3
    left.close()


def test_a_value_or_payload_that_does_not_pickle_fails_its_own_task_only() -> None:
    executor = RayExecutor(WorkerFactory(workers.returns_a_lock), workers=1, resources=HALF)
    outcomes = by_key(executor.run(numbered([0, 1, 2, threading.Lock()])))
    for key in ("block-1", "block-3"):
        outcome = outcomes[key]
        assert isinstance(outcome, Failed)
        assert "pickle" in outcome.error.message or "serialize" in outcome.error.message
    assert isinstance(outcomes["block-0"], Done)
    assert isinstance(outcomes["block-2"], Done)


def test_no_more_workers_are_started_than_there_are_tasks_at_once() -> None:
    executor = RayExecutor(WorkerFactory(workers.square), workers=2, lanes=3, resources=HALF)
    done: list[str] = []

    def one_after_the_other() -> Iterator[Task | None]:
        for number in range(6):
            while len(done) < number:
                yield None
            yield Task(key=str(number), payload=number)

    for outcome in executor.run(one_after_the_other()):
        done.append(outcome.key)
    assert done == [str(number) for number in range(6)]
    assert len(executor.worker_stats()) == 1


def test_tasks_that_appear_later_are_spread_over_workers_that_were_not_needed_before() -> None:
    executor = RayExecutor(WorkerFactory(workers.sleeper), workers=2, lanes=1, resources=HALF)
    done: list[Outcome] = []

    def first_one_then_two() -> Iterator[Task | None]:
        yield Task(key="first", payload=0.0)
        while not done:
            yield None
        yield Task(key="left", payload=1.0)
        yield Task(key="right", payload=1.0)

    for outcome in executor.run(first_one_then_two()):
        done.append(outcome)
    assert len(executor.worker_stats()) == 2


def test_more_workers_than_fit_are_not_waited_for() -> None:
    executor = RayExecutor(WorkerFactory(workers.square), workers=50, resources=WorkerResources(cpus=1))
    assert len(list(executor.run(numbered(range(30))))) == 30
    assert len(executor.worker_stats()) <= 2


_BUSY = """
import signal, time
from earthloom.cluster.executor import Task, WorkerFactory
from earthloom.cluster.ray_pool import RayExecutor
from earthloom.cluster.session import connect
from tests.cluster import workers

def stop(number, _):
    global begun
    begun = time.monotonic()
    raise SystemExit(128 + number)

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
with connect("local", cpus=1):
    tasks = [Task(key=str(n), payload=n and 60.0) for n in range(4)]
    outcomes = RayExecutor(WorkerFactory(workers.sleeper), workers=1).run(tasks)
    try:
        for outcome in outcomes:
            print("first", flush=True)
    finally:
        outcomes.close()
        print(time.monotonic() - begun, flush=True)
"""


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_busy_run_without_waiting_for_its_workers(by: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _BUSY],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": "."},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    time.sleep(0.3)  # well inside the wait for the busy worker
    begun = time.monotonic()
    process.send_signal(by)
    to_close = float(process.stdout.readline())
    heard = time.monotonic() - begun
    process.wait(60)
    ended = time.monotonic() - begun
    process.stdout.close()
    assert process.returncode == 128 + by
    assert max(to_close, heard, ended) < 30, "its tasks of 60 s were waited for"


def test_kept_workers_do_the_next_run_until_they_are_dismissed_and_dead_ones_are_replaced() -> None:
    executor = RayExecutor(WorkerFactory(workers.pid), workers=1, lanes=1, resources=HALF, keeps_workers=True)

    def pids() -> set[int]:
        outcomes = by_key(executor.run(numbered(range(3)))).values()
        assert all(isinstance(outcome, Done) for outcome in outcomes)
        return {outcome.value for outcome in outcomes if isinstance(outcome, Done)}

    (first,) = pids()
    assert pids() == {first}
    os.kill(first, signal.SIGKILL)
    (second,) = pids()
    assert second != first
    executor.dismiss()
    (third,) = pids()
    assert third not in (first, second)
    executor.dismiss()
    executor.dismiss()
