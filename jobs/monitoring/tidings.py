"""What monitoring says of itself beside its result: how stale each area is, and what people are told of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Protocol

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.execution.known import problems as run_problems
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.pairs import without_earlier
from earthloom.jobs.report.metrics import Metrics


class Ended(Protocol):
    """What became of one product over one area (`jobs.monitoring.monitor.ProductResult`)."""

    aoi: str
    product: str
    run: RunResult | None
    errors: list[tuple[str, str, str]]


def problems(
    products: Iterable[Ended], refused: Sequence[tuple[str, str]]
) -> tuple[dict[str, tuple[str, str]], frozenset[str]]:
    """What failed, class and text by place; and the places that an earlier run named already."""
    found = {file: ("ConfigError", why) for file, why in refused}
    known: set[str] = set()
    for one in products:
        where = f"{one.aoi} {one.product}"
        found |= {f"{where}, {doing}": (kind, text) for doing, kind, text in one.errors}
        if one.run:
            excused = without_earlier(one.run)
            of_run = run_problems(one.run.scenes, one.run.stopped)
            found |= {f"{where}, {name}": why for name, why in of_run.items() if name not in excused}
            known |= {f"{where}, {name}" for name, scene in one.run.scenes.items() if scene.known}
    return found, frozenset(known)


def note_staleness(out: str, file: Path | None, cubes: Iterable[tuple[str, Cube | None]]) -> None:
    """Set the metric of each area: the time since the newest date in its cubes, which is taken to begin at 0 h UTC."""
    newest: dict[str, datetime] = {}
    for aoi, cube in cubes:
        if cube and cube.steps:
            last = datetime.combine(max(step.date for step in cube.steps), time(), UTC)
            newest[aoi] = max(newest.get(aoi, last), last)
    metrics = Metrics(out, file)
    for aoi, last in newest.items():
        metrics.set("earthloom_staleness_seconds", (datetime.now(UTC) - last).total_seconds(), aoi=aoi)
    metrics.write()
