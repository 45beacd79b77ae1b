"""No model stands below its baseline or goal in docs/scores.json but those that docs/models.md names with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.models_page import BELOW, SCORES, below, reason_of


def row(**given: Any) -> dict[str, Any]:
    return {"data": "d", "method": "ours", "metric": "IoU", "value": 0.5, "goal": None, "baseline": None} | given


def test_no_figure_is_below_without_a_reason() -> None:
    unexplained = [one for task, one in below(json.loads(SCORES.read_text())) if not reason_of(task, one)]
    assert not unexplained


@pytest.mark.parametrize("reason", BELOW, ids=lambda reason: reason[0])
def test_no_reason_is_left_that_excuses_nothing(reason: tuple[str, str, str, str]) -> None:
    excused = [reason_of(task, one) for task, one in below(json.loads(SCORES.read_text()))]
    assert reason[-1] in excused, "take it out of infra.models_page.BELOW"


@pytest.mark.parametrize(
    ("given", "is_below"),
    [
        ({"baseline": 0.6}, True), ({"goal": 0.6}, True), ({"baseline": 0.4, "goal": 0.6}, True), ({"baseline": 0.5}, False),
        ({"baseline": 0.50001}, False), ({"metric": "error (lower is better)", "baseline": 0.6}, False),
        ({"metric": "error (lower is better)", "baseline": 0.4}, True), ({"value": -0.1, "goal": 0.0}, True),
        ({"value": 0.0, "baseline": 0.0}, False), ({"method": "cubic, a = -1/2", "baseline": 0.6}, False), ({}, False),
    ],
)  # fmt: skip
def test_what_is_below(given: dict[str, Any], is_below: bool) -> None:
    assert bool(below({"task": [row(**given)]})) is is_below
