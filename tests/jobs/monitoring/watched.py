"""A small area that is watched, and scenes of it: what tests of cubes and of their faults share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from earthloom.jobs.monitoring.cube.log import cube_prefix, generation_prefix, read_head
from earthloom.jobs.monitoring.cube.members import Wanted, wanted
from earthloom.jobs.monitoring.cube.update import CubeRules, CubeUpdate, update_cube
from earthloom.jobs.monitoring.pool import Pool
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from tests.jobs.monitoring.results import InlinePool, Result, class_result
from tests.memory_store import MemoryStore

AREA = Grid(crs="EPSG:32633", transform=(30, 0, 276480, 0, -30, 5591040), width=1024, height=512)
"""Two shards of 512 px side by side."""

RULES = CubeRules(aoi="lake", product="landwater", grid=AREA, shard_px=512, overlap="confident")


def scene(
    scene_id: str, moment: str | None, *, seed: int = 0, east_px: int = 400, side: int = 160, **changes: Any
) -> Result:
    """A class map of the area's upper part, `east_px` from its left edge: over both shards unless told otherwise."""
    rng = np.random.default_rng(seed)
    grid = Grid(crs=AREA.crs, transform=(30, 0, 276480 + 30 * east_px, 0, -30, 5591040 - 1500), width=side, height=side)
    classes = rng.integers(0, 2, grid.shape, dtype=np.uint8)
    confidence = rng.integers(125, 251, grid.shape, dtype=np.uint8)
    hole = rng.random(grid.shape) < 0.05
    classes[hole] = confidence[hole] = 255
    return class_result(scene_id, moment, grid, classes, confidence, **changes)


class Watched:
    """An OUT in memory, whose rasters lie in a folder.

    Args:
        folder: for the rasters.
        store: in place of one in memory.
    """

    def __init__(self, folder: Path, store: Any = None) -> None:
        ref = ObjectRef.parse(str(folder))
        self.store: Any = store or MemoryStore(ref)
        self.files = open_store(ref)

    def commit(self, *results: Result) -> None:
        for result in results:
            if isinstance(self.store, MemoryStore):
                result.commit(self.store, self.files)
            else:
                result.commit(self.store)

    def update(
        self, rules: CubeRules = RULES, *, store: Any = None, pool: Pool | None = None,
        members: Callable[[], Wanted] | None = None,
    ) -> CubeUpdate:  # fmt: skip
        """One update by one writer, over `store` if it is another view of this OUT."""
        over = store or self.store
        look = members or (lambda: wanted(over, rules.product, rules.grid, mask=rules.mask))
        return update_cube(over, pool or InlinePool(over), rules, look(), look)


def snapshot(store: Store, rules: CubeRules = RULES) -> dict[str, bytes]:
    """Every object of the current generation but its log, by name below it."""
    prefix = generation_prefix(rules.base, read_head(store, rules.base))
    return {
        head.key.removeprefix(f"{prefix}/"): store.get(head.key)
        for head in store.list(prefix)
        if not head.key.startswith(f"{prefix}/log/")
    }


def dates(update: CubeUpdate) -> list[str]:
    assert update.cube is not None
    return [step.date.isoformat() for step in update.cube.steps]


def current(store: Store, rules: CubeRules = RULES) -> str:
    """Prefix of the cube that readers follow."""
    return cube_prefix(rules.base, read_head(store, rules.base))
