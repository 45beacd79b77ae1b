"""The sources of a rule's observations: what a cube says of each pixel on each date. Values that travel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from earthloom.jobs.monitoring.alerts.pixels import Observation, observe_classes, observe_flags
from earthloom.jobs.monitoring.alerts.rule import Change, Direction
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.trends.map import MonitorMap
from earthloom.jobs.monitoring.trends.tasks import JudgeTask, flag_series
from earthloom.jobs.records.names import CLASSES, CONFIDENCE
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window

_FLAG_BYTES = 256 * 2**20
"""Flags of one byte that are held at once; a longer history is judged again for each further part of its dates."""


class Evidence(Protocol):
    """A small frozen value.

    What it says of a date follows from the cube's dates up to that one, and never changes when later ones are added.
    """

    def identity(self) -> Mapping[str, Any]:
        """All of it that can change an alert, as plain JSON: part of the key and of the ids."""

    def has_confidence(self) -> bool:
        """True where its observations state a probability; else they state how large the change is."""

    def memory_bytes(self, window: Window, n_steps: int) -> int:
        """Most that it takes while it observes a window on so many dates, beside one date's observation."""

    def observe(self, store: Store, cube: Cube, window: Window, steps: Sequence[int]) -> Iterator[Observation]:
        """Observe a window, date by date.

        Args:
            store: on OUT.
            window: on the cube's grid.
            steps: positions of the dates in `cube.steps`, ascending.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassEvidence:
    """The cube's class map, and the probability of each pixel's class."""

    change: Change

    def identity(self) -> Mapping[str, Any]:
        return {
            "classes": {
                "before": list(self.change.before), "after": list(self.change.after), "ignore": list(self.change.ignore)
            }
        }  # fmt: skip

    def has_confidence(self) -> bool:
        return True

    def memory_bytes(self, window: Window, n_steps: int) -> int:  # noqa: ARG002 - one date is read at a time
        return 0

    def observe(self, store: Store, cube: Cube, window: Window, steps: Sequence[int]) -> Iterator[Observation]:
        for step in steps:
            classes, confidence = (cube.read(store, layer, window, [step])[0] for layer in (CLASSES, CONFIDENCE))
            yield observe_classes(classes, confidence, self.change)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorEvidence:
    """The flags of a monitor over time: a date is an anomaly, or is as the pixel's history makes expect.

    Args:
        made: the monitor over the cube. A method that looks back is asked anew for each date, of the dates up to it.
        direction: which anomalies count.
    """

    made: MonitorMap
    direction: Direction | None

    def identity(self) -> Mapping[str, Any]:
        layer = self.made.layer
        return {
            "monitor": {
                "rule": self.made.rule.model_dump(mode="json", exclude={"name", "layer"}), "direction": self.direction,
                "layer": [layer.name, layer.dtype, repr(float(layer.nodata)), dict(layer.attributes)],
            }
        }  # fmt: skip

    def has_confidence(self) -> bool:
        return False

    def memory_bytes(self, window: Window, n_steps: int) -> int:
        judging = JudgeTask(made=self.made, part=window).memory_bytes
        return judging + min(n_steps, _steps_at_once(window)) * window.size_px

    def observe(  # the monitor is of this cube
        self, store: Store, cube: Cube, window: Window, steps: Sequence[int]  # noqa: ARG002
    ) -> Iterator[Observation]:  # fmt: skip
        at_once = _steps_at_once(window)
        for start in range(0, len(steps), at_once):
            some = list(steps[start : start + at_once])
            until = _until(self.made, some[-1] + 1)
            flags = np.empty((len(some), *window.shape), np.int8)
            for part in JudgeTask(made=until, part=window).windows():
                rows, cols = part.slices(window)
                flags[:, rows, cols] = flag_series(store, until, part, some)
            for seen in flags:
                yield observe_flags(seen, self.direction)


def _steps_at_once(window: Window) -> int:
    return max(1, _FLAG_BYTES // window.size_px)


def _until(made: MonitorMap, n: int) -> MonitorMap:
    """The monitor over only the first n dates."""
    return replace(made, steps=made.steps[:n], cube=replace(made.cube, steps=made.cube.steps[:n]))
