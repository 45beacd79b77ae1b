"""The stages of what is derived from a cube: composites, change, alerts, series, each told the same and asked the same.

A stage is a pure function of the cube and of its tables in the AOI file. It plans tasks for workers, and when they are
done it commits what they made. Twice equals once: what is up to date gives no task and is not written again.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.worker import MonitorTask
from earthloom.tiling.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    """One product over one area, with its cube up to date."""

    area: Area
    product: ProductTable
    """Its tables in the AOI file."""
    name: str
    """Name of the product, as `collections/` has it."""
    prefix: str
    """`monitors/<aoi>/<product>/<key>`, below which everything derived lies."""
    cube: Cube
    until: datetime.date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One kind of thing that is derived from cubes.

    Args:
        name: in messages and in the result of `earthloom monitor`.
        plan: the tasks that can be done now, each with a key of its own; it is asked again when they are done, until it
            gives none. So a stage whose tasks follow from one another looks into storage for what is there already.
        finish: called once, after the last task: commits, and returns a small summary, plain JSON.
    """

    name: str
    plan: Callable[[Store, Monitored], Sequence[MonitorTask]]
    finish: Callable[[Store, Monitored], Mapping[str, Any]]
