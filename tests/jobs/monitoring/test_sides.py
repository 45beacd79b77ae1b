"""What is taken for a date or a period."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from earthloom.jobs.monitoring.change.sides import find_map
from earthloom.jobs.monitoring.composites.composite import composites_of
from earthloom.jobs.monitoring.composites.maps import map_of_step
from earthloom.jobs.monitoring.composites.rules import CompositeTable, parse_rule
from earthloom.jobs.monitoring.composites.stage import write_head
from earthloom.jobs.monitoring.composites.tasks import ReduceTask
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.publishing import plan_derived
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.store import Store
from tests.jobs.monitoring.cubes import make_cube, make_grid

FOLDER = "monitors/lake/landwater/0123456789abcdef"
DATES = ("2019-07-01", "2020-03-01", "2020-06-20", "2020-11-05", "2021-01-01")


@pytest.fixture
def cube(store: Store) -> Cube:
    rng = np.random.default_rng(2)
    classes = rng.integers(0, 2, (len(DATES), 60, 70), dtype=np.uint8)
    confidence = rng.integers(120, 250, classes.shape, dtype=np.uint8)
    prefix = f"{FOLDER}/generations/1/cube.zarr"
    return make_cube(store, prefix, make_grid(70, 60), 512, DATES, classes, confidence, ["land", "water"])


def publish(store: Store, cube: Cube, rule: str) -> None:
    made = composites_of(cube, FOLDER, aoi="lake", product="landwater", every="year", rule=parse_rule(rule))
    for composite in made:
        while tasks := plan_derived(store, composite, partial(ReduceTask, composite=composite)):
            for task in tasks:
                task.do(store)
    write_head(store, CompositeTable(every="year", rule=rule), cube, made, made)


def test_a_date_is_its_step_and_a_period_the_date_nearest_to_its_middle(store: Store, cube: Cube) -> None:
    day = find_map(store, FOLDER, cube, "2020-03-01")
    assert (day.map.step, day.map.name, day.note) == (1, "2020-03-01", "2020-03-01: date")
    year = find_map(store, FOLDER, cube, "2020")
    assert (year.map.step, year.map.name, str(year.map.start)) == (2, "2020", "2020-01-01")
    assert year.note == "2020: 2020-06-20, the nearest of 3 dates to its middle; no composite"
    assert find_map(store, FOLDER, cube, "2019").note == "2019: 2019-07-01"
    assert find_map(store, FOLDER, cube, "2020-SON").map.step == 3
    assert year.map.made_of == map_of_step(cube, 2).made_of  # another name for the same pixels


def test_a_period_is_its_composite_where_there_is_one(store: Store, cube: Cube) -> None:
    publish(store, cube, "best")
    best = find_map(store, FOLDER, cube, "2020")
    assert best.note == "2020: composite of 3 dates, best"
    assert best.map.trust == "probability of the class"
    publish(store, cube, "mode")
    year = find_map(store, FOLDER, cube, "2020")
    assert year.note == "2020: composite of 3 dates, mode"
    assert year.map.trust == "share of the clear observations that are of the class"
    window = cube.grid.window
    classes, _ = year.map.read(store, window)
    votes = cube.read(store, "classes", window, [1, 2, 3]).sum(axis=0)
    assert np.array_equal(classes, votes >= 2)
    assert year.map.grid == cube.grid
    assert year.map.classes == cube.classes


def test_a_composite_that_a_later_date_has_left_behind_is_not_taken(store: Store, cube: Cube) -> None:
    earlier = replace(cube, steps=cube.steps[:3])
    publish(store, earlier, "mode")
    year = find_map(store, FOLDER, cube, "2020")
    assert year.map.step == 2
    assert year.note == (
        "2020: 2020-06-20, the nearest of 3 dates to its middle; no composite of them: that by mode is of 2, or of other scenes"
    )
    publish(store, cube, "best")
    assert find_map(store, FOLDER, cube, "2020").note == "2020: composite of 3 dates, best"
    again = replace(cube.steps[1], scenes=("scenes/lake/delivered-again",))
    delivered_again = replace(cube, steps=(cube.steps[0], again, *cube.steps[2:]))
    assert "or of other scenes" in find_map(store, FOLDER, delivered_again, "2020").note


def test_a_composite_of_one_date_is_that_date_with_the_models_confidence(store: Store, cube: Cube) -> None:
    publish(store, cube, "mode")
    year = find_map(store, FOLDER, cube, "2019")
    assert (year.map.name, year.map.step, year.map.trust) == ("2019", 0, "probability of the class")
    window = cube.grid.window
    assert np.array_equal(year.map.read(store, window)[1], cube.read(store, "confidence", window, [0])[0])


def test_what_is_not_there_is_told_with_what_is(store: Store, cube: Cube) -> None:
    with pytest.raises(ConfigError, match=r"no date in 2018 \(2018-01-01 to 2018-12-31\); there are 2019-07-01, 2020"):
        find_map(store, FOLDER, cube, "2018")
    with pytest.raises(ConfigError, match="no date in 2020-07-02"):
        find_map(store, FOLDER, cube, "2020-07-02")
    with pytest.raises(ConfigError, match="is not the name of a period"):
        find_map(store, FOLDER, cube, "summer")
