"""How long a run will take, as far as that is known before it begins."""

from __future__ import annotations

from earthloom.jobs.config import RunConfig
from earthloom.jobs.execution.opening import StoredScenes
from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.planning.resources import here, share


def seconds_left(config: RunConfig, made: RunPlan, ahead: StoredScenes) -> float:
    """Estimated time for what storage does not hold of a run that is computed on this machine.

    Scenes of models whose cards do not say what a pixel costs count nothing, so that it is a lower bound.

    Raises:
        StorageError: if storage cannot tell what it holds.
    """
    workers = share(config.engine, on_gpu=made.device.kind == "cuda", nodes=here()).workers or 1
    missing = ahead.shares_missing()
    return sum(share_ * made.estimated_s.get(name, 0.0) for name, share_ in missing.items()) / workers
