"""SIGKILL and SIGSTOP of real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.golden import Golden
from tests.faults.kills import kill_loop, paused_driver

SEED = 13


@pytest.mark.chaos
def test_killing_drivers_and_workers_on_ray_loses_nothing(golden_run: Golden, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    verdict = kill_loop(golden_run, tmp_path / "out", seed=SEED, kills=2)
    assert not verdict.wrong
    assert verdict.kills, "nothing was killed"


@pytest.mark.long
def test_a_driver_that_was_paused_while_another_finished_changes_nothing(golden_run: Golden, tmp_path: Path) -> None:
    assert paused_driver(golden_run, tmp_path / "out") == []
