"""A sample of the n-th request loop over composites, changes, alerts and trends: `tests.faults.derived_loop` can strike all."""

from __future__ import annotations

import pytest

from tests.faults.again import faults_of
from tests.faults.derived_loop import TABLES, derived_case, strike
from tests.faults.loop import drawn

SEED = 23
SAMPLE = 8


@pytest.mark.parametrize("name", TABLES)
def test_any_request_of_a_stage_may_fail_and_nobody_sees_half_a_result(name: str) -> None:
    one = derived_case(name)
    verdicts = [strike(fault, one) for fault in drawn(faults_of(one.requests), SEED)[:SAMPLE]]
    assert not [(str(verdict.fault), verdict.wrong[:3]) for verdict in verdicts if verdict.wrong]
    assert any(verdict.tries > 1 for verdict in verdicts), "no fault was hard enough to need another try"
