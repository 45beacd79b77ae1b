"""Decides whether and when a task is tried again: pure functions of what happened so far. Knows no clock, thread or Ray."""

from __future__ import annotations

import random
from dataclasses import dataclass

from earthloom.cluster.outcome import Fault
from earthloom.tiling.errors import ConfigError

WORKER_DIED = "WorkerDied"
NODE_LOST = "NodeLost"
POISON_TASK = "PoisonTask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much one task may cost.

    Raises:
        ConfigError: if a count is below 1 or a time is negative.
    """

    attempts: int = 5
    """Runs that count, the first one included."""
    deaths: int = 3
    """Workers a task may kill while running alone before it is quarantined."""
    deadline_s: float | None = None
    """No attempt starts later than this after the task's first start; None for no limit."""
    backoff_s: float = 0.5
    """Pause before the second attempt; doubles with each further one."""
    backoff_max_s: float = 30.0
    jitter: float = 0.5
    """Share of the pause that is random, so that tasks which failed together do not return together."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.deaths < 1:
            raise ConfigError(f"a task needs at least one attempt, got attempts={self.attempts}, deaths={self.deaths}")
        if min(self.backoff_s, self.backoff_max_s, self.deadline_s or 0) < 0 or not 0 <= self.jitter <= 1:
            raise ConfigError(
                f"pauses and deadline must not be negative and jitter lies in 0..1, got backoff_s={self.backoff_s}, "
                f"backoff_max_s={self.backoff_max_s}, deadline_s={self.deadline_s}, jitter={self.jitter}"
            )


def pause_after(fault: Fault, *, key: str, attempts: int, elapsed_s: float, budget: Budget) -> float | None:
    """Seconds until a task that faulted is tried again; None if it is not.

    Args:
        fault: what the last attempt ended with.
        key: key of the task; it seeds the jitter together with `budget.seed`.
        attempts: counted runs so far, the failed one included.
        elapsed_s: since the task's first start.
        budget: what the task may cost.
    """
    if not fault.transient or attempts >= budget.attempts:
        return None
    pause = pause_s(key, attempts, budget)
    return None if budget.deadline_s is not None and elapsed_s + pause > budget.deadline_s else pause


def fault_of_deaths(cause: str, *, attempts: int, deaths: int, elapsed_s: float, budget: Budget) -> Fault | None:
    """With what a task fails that killed the worker on which it ran alone; None if it is tried again, at once: starting a
    new worker is a pause.

    Args:
        cause: how the worker died, in words.
        attempts: counted runs so far, this one included.
        deaths: workers the task killed while alone, this one included.
        elapsed_s: since the task's first start.
        budget: what the task may cost.
    """
    late = budget.deadline_s is not None and elapsed_s > budget.deadline_s
    if deaths < budget.deaths and attempts < budget.attempts and not late:
        return None
    times = "once" if deaths == 1 else f"{deaths} times"
    return Fault(
        kind=POISON_TASK,
        message=f"killed its worker {times} while running alone, and is set aside; the last time: {cause}. If "
        "the worker ran out of memory give it more (`memory_per_worker`) or smaller blocks (`block`); else "
        "the input crashes native code: check the file",
    )


def pause_s(key: str, attempts: int, budget: Budget) -> float:
    """Seconds to wait after the `attempts`-th run: exponential, capped, with jitter that the same seed repeats."""
    full = min(budget.backoff_max_s, budget.backoff_s * 2.0 ** min(attempts - 1, 60))
    return full * (1 - budget.jitter * random.Random(f"{budget.seed}:{key}:{attempts}").random())
