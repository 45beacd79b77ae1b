from __future__ import annotations

import pickle
import re
import threading

import pytest

from earthloom.cluster.outcome import Done, Failed, Fault
from earthloom.cluster.worker import attempt
from earthloom.tiling.counting import merge_tallies
from earthloom.tiling.errors import CardError, EarthloomError, EngineError, SceneError, StorageError


class StubbornError(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())


def raised(error: BaseException) -> Fault:
    try:
        raise error
    except BaseException as caught:
        return Fault.of(caught)


@pytest.mark.parametrize(
    ("error", "transient", "exit_code"),
    [
        (StorageError("throttled", transient=True), True, 1),
        (StorageError("forbidden"), False, 1),
        (SceneError("no CRS"), False, 2),
        (ConnectionResetError("reset"), True, 1),
        (TimeoutError("slow"), True, 1),
        (FileNotFoundError("gone"), False, 1),
        (ValueError("bug"), False, 1),
        (MemoryError(), False, 1),
        (SystemExit(3), False, 1),
    ],
)
def test_a_fault_says_what_the_exception_said(error: BaseException, transient: bool, exit_code: int) -> None:
    fault = raised(error)
    assert (fault.kind, fault.transient, fault.exit_code) == (type(error).__name__, transient, exit_code)
    assert fault.message == (str(error) or type(error).__name__)


def test_a_fault_that_nobody_foresaw_names_the_line_of_our_code() -> None:
    def bad(_: object) -> object:
        return merge_tallies([None])  # type: ignore[list-item]

    fault = attempt(bad, None).fault
    assert fault is not None
    assert re.search(r" \(earthloom\.tiling\.counting, line \d+\)$", fault.message)
    assert str(fault.as_error()).startswith("AttributeError: ")


def test_faults_and_outcomes_pickle_even_when_the_exception_does_not() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(StubbornError())
    fault = raised(StubbornError())
    for value in (
        fault,
        Failed(key="a", error=fault, attempts=1, seconds=0.5),
        Done(key="a", value=1, attempts=1, seconds=0),
    ):
        assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("error", [CardError("no weights"), SceneError("no CRS"), StorageError("busy", transient=True)])
def test_our_own_errors_come_back_as_their_class(error: EarthloomError) -> None:
    back = raised(error).as_error()
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert (back.transient, back.exit_code) == (error.transient, error.exit_code)


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("annotations")])
def test_foreign_errors_come_back_as_engine_errors_that_name_the_class(error: Exception) -> None:
    back = raised(error).as_error()
    assert type(back) is EngineError
    assert str(back) == f"{type(error).__name__}: {error}"
