from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.cluster.backlog import Backlog, Ticket
from earthloom.cluster.executor import Task
from earthloom.cluster.outcome import Done, Failed, Fault, Outcome
from earthloom.cluster.retry import Budget
from earthloom.cluster.worker import Reply
from earthloom.tiling.errors import EngineError

BUSY = Reply(fault=Fault(kind="StorageError", message="busy", transient=True), seconds=1)
WRONG = Reply(fault=Fault(kind="SceneError", message="wrong"), seconds=1)
GOOD = Reply(value=7, seconds=1)
BUDGET = Budget(attempts=3, deaths=2, backoff_s=10, jitter=0)


def tasks(count: int) -> list[Task]:
    return [Task(key=str(number), payload=number) for number in range(count)]


def taken(backlog: Backlog, now: float = 0) -> Ticket:
    ticket = backlog.take(now)
    assert ticket is not None
    return ticket


def test_a_faulted_task_comes_back_after_its_pause_and_before_new_ones() -> None:
    backlog = Backlog(tasks(3), BUDGET, window=2)
    ticket = taken(backlog)
    assert backlog.answered(ticket, BUSY, now=0) is None
    assert backlog.pause_s(now=4) == 6
    assert taken(backlog, now=9).task.key == "1"
    assert taken(backlog, now=10) is ticket
    assert backlog.answered(ticket, GOOD, now=11) == Done(
        key="0", value=7, attempts=2, seconds=1, causes=("StorageError: busy",)
    )


def test_the_last_fault_is_what_the_task_failed_with() -> None:
    backlog = Backlog(tasks(1), BUDGET, window=1)
    ticket = taken(backlog)
    assert backlog.answered(ticket, BUSY, now=0) is None
    assert taken(backlog, now=10) is ticket
    assert WRONG.fault is not None
    assert backlog.answered(ticket, WRONG, now=10) == Failed(
        key="0", error=WRONG.fault, attempts=2, seconds=1, causes=("StorageError: busy", "SceneError: wrong")
    )
    assert backlog.take(now=11) is None
    assert backlog.finished


def test_tasks_in_a_worker_that_died_are_not_charged_and_run_alone() -> None:
    backlog = Backlog(tasks(3), BUDGET, window=3)
    tickets = [taken(backlog) for _ in range(3)]
    assert backlog.died(tickets, "killed", alone=False, seconds=0, now=1) is None
    assert backlog.take(now=2) is None
    for ticket in tickets:
        assert backlog.take_suspect(now=2) is ticket
        outcome = backlog.answered(ticket, GOOD, now=3)
        assert isinstance(outcome, Done)
        assert outcome.attempts == 1
    assert backlog.finished


def test_a_task_that_kills_its_worker_alone_is_set_aside_after_its_deaths() -> None:
    backlog = Backlog(tasks(1), BUDGET, window=1)
    ticket = taken(backlog)
    assert backlog.died([ticket], "killed", alone=True, seconds=2, now=1) is None
    assert backlog.take_suspect(now=1) is ticket
    failed = backlog.died([ticket], "killed", alone=True, seconds=3, now=2)
    assert failed is not None
    assert (failed.error.kind, failed.attempts, failed.seconds) == ("PoisonTask", 2, 3)
    assert backlog.n_suspects == 0


def test_the_deadline_counts_from_the_first_start() -> None:
    backlog = Backlog(tasks(1), Budget(attempts=99, backoff_s=10, jitter=0, deadline_s=25), window=1)
    ticket = taken(backlog, now=100)
    assert backlog.answered(ticket, BUSY, now=101) is None
    assert taken(backlog, now=111) is ticket
    assert isinstance(backlog.answered(ticket, BUSY, now=112), Failed)


