"""A sample of the n-th request loop: `tests.faults.loop` can strike every request."""

from __future__ import annotations

import random

from tests.faults.golden import Golden
from tests.faults.loop import bad, faults_of, strike

SEED = 7
SAMPLE = 14


def test_any_request_may_fail_in_any_way_and_nothing_is_lost(golden_run: Golden) -> None:
    """Half of the sample are commits, catalogues and records, which are few among the shards."""
    print(f"seed {SEED}")
    faults = faults_of(golden_run)
    rare = [one for one in faults if "/data.zarr/" not in one.request.key and "/blocks/" not in one.request.key]
    dice = random.Random(SEED)
    sample = [*dice.sample(rare, SAMPLE // 2), *dice.sample(faults, SAMPLE // 2)]
    verdicts = [strike(fault, golden_run) for fault in sample]
    assert not bad(verdicts)
    assert any(verdict.runs > 1 for verdict in verdicts), "no fault was hard enough to need another run"
