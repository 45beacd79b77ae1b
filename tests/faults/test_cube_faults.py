"""A sample of the n-th request loop over cubes: `tests.faults.cube_loop` can strike every request."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.again import faults_of
from tests.faults.cube_loop import CASES, case, strike
from tests.faults.loop import drawn

SEED = 11
SAMPLE = 14


@pytest.mark.parametrize("name", CASES)
def test_any_request_of_an_update_may_fail_and_nobody_sees_half_a_date(name: str, tmp_path: Path) -> None:
    one = case(name, tmp_path)
    verdicts = [strike(fault, one) for fault in drawn(faults_of(one.requests), SEED)[:SAMPLE]]
    assert not [(str(verdict.fault), verdict.wrong[:3]) for verdict in verdicts if verdict.wrong]
    assert any(verdict.tries > 1 for verdict in verdicts), "no fault was hard enough to need another update"
