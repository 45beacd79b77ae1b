"""Where a rule's observations come from: what a cube says of each pixel on each date. Values that travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from earthloom.jobs.monitoring.alerts.pixels import Observation, observe_classes
from earthloom.jobs.monitoring.alerts.rule import Change
from earthloom.jobs.monitoring.cube import Cube
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window


class Evidence(Protocol):
    """A small frozen value.

    What it says of a date follows from the cube's dates up to that one, and never changes when later ones are added.
    """

    def identity(self) -> Mapping[str, Any]:
        """All of it that can change an alert, as plain JSON: part of the key and of the ids."""

    def has_confidence(self) -> bool:
        """Whether its observations state a probability."""

    def has_magnitude(self) -> bool:
        """Whether its observations state how large the change is."""

    def observe(self, store: Store, cube: Cube, window: Window, step: int) -> Observation:
        """What is seen in a window on a date.

        Args:
            store: on OUT.
            window: on the cube's grid.
            step: position of the date in `cube.steps`.
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

    def has_magnitude(self) -> bool:
        return False

    def observe(self, store: Store, cube: Cube, window: Window, step: int) -> Observation:
        classes = cube.read(store, "classes", window, [step])[0]
        return observe_classes(classes, cube.read(store, "confidence", window, [step])[0], self.change)
