"""Calls that share a process's threads: in order, side by side, none left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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

    assert list(Threads(2).map(nap, range(10), most=2)) == list(range(10))


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

    assert len(list(Threads(3).map(meet, range(9), most=3))) == 9
    assert most == [3]


@pytest.mark.parametrize(
    ("passes", "most", "n_items"), [(4, 4, 9), (4, 2, 9), (4, 4, 2), (4, 4, 1), (1, 4, 9), (4, 1, 9)]
)
def test_a_call_has_one_thread_whoever_else_is_at_work(passes: int, most: int, n_items: int) -> None:
    torch.set_num_threads(3)
    assert list(Threads(passes).map(lambda _: torch.get_num_threads(), range(n_items), most=most)) == [1] * n_items


def test_no_more_calls_are_made_at_once_than_one_reader_may_have() -> None:
    at_work, most, lock = [0], [0], threading.Lock()

    def call(_: int) -> None:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        time.sleep(0.02)
        with lock:
            at_work[0] -= 1

    list(Threads(4).map(call, range(12), most=2))
    assert most == [2]
    here = threading.get_ident()
    assert list(Threads(4).map(lambda _: threading.get_ident(), range(5), most=1)) == [here] * 5


def test_two_readers_share_the_threads() -> None:
    threads, at_work, most, lock = Threads(2), [0], [0], threading.Lock()

    def call(n: int) -> int:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        time.sleep(0.02)
        with lock:
            at_work[0] -= 1
        return n

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: list(threads.map(call, range(8), most=2)), range(2)))
    assert answers == [list(range(8))] * 2
    assert most == [2]


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
        got.extend(Threads(2).map(call, range(20), most=2))
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

    with closing(Threads(2).map(call, range(20), most=2)) as answers:
        assert next(answers) == 0
    begun = len(ended)
    time.sleep(0.2)
    assert len(ended) == begun < 20
