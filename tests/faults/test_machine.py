"""A few sequences of the state machine; `python -m tests.chaos machine` tries more."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.faults.machine import RunsOverFaultyStorage


@pytest.mark.slow
def test_no_sequence_of_faults_breaks_what_is_published() -> None:
    run_state_machine_as_test(
        RunsOverFaultyStorage,
        settings=settings(
            max_examples=5, stateful_step_count=6, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
