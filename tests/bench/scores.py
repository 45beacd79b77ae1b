"""How good the models are: each `tests/bench/score_<task>.py` measures one task against a baseline, side by side.

`python -m tests.bench scores [TASK …]` prints one table and writes it as JSON for docs/models.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

TASKS = ("sr", "pansharpen", "denoise", "landwater", "flood", "burn", "deforestation", "buildings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One figure."""

    task: str
    data: str
    """What it was measured on, and which part was held back."""
    method: str
    metric: str
    """With its direction and unit: `PSNR gain over bicubic, dB`."""
    value: float
    goal: float | None = None
    """What it should reach, where one was set; of a metric for which more is better."""
    baseline: float | None = None
    """The same figure of the baseline measured in the same run."""


def measure(task: str) -> list[Score]:
    """Measure one task on the real scenes of EARTHLOOM_DATA.

    Raises:
        KeyError: if there is no such task.
        FileNotFoundError: naming the data that is absent.
    """
    if task not in TASKS:
        raise KeyError(f"no task {task!r}; one of {', '.join(TASKS)}")
    scores: list[Score] = import_module(f"tests.bench.score_{task}").scores()
    return scores
