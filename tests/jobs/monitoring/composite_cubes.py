"""Small cubes of maps and images, and composites brought up on them as the driver does it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.composites.composite import Composite, composites_of
from earthloom.jobs.monitoring.composites.rules import CompositeTable, parse_rule
from earthloom.jobs.monitoring.composites.stage import COMPOSITES
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.stage import Monitored
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store
from tests.jobs.monitoring.cubes import make_cube, make_grid
from tests.memory_store import MemoryStore

NAMES = ("land", "water", "snow")


DATES = ("2019-12-20", "2020-01-05", "2020-02-10", "2020-07-01", "2020-07-21")


FOLDER = "monitors/lake/landwater/0123456789abcdef"


GRID = make_grid(520, 530)


def stacks(n_dates: int = len(DATES), seed: int = 0, grid: Grid = GRID) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, len(NAMES), (n_dates, *grid.shape), dtype=np.uint8)
    confidence = rng.integers(80, 251, classes.shape, dtype=np.uint8)
    gaps = rng.random(classes.shape) < 0.4
    gaps[:, :40, :60] = True
    gaps[:, 512:, 512:] = True  # a whole shard without data
    classes[gaps] = confidence[gaps] = 255
    return classes, confidence


def class_cube(store: Store, generation: int = 1, dates: Sequence[str] = DATES, seed: int = 0, **options: Any) -> Cube:
    prefix = f"{FOLDER}/generations/{generation}/cube.zarr"
    return make_cube(store, prefix, GRID, 512, dates, *stacks(len(dates), seed), NAMES, **options)


def monitored(cube: Cube, *asked: tuple[str, str]) -> Monitored:
    tables = tuple(CompositeTable.model_validate({"every": every, "rule": rule}) for every, rule in asked)
    product = ProductTable(model=("landwater",), composites=tables)
    area = Area(
        name="lake", where="lake.toml", grid=cube.grid, shard_px=cube.shard_px, outline=None, products=(product,)
    )
    return Monitored(area=area, product=product, name="landwater", prefix=FOLDER, cube=cube)


def bring_up(store: Any, what: Monitored, *, limit: int = 10_000) -> list[str]:
    """As the driver does it; the keys of the tasks that were done, at most `limit` of them."""
    done: list[str] = []
    while tasks := COMPOSITES.plan(store, what):
        for task in tasks:
            if len(done) == limit:
                return done
            assert repr(pickle.loads(pickle.dumps(task))) == repr(task)  # a nodata of NaN is not itself
            task.do(store)
            done.append(task.key)
    COMPOSITES.finish(store, what)
    return done


def in_memory() -> Any:
    return MemoryStore(ObjectRef.parse("/nowhere"))


def one(cube: Cube, every: str, rule: str, period: str) -> Composite:
    made = composites_of(cube, FOLDER, aoi="lake", product="landwater", every=every, rule=parse_rule(rule))  # type: ignore[arg-type]
    return next(composite for composite in made if composite.period.name == period)
