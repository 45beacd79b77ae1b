"""How long a run will take, as far as that is known before it begins."""

from __future__ import annotations

from earthloom.jobs.execution.opening import StoredScenes
from earthloom.jobs.planning.plan import RunPlan


def seconds_left(made: RunPlan, ahead: StoredScenes, n_workers: int) -> float:
    """Estimated time for what storage does not hold of a run, with so many workers from its beginning to its end.

    Scenes of models whose cards do not say what a pixel costs count nothing, so that it is a lower bound.

    Raises:
        StorageError: if storage cannot tell what it holds.
    """
    missing = ahead.shares_missing()
    return sum(share_ * made.estimated_s.get(name, 0.0) for name, share_ in missing.items()) / n_workers
