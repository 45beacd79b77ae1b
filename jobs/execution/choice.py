"""Who computes a run that leaves it open: this process, or workers on Ray.

An embedded Ray and its workers take a while to start. They pay where several workers share what one would do, and on long
runs, of which the start is a small part, by what else they bring: a block that kills its worker costs that worker alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from earthloom.cluster.guard import is_guarded, rely_on_guard
from earthloom.jobs.config import EngineOptions, RunConfig
from earthloom.jobs.execution.opening import StoredScenes
from earthloom.jobs.planning.plan import RunPlan
from earthloom.jobs.planning.resources import here, share

RAY_START_S = 6.0
"""What an embedded Ray and a worker of it take to start, beyond a worker in this process. By the bench `start` a whole command
takes 14.9 s with them and 8.6 s without, on two idle cores."""
LONG_S = 90.0
"""A run that takes longer starts Ray in any case: the start is then less than a tenth of it."""
LARGE_MPX = 400.0
"""Size that takes so long if a model does not say what a pixel costs: rules and indices, 4 to 12 Mpx/s on two cores."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Who computes, and why, in a sentence."""

    executor: str
    sentence: str


def pays(seconds: float | None, mpx: float, n_workers: int) -> bool:
    """Whether the start of Ray is worth its time.

    Args:
        seconds: that one worker takes, roughly; None where nobody knows.
        mpx: megapixels of the scenes.
        n_workers: that Ray would start.
    """
    if seconds is None:
        return mpx > LARGE_MPX
    return seconds > LONG_S or seconds * (1 - 1 / n_workers) > RAY_START_S


def settle(config: RunConfig, made: RunPlan, ahead: StoredScenes) -> tuple[RunConfig, Choice | None]:
    """The configuration with an executor that is decided, and which; None for the choice if the user had decided.

    Only a process that is guarded computes by itself unasked: elsewhere a block that kills its process would kill the
    caller's program.

    Raises:
        StorageError: if storage cannot tell what it holds.
    """
    if config.engine.executor != "auto":
        return config, None
    on_gpu = made.device.kind == "cuda"
    n_workers = share(config.engine, on_gpu=on_gpu, nodes=here()).workers or 1
    each = 1 if on_gpu else n_workers  # an estimate is of all cores, of which a worker has its share
    seconds: float | None = 0.0
    mpx, wants_ray = 0.0, not is_guarded() or (n_workers > 1 and config.engine.workers is not None)
    for plan, part in () if wants_ray else ahead.missing():
        mpx += part * plan.scene.grid.window.size_px / 1e6
        known_s = made.estimated_s.get(plan.scene.id)
        seconds = None if seconds is None or known_s is None else seconds + part * known_s * each
        if wants_ray := pays(seconds, mpx, n_workers):  # no need to ask storage for all of a thousand scenes
            break
    if wants_ray:
        return _with(config, "ray"), Choice("ray", "computed by workers on Ray")
    rely_on_guard()
    took = f"{mpx:.1f} Mpx" + ("" if seconds is None else f", about {max(1.0, seconds):.0f} s")
    return _with(config, "local"), Choice(
        "local",
        f"computed in this process: for {took}, the {RAY_START_S:.0f} s that Ray takes to start would not pay off; "
        "`executor=ray` starts it",
    )


def _with(config: RunConfig, executor: str) -> RunConfig:
    engine: EngineOptions = config.engine.model_copy(update={"executor": executor})
    return config.model_copy(update={"engine": engine})
