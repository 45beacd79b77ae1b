"""A sample of the n-th request loop: `tests.faults.loop` can strike every request."""

from __future__ import annotations

from tests.faults.golden import Golden
from tests.faults.loop import bad, drawn, faults_of, strike
from tests.faults.store import Fault

SEED = 7
SAMPLE = 14


def test_any_request_may_fail_in_any_way_and_nothing_is_lost(small_run: Golden) -> None:
    """Half of the sample are commits, catalogues and records, which are few among the shards."""
    common, rare = list[Fault](), list[Fault]()
    for fault in drawn(faults_of(small_run), SEED):
        key = fault.request.key
        (common if "/data.zarr/" in key or "/blocks/" in key else rare).append(fault)
    verdicts = [strike(fault, small_run) for fault in (*rare[: SAMPLE // 2], *common[: SAMPLE // 2])]
    assert not bad(verdicts)
    assert any(verdict.runs > 1 for verdict in verdicts), "no fault was hard enough to need another run"
