"""What only separate processes can show: workers that die, and clusters that lack what was asked for."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from earthloom.cluster import ray_pool
from earthloom.cluster.backlog import Ticket
from earthloom.cluster.executor import WorkerFactory
from earthloom.cluster.outcome import Done, Failed
from earthloom.cluster.pace import CALL_S, MOST
from earthloom.cluster.ray_actor import ActorHandle
from earthloom.cluster.ray_pool import RayExecutor
from earthloom.cluster.resources import WorkerResources
from earthloom.cluster.retry import Budget
from earthloom.tiling.errors import EngineError
from tests.cluster import workers
from tests.cluster.test_executors import by_key, numbered, values

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
    monkeypatch.setattr(ray_pool, "_DEATHS_IN_A_ROW", 5)
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
        late = RayExecutor(WorkerFactory(workers.square), workers=1, resources=whole, start_timeout_s=2)
        with pytest.raises(EngineError, match="no worker started within 2 s"):
            list(late.run(numbered(range(3))))
    finally:
        holder.close()


def test_a_value_or_payload_that_does_not_pickle_fails_its_own_task_only() -> None:
    executor = RayExecutor(WorkerFactory(workers.returns_a_lock), workers=1, resources=HALF)
    outcomes = by_key(executor.run(numbered([0, 1, 2, threading.Lock()])))
    for key in ("block-1", "block-3"):
        outcome = outcomes[key]
        assert isinstance(outcome, Failed)
        assert "pickle" in outcome.error.message or "serialize" in outcome.error.message
    assert isinstance(outcomes["block-0"], Done)
    assert isinstance(outcomes["block-2"], Done)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keys of the tasks in each call that was sent, as they are sent."""
    sent: list[list[str]] = []
    send = ActorHandle.send

    def noted(self: ActorHandle, tickets: Sequence[Ticket], *, alone: bool = False) -> None:
        sent.append([ticket.task.key for ticket in tickets])
        send(self, tickets, alone=alone)

    monkeypatch.setattr(ActorHandle, "send", noted)
    return sent


def one_worker(function: Callable[[Any], Any], arguments: Any = None, **options: Any) -> RayExecutor:
    return RayExecutor(WorkerFactory(function, arguments), workers=1, resources=HALF, **options)


def companions(calls: list[list[str]], key: str) -> int:
    """Tasks in the first call that holds `key`, without it."""
    return next(len(call) for call in calls if key in call) - 1


def test_quick_tasks_share_calls_and_slow_ones_do_not(calls: list[list[str]]) -> None:
    assert len(list(one_worker(workers.sleeper).run(numbered([0.0] * 1000)))) == 1000
    assert len(calls) < 1000 / 4
    assert max(map(len, calls)) <= MOST
    calls.clear()
    assert len(list(one_worker(workers.sleeper).run(numbered([CALL_S] * 10)))) == 10
    assert len(calls) == 10


def test_what_a_call_that_turns_slow_has_not_begun_runs_once_in_a_call_of_its_own(
    tmp_path: Path, calls: list[list[str]]
) -> None:
    slow = frozenset(range(400, 404))
    outcomes = by_key(one_worker(workers.sleeps_at, workers.Sleeps(tmp_path, slow)).run(numbered(range(500))))
    assert all(isinstance(outcome, Done) and outcome.attempts == 1 for outcome in outcomes.values())
    assert all(isinstance(outcome, Done) and outcome.value == "first time" for outcome in outcomes.values())
    assert len(outcomes) == 500
    assert companions(calls, "block-400") > 0
    together = next(call for call in calls if "block-400" in call)
    after = together[together.index("block-400") + 1 :]
    assert all([key] in calls for key in after)


def test_a_death_in_a_shared_call_is_charged_to_nobody(tmp_path: Path, calls: list[list[str]]) -> None:
    deaths = workers.Deaths(tmp_path, once=frozenset({300}), seconds=0)
    executor = one_worker(workers.deadly, deaths)
    outcomes = by_key(executor.run(numbered(range(600))))
    assert values(outcomes.values()) == list(range(600))
    assert all(outcome.attempts == 1 for outcome in outcomes.values())
    assert len(executor.worker_stats()) == 2
    assert companions(calls, "block-300") > 0
    assert "WorkerDied" in outcomes["block-300"].causes[0]
    suspects = [key for key, outcome in outcomes.items() if outcome.causes]
    assert all([key] in calls for key in suspects)


def test_a_poison_task_in_a_shared_call_is_found_and_charged_alone(tmp_path: Path, calls: list[list[str]]) -> None:
    deaths = workers.Deaths(tmp_path, always=frozenset({300, 310}), seconds=0)
    outcomes = by_key(one_worker(workers.deadly, deaths).run(numbered(range(600))))
    assert len(outcomes) == 600
    assert companions(calls, "block-300") > 0
    for number in (300, 310):
        assert isinstance(poison := outcomes.pop(f"block-{number}"), Failed)
        assert (poison.error.kind, poison.attempts) == ("PoisonTask", 3)
    assert all(isinstance(outcome, Done) and outcome.attempts == 1 for outcome in outcomes.values())


def test_values_and_payloads_in_a_shared_call_that_do_not_pickle_fail_their_own_tasks_only(
    calls: list[list[str]],
) -> None:
    payloads: list[Any] = [0] * 600
    payloads[300], payloads[450] = 1, threading.Lock()
    outcomes = by_key(one_worker(workers.returns_a_lock).run(numbered(payloads)))
    assert len(outcomes) == 600
    for number in (300, 450):
        assert companions(calls, f"block-{number}") > 0
        assert isinstance(failed := outcomes.pop(f"block-{number}"), Failed)
        assert "pickle" in failed.error.message or "serialize" in failed.error.message
    assert all(isinstance(outcome, Done) and outcome.attempts == 1 for outcome in outcomes.values())


def test_faults_in_a_shared_call_are_retried_without_its_other_tasks(calls: list[list[str]]) -> None:
    executor = one_worker(workers.FaultsOnce, 300, budget=Budget(backoff_s=0.01))
    outcomes = by_key(executor.run(numbered(range(600))))
    assert values(outcomes.values()) == list(range(600))
    assert companions(calls, "block-300") > 0
    assert {key for key, outcome in outcomes.items() if outcome.attempts == 2} == {"block-300"}
    assert sum(map(len, calls)) == 601


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