def test_the_time_until_a_suspect_has_its_turn_is_not_charged_to_it() -> None:
    backlog = Backlog(tasks(2), Budget(attempts=5, deaths=3, backoff_s=10, jitter=0, deadline_s=1800), window=2)
    tickets = [taken(backlog) for _ in range(2)]
    assert backlog.died(tickets, "preempted", alone=False, seconds=1, now=10) is None
    first = backlog.take_suspect(now=2000)
    assert first is not None
    assert backlog.died([first], "preempted", alone=True, seconds=1, now=2001) is None
    second = backlog.take_suspect(now=4000)
    assert second is not None
    assert backlog.answered(second, BUSY, now=4001) is None


def test_a_source_that_has_none_now_is_asked_again() -> None:
    backlog = Backlog(iter([*tasks(1), None, *tasks(2)[1:]]), BUDGET, window=2)
    first = taken(backlog)
    assert backlog.take(now=0) is None
    assert not backlog.finished
    assert taken(backlog).task.key == "1"
    assert isinstance(backlog.answered(first, GOOD, now=1), Done)


def test_a_source_that_has_none_although_nothing_runs_is_refused() -> None:
    backlog = Backlog(iter([None]), BUDGET, window=2)
    with pytest.raises(EngineError, match="no task runs that it could be waiting for"):
        backlog.take(now=0)


@given(data=st.data(), count=st.integers(0, 25), window=st.integers(1, 4))
@settings(deadline=None, max_examples=200)
def test_any_history_ends_with_one_outcome_per_task_within_the_window(
    data: st.DataObject, count: int, window: int
) -> None:
    pulled: list[str] = []

    def source() -> Iterator[Task]:
        for task in tasks(count):
            pulled.append(task.key)
            yield task

    backlog = Backlog(source(), BUDGET, window)
    outcomes: list[Outcome] = []
    running: list[Ticket] = []
    now = 0.0
    for _ in range(3000):
        while len(running) < window and (ticket := backlog.take(now)):
            running.append(ticket)
        assert len(pulled) - len(outcomes) <= 2 * window
        if backlog.finished:
            break
        if not running and (suspect := backlog.take_suspect(now)) is not None:
            event = data.draw(st.sampled_from(["die", "good", "busy", "wrong"]))
            running.append(suspect)
        else:
            event = data.draw(st.sampled_from(["die", "good", "good", "busy", "wrong", "wait"]))
        now += data.draw(st.sampled_from([0, 1, 10]))
        if not running or event == "wait":
            now += backlog.pause_s(now) or 0
            continue
        if event == "die":
            failed = backlog.died(running, "killed", alone=len(running) == 1, seconds=0, now=now)
            outcomes += [failed] if failed else []
            running = []
            continue
        reply = {"busy": BUSY, "wrong": WRONG}.get(event, GOOD)
        outcome = backlog.answered(running.pop(0), reply, now)
        outcomes += [outcome] if outcome else []
    assert backlog.finished
    assert Counter(outcome.key for outcome in outcomes) == Counter(task.key for task in tasks(count))
    assert all(outcome.attempts <= BUDGET.attempts for outcome in outcomes)


def test_what_was_on_a_node_that_is_lost_runs_again_uncharged_and_beside_others() -> None:
    backlog = Backlog(tasks(1), BUDGET, window=1)
    ticket = taken(backlog)
    for loss in (1, 2):
        backlog.lost([ticket], "its node has died", now=loss)
        assert taken(backlog, now=loss) is ticket
        assert (ticket.attempts, ticket.deaths, backlog.n_suspects) == (0, 0, 0)
    done = backlog.answered(ticket, GOOD, now=9)
    assert isinstance(done, Done)
    assert (done.attempts, done.causes) == (1, ("NodeLost: its node has died",) * 2)


def test_a_task_that_is_lost_with_one_node_after_another_runs_alone() -> None:
    backlog = Backlog(tasks(1), BUDGET, window=1)
    ticket = taken(backlog)
    for _ in range(3):
        backlog.lost([ticket], "its node has died", now=0)
        ticket = backlog.take(now=0) or ticket
    assert backlog.take_suspect(now=1) is ticket
