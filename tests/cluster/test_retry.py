from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.cluster.outcome import Fault
from earthloom.cluster.retry import Budget, fault_of_deaths, pause_after, pause_s
from earthloom.tiling.errors import ConfigError

BUSY = Fault(kind="StorageError", message="busy", transient=True)
WRONG = Fault(kind="SceneError", message="wrong", exit_code=2)
PLAIN = Budget(attempts=3, backoff_s=1, backoff_max_s=5, jitter=0)


@pytest.mark.parametrize(
    ("fault", "attempts", "elapsed_s", "deadline_s", "pause"),
    [
        (BUSY, 1, 0, None, 1),
        (BUSY, 2, 0, None, 2),
        (BUSY, 3, 0, None, None),  # budget used up
        (BUSY, 9, 0, None, None),
        (WRONG, 1, 0, None, None),  # permanent
        (BUSY, 1, 8.9, 10, 1),
        (BUSY, 1, 9.1, 10, None),  # would begin too late
    ],
)
def test_decisions(
    fault: Fault, attempts: int, elapsed_s: float, deadline_s: float | None, pause: float | None
) -> None:
    budget = Budget(attempts=3, backoff_s=1, backoff_max_s=5, jitter=0, deadline_s=deadline_s)
    assert pause_after(fault, key="a", attempts=attempts, elapsed_s=elapsed_s, budget=budget) == pause


@pytest.mark.parametrize(
    ("attempts", "deaths", "elapsed_s", "again"),
    [(1, 1, 0, True), (2, 2, 0, True), (3, 3, 0, False), (5, 1, 0, False), (4, 2, 0, True), (1, 1, 11, False)],
)
def test_decisions_on_deaths(attempts: int, deaths: int, elapsed_s: float, again: bool) -> None:
    budget = Budget(attempts=5, deaths=3, deadline_s=10)
    fault = fault_of_deaths("killed by signal 9", attempts=attempts, deaths=deaths, elapsed_s=elapsed_s, budget=budget)
    assert (fault is None) == again
    if fault is not None:
        assert fault.kind == "PoisonTask"
        assert "killed by signal 9" in fault.message
        assert "`memory_per_worker`" in fault.message
        assert not fault.transient


def test_pauses_double_up_to_the_cap() -> None:
    assert [pause_s("a", attempts, PLAIN) for attempts in range(1, 7)] == [1, 2, 4, 5, 5, 5]
    assert pause_s("a", 10_000, PLAIN) == 5


@given(key=st.text(), attempts=st.integers(1, 100), seed=st.integers(0, 9), jitter=st.floats(0, 1))
@settings(deadline=None)
def test_jitter_shortens_the_pause_by_no_more_than_its_share_and_repeats(
    key: str, attempts: int, seed: int, jitter: float
) -> None:
    budget = Budget(backoff_s=1, backoff_max_s=5, jitter=jitter, seed=seed)
    pause = pause_s(key, attempts, budget)
    full = pause_s(key, attempts, PLAIN)
    assert full * (1 - jitter) <= pause <= full
    assert pause == pause_s(key, attempts, budget)


def test_tasks_that_fail_together_do_not_return_together() -> None:
    pauses = {pause_s(f"block-{number}", 1, Budget()) for number in range(100)}
    assert len(pauses) == 100
    assert max(pauses) - min(pauses) > 0.15


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"deaths": 0}, {"backoff_s": -1}, {"jitter": 1.5}, {"deadline_s": -1}]
)
def test_budgets_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Budget(**wrong)
