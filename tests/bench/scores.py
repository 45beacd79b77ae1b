"""How good the models are: each `tests/bench/score_<task>.py` measures one task against a baseline, side by side.

`python -m tests.bench.scores [TASK …]` measures (all tasks when none is named), prints a table, and keeps the figures in
docs/scores.json, from which `python -m infra.models_page` makes docs/models.md.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from tests.bench.command import table

TASKS = (
    "sr", "pansharpen", "denoise", "landwater", "water", "clouds", "flood", "radar", "burn", "deforestation", "buildings",
    "ships", "robustness", "damage", "land-cover", "scene-class",
)  # fmt: skip
KEPT = Path(__file__).resolve().parents[2] / "docs" / "scores.json"


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
    scores: list[Score] = import_module(f"tests.bench.score_{task.replace('-', '_')}").scores()
    return scores


def rows(scores: list[Score]) -> list[dict[str, str]]:
    """As they stand in a table."""
    return [
        {
            "task": score.task, "data": score.data, "method": score.method, "metric": score.metric,
            "value": f"{score.value:.3g}", "baseline": "" if score.baseline is None else f"{score.baseline:.3g}",
            "goal": "" if score.goal is None else f"≥ {score.goal:g}",
        }
        for score in scores
    ]  # fmt: skip


def main(tasks: list[str]) -> None:
    if unknown := sorted(set(tasks) - set(TASKS)):
        sys.exit(f"no task {unknown[0]!r}; one of {', '.join(TASKS)}")
    for task in tasks or TASKS:
        begun = time.monotonic()
        measured = measure(task)
        print(f"\n### {task} ({time.monotonic() - begun:.0f} s)\n\n{table(rows(measured))}", flush=True)
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        kept[task] = [asdict(score) for score in measured]
        KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
