"""Calls that share a process's threads: in order, side by side, none left behind."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import torch

from earthloom.models.inference.passes import Threads, one_thread


class Together:
    """A function that knows how many of its calls ran at once."""

    def __init__(self) -> None:
        self.now, self.most, self.lock = 0, 0, threading.Lock()

    def __call__(self, n: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        return n


def test_answers_come_in_order_however_long_each_takes() -> None:
    def nap(n: int) -> int:
        time.sleep(0.02 * (n % 3))
        return n

    assert list(Threads(2).map(nap, range(10))) == list(range(10))


def test_calls_run_side_by_side_and_no_more_than_that() -> None:
    meeting, call = threading.Barrier(3), Together()

    def meet(n: int) -> int:
        meeting.wait(120)
        return call(n)

    assert list(Threads(3).map(meet, range(9))) == list(range(9))
    assert call.most <= 3


@pytest.mark.parametrize(("passes", "n_items"), [(4, 9), (4, 2), (4, 1), (1, 9)])
def test_a_call_has_one_thread_whoever_else_is_at_work(passes: int, n_items: int) -> None:
    torch.set_num_threads(3)
    assert list(Threads(passes).map(lambda _: torch.get_num_threads(), range(n_items))) == [1] * n_items


def test_two_readers_share_the_threads() -> None:
    threads, call = Threads(2), Together()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: list(threads.map(call, range(8))), range(2)))
    assert answers == [list(range(8))] * 2
    assert call.most <= 2


def test_halving_holds_for_all_readers_and_happens_once_for_all_that_saw_the_same() -> None:
    threads, call = Threads(4), Together()
    seen = threads.allowed
    assert [threads.halve(seen), threads.halve(seen), threads.allowed] == [True, True, 2]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: list(threads.map(call, range(8))), range(2)))
    assert call.most <= 2
    assert [threads.halve(2), threads.allowed, threads.halve(2), threads.halve(1)] == [True, 1, True, False]
    alone = Together()
    assert list(threads.map(alone, range(4))) == list(range(4))
    assert alone.most == 1


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
        got.extend(Threads(2).map(call, range(20)))
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

    with closing(Threads(2).map(call, range(20))) as answers:
        assert next(answers) == 0
    begun = len(ended)
    time.sleep(0.2)
    assert len(ended) == begun < 20


@pytest.mark.parametrize("before", [1, 2])
def test_a_thread_that_was_made_alone_has_its_helpers_again(before: int) -> None:
    usual = torch.get_num_threads()
    torch.set_num_threads(before)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(usual)
