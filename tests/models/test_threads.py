"""Calls that share a process's threads: in order, side by side, none left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from models.threads import Threads


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_answers_come_in_order_however_long_each_takes() -> None:
    def nap(n: int) -> int:
        time.sleep(0.02 * (n % 3))
        return n

    assert list(Threads(2, 2).map(nap, range(10))) == list(range(10))


def test_calls_run_side_by_side_and_no_more_than_that() -> None:
    meeting, at_work, most = threading.Barrier(3), [0], [0]
    lock = threading.Lock()

    def meet(_: int) -> None:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        meeting.wait(30)
        with lock:
            at_work[0] -= 1

    assert len(list(Threads(3, 3).map(meet, range(9)))) == 9
    assert most == [3]


@pytest.mark.parametrize(
    ("count", "passes", "n_items", "share"), [(4, 4, 9, 1), (4, 2, 9, 2), (4, 4, 2, 2), (4, 4, 1, 4), (4, 1, 9, 4)]
)
def test_calls_share_all_threads(count: int, passes: int, n_items: int, share: int) -> None:
    seen = list(Threads(count, passes).map(lambda _: torch.get_num_threads(), range(n_items)))
    assert seen == [share] * n_items


def test_where_calls_must_not_meet_they_have_all_threads_one_after_another() -> None:
    here = threading.get_ident()
    seen = list(
        Threads(4, 4).map(lambda _: (threading.get_ident(), torch.get_num_threads()), range(5), side_by_side=False)
    )
    assert seen == [(here, 4)] * 5


def test_an_error_comes_where_its_answer_would_and_the_calls_after_it_have_ended() -> None:
    ended = set[int]()

    def call(n: int) -> int:
        if n == 2:
            raise ValueError("the third")
        time.sleep(0.05)
        ended.add(n)
        return n

    got = list[int]()
    with pytest.raises(ValueError, match="the third"):
        got.extend(Threads(2, 2).map(call, range(20)))
    begun = set(ended)
    time.sleep(0.2)
    assert ended == begun, "nothing goes on in the background"
    assert ended < set(range(20)), "later ones never begin"


def test_a_reader_that_stops_waits_for_what_has_begun() -> None:
    ended = list[int]()

    def call(n: int) -> int:
        time.sleep(0.05)
        ended.append(n)
        return n

    with closing(Threads(2, 2).map(call, range(20))) as answers:
        assert next(answers) == 0
    begun = len(ended)
    time.sleep(0.2)
    assert len(ended) == begun < 20
