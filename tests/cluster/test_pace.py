from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthloom.cluster.outcome import Fault
from earthloom.cluster.pace import CALL_S, MOST, Pace
from earthloom.cluster.worker import Reply, attempt_each


def replies(count: int, seconds: float) -> list[Reply]:
    return [Reply(value=None, seconds=seconds)] * count


def grown(seconds: float = 0.0) -> Pace:
    pace = Pace()
    for _ in range(20):
        pace.answered(replies(pace.size, seconds))
    return pace


def test_a_run_begins_with_one_task_a_call_and_doubles_while_calls_are_short() -> None:
    pace = Pace()
    sizes = [pace.size]
    for _ in range(7):
        pace.answered(replies(pace.size, 0.0))
        sizes.append(pace.size)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, MOST]


@given(seconds=st.floats(0, 100))
def test_tasks_of_one_duration_come_to_fill_calls_but_not_to_overfill_them(seconds: float) -> None:
    size = grown(seconds).size
    assert size == 1 or size * seconds <= CALL_S * 1.001
    assert size == MOST or 2 * size * seconds >= CALL_S * 0.999 or size == 1


def test_one_slow_task_ends_the_sharing() -> None:
    pace = grown()
    pace.answered(replies(1, 30.0))
    assert pace.size == 1


def test_a_short_call_of_few_tasks_does_not_make_others_smaller() -> None:
    pace = grown()
    pace.answered(replies(1, 0.0))
    assert pace.size == MOST


@pytest.mark.parametrize("how", ["fault", "failed as a whole", "death"])
def test_after_a_fault_or_a_death_tasks_go_one_to_a_call_again(how: str) -> None:
    pace = grown()
    if how == "death":
        pace.lost()
    else:
        broken = Reply(fault=Fault(kind="StorageError", message="busy", transient=True), seconds=0.0)
        pace.answered([*replies(3, 0.0), broken] if how == "fault" else [])
    assert pace.size == 1


def test_a_call_whose_time_is_over_begins_nothing_more_but_always_one() -> None:
    assert [reply.value for reply in attempt_each(abs, [-1, -2, -3], limit_s=60)] == [1, 2, 3]
    assert [reply.value for reply in attempt_each(abs, [-1, -2, -3], limit_s=-1)] == [1]
    begun = itertools.count(1)

    def fault(_: int) -> int:
        next(begun)
        raise ValueError("no")

    assert all(reply.fault for reply in attempt_each(fault, [1, 2, 3], limit_s=60))
    assert next(begun) == 4
