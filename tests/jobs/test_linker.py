from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from earthloom.jobs.publish import linker
from earthloom.jobs.publish.linker import Linker, pause_s
from earthloom.tiling.errors import StorageError


class Links:
    """Stands for `link`: each call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.begun, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None

    def __call__(self, _: Any, plans: Sequence[Any]) -> None:
        self.calls.append(list(plans))
        self.begun.release()
        assert self.go_on.acquire(timeout=60)
        if self.error:
            raise self.error


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Links:
    made = Links()
    monkeypatch.setattr(linker, "link", made)
    monkeypatch.setattr(linker, "PAUSE_S", 0.001)
    return made


def add(linker: Linker, *plans: Any) -> None:
    for plan in plans:
        linker.add(plan)


def test_whatever_was_published_during_one_rewriting_is_linked_by_the_next(links: Links) -> None:
    store: Any = None
    work = Linker(store)
    add(work, 0)
    assert links.begun.acquire(timeout=60)
    add(work, *range(1, 500))
    links.go_on.release()
    assert links.begun.acquire(timeout=60)
    links.go_on.release()
    work.close(wait=True)
    assert links.calls == [[0], list(range(1, 500))]


def test_a_rewriting_that_fails_stops_none_of_the_later_ones(links: Links) -> None:
    store: Any = None
    work = Linker(store)
    links.error = StorageError("busy", transient=True)
    add(work, 0)
    assert links.begun.acquire(timeout=60)
    links.go_on.release()
    add(work, 1)
    assert links.begun.acquire(timeout=60)
    links.go_on.release()
    work.close(wait=True)
    assert links.calls == [[0], [1]]


def test_closing_links_nothing_more(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linker, "PAUSE_S", 3600.0)
    store: Any = None
    work = Linker(store)
    add(work, 0, 1)
    work.close(wait=True)
    assert links.calls == []


def test_the_pause_grows_with_the_cost_so_that_linking_takes_a_small_share_of_the_time() -> None:
    assert pause_s(0.0) == pause_s(0.05) == linker.PAUSE_S
    for cost_s in (1.0, 10.0, 100.0):
        assert cost_s / (cost_s + pause_s(cost_s)) == pytest.approx(linker.SHARE)
