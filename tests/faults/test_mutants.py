"""The protocol holds where it is tempted to break, and a broken protocol is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.golden import Golden, hurried
from tests.faults.mutants import MUTANTS
from tests.faults.scenarios import Scenario

_SCENARIOS = list(dict.fromkeys(scenario for caught_by in MUTANTS.values() for scenario in caught_by))


@pytest.mark.parametrize("scenario", _SCENARIOS, ids=lambda one: one.__name__)
def test_the_protocol_survives(scenario: Scenario, small_run: Golden, tmp_path: Path) -> None:
    with hurried():
        assert scenario(small_run, tmp_path / "out") == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.__name__)
def test_a_broken_protocol_is_caught(mutant: Callable[[], Any], small_run: Golden, tmp_path: Path) -> None:
    for number, scenario in enumerate(MUTANTS[mutant]):
        with hurried(), mutant():
            assert scenario(small_run, tmp_path / str(number)), f"{scenario.__name__} did not notice: {mutant.__doc__}"
