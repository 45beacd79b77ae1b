"""Drivers that race over a faulty store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.golden import Golden, hurried
from tests.faults.race import race


@pytest.mark.parametrize("seed", range(3))
def test_of_four_drivers_one_wins_and_all_succeed(seed: int, small_run: Golden, tmp_path: Path) -> None:
    with hurried():
        verdict = race(small_run, tmp_path / "out", seed=seed)
    assert not verdict.wrong
    assert verdict.faults
