"""Asynchronous successive halving: decides whether a trial of a study is worth going on with.

Li, L. et al. (2020): A system for massively parallel hyperparameter tuning. MLSys. At each rung, so many steps, a trial goes
on if its score is among the best of all that have come there. Knows nothing of trials' parameters or storage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Looks = Sequence[tuple[int, float]]
"""(step, score) of each look at the validation part, in order."""


def rungs(least_steps: int, steps: int, reduction: int) -> list[int]:
    """Steps at which a trial is held against the others; none is the end, where nothing is left to be saved."""
    found = []
    while least_steps < steps:
        found.append(least_steps)
        least_steps *= reduction
    return found


def score_at(looks: Looks, rung: int) -> float | None:
    """The best score at the first look at or after a rung; None if the trial has not come there."""
    best = -math.inf
    for step, score in looks:
        best = max(best, score)
        if step >= rung:
            return best
    return None


def goes_on(looks: Looks, others: Sequence[Looks], rung: int, reduction: int) -> bool:
    """Whether a trial that has come to a rung is among the best 1 / `reduction` there, ties included.

    Args:
        looks: looks of the trial.
        others: of all others, those that have ended too.
    """
    own = score_at(looks, rung)
    if own is None:
        return True
    scores = sorted([own, *(score for each in others if (score := score_at(each, rung)) is not None)], reverse=True)
    return own >= scores[max(1, math.ceil(len(scores) / reduction)) - 1]
