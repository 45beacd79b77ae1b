"""Composites that are brought up to date again, after a kill too, in little memory."""

from __future__ import annotations

import datetime
import io
import itertools
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from earthloom.jobs.command.monitoring import _told
from earthloom.jobs.monitoring.aoi_file import BeforeTable
from earthloom.jobs.monitoring.composites.stage import COMPOSITES, read_head
from earthloom.jobs.monitoring.composites.tasks import ReduceTask
from earthloom.jobs.monitoring.cube.marks import step_prefix, sum_document
from earthloom.jobs.monitoring.cube.stac import cube_item
from earthloom.jobs.monitoring.linking import area_hrefs, enter
from earthloom.jobs.monitoring.pairs import earlier_items
from earthloom.jobs.monitoring.publishing import PublishTask
from earthloom.jobs.monitoring.series.stage import SERIES_STAGE
from earthloom.jobs.products.statistics import Counted
from earthloom.tiling.counting import Tally
from earthloom.tiling.errors import ConfigError, PublishError, StorageError
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.composite_cubes import DATES, FOLDER, bring_up, class_cube, in_memory, monitored, one
from tests.jobs.monitoring.cubes import make_grid, make_layers
from tests.jobs.products.stac_validate import validate

Files = dict[str, bytes]


def contents(store: Any, prefix: str = "") -> Files:
    """All that is deterministic: `result.json` without its write id."""
    found = {head.key: store.get(head.key) for head in store.list(prefix)}
    for name, data in found.items():
        if name.endswith("result.json"):
            found[name] = json.dumps(json.loads(data) | {"write_id": ""}).encode()
    return found


def test_the_same_command_again_does_nothing_and_a_new_step_makes_its_period_alone() -> None:
    store, asked = in_memory(), (("season", "mode"), ("year", "best"))
    bring_up(store, monitored(class_cube(store), *asked))
    before = contents(store)
    assert bring_up(store, monitored(class_cube(store), *asked)) == []
    assert contents(store) == before
    done = bring_up(store, monitored(class_cube(store, dates=(*DATES, "2020-08-30")), *asked))
    assert {tuple(key.split("/")[5:7]) for key in done} == {("mode-season", "2020-JJA"), ("best-year", "2020")}
    changed = {name for name, data in contents(store).items() if before.get(name, data) != data}
    assert {name for name in changed if "/composites/" in name} == {
        f"{FOLDER}/composites/{shelf}/head.json" for shelf in ("mode-season", "best-year")
    }, "what was published stays as it was"
    head = read_head(store, f"{FOLDER}/composites/mode-season")
    assert head is not None
    assert head["periods"]["2020-JJA"]["dates"] == ["2020-07-01", "2020-07-21", "2020-08-30"]
    assert f"{head['periods']['2020-DJF']['prefix']}/result.json" in before
    collection = json.loads(store.get("monitors/lake/collection.json"))
    linked = {link["href"] for link in collection["links"] if link["rel"] == "item"}
    current = [entry["prefix"] for entry in head["periods"].values()]
    assert {href for href in linked if "/mode-season/" in href} == {
        f"./{prefix.removeprefix('monitors/lake/')}/item.json" for prefix in current
    }, "what is no longer current is not linked"
    validate(collection)


def test_composites_that_are_not_asked_for_any_more_are_not_linked() -> None:
    store, cube = in_memory(), None
    for asked in ((("season", "mode"), ("year", "best")), (("year", "best"),), ()):
        cube = cube or class_cube(store)
        enter(store, "lake", FOLDER, cube_item(cube, aoi="lake", product="landwater", key="k", rules={"until": None},
                                               generation=1))  # fmt: skip
        bring_up(store, monitored(cube, *asked))
        linked = [href for href in area_hrefs(store, "lake") if "/composites/" in href]
        assert {href.split("/")[4] for href in linked} == {f"{rule}-{every}" for every, rule in asked}
    assert len(area_hrefs(store, "lake")) == 1, "the cube"


def test_a_late_writer_does_not_turn_the_head_back() -> None:
    store = in_memory()
    older = class_cube(store)
    newer = class_cube(store, 2, dates=DATES[1:])
    bring_up(store, monitored(newer, ("year", "mode")))
    head = read_head(store, f"{FOLDER}/composites/mode-year")
    bring_up(store, monitored(older, ("year", "mode")))
    assert read_head(store, f"{FOLDER}/composites/mode-year") == head
    assert head is not None
    assert list(head["periods"]) == ["2020"]


@pytest.mark.parametrize("limit", [1, 5, 7])
def test_a_kill_between_tasks_costs_only_what_was_not_done(limit: int) -> None:
    whole, broken = in_memory(), in_memory()
    every = bring_up(whole, monitored(class_cube(whole), ("season", "mode")))
    what = monitored(class_cube(broken), ("season", "mode"))
    first = bring_up(broken, what, limit=limit)
    rest = bring_up(broken, what)
    assert sorted(first + rest) == sorted(every)
    assert contents(whole) == contents(broken)


class Dying:
    """A store whose process is killed at its nth write."""

    def __init__(self, inner: Any, at: int) -> None:
        self._inner, self.left = inner, itertools.count(at, -1)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in ("put", "create", "replace", "upload"):
            return method

        def write(*arguments: Any) -> Any:
            if next(self.left) <= 0:
                raise StorageError("killed")
            return method(*arguments)

        return write


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.8, 0.95])
def test_a_kill_at_any_write_leaves_nothing_that_is_believed(share: float) -> None:
    whole, broken = in_memory(), in_memory()
    counting = Dying(whole, 10**6)
    every = bring_up(counting, monitored(class_cube(whole, dates=DATES[3:]), ("month", "mode")))
    at = int(share * (10**6 - next(counting.left) - 1))
    what = monitored(class_cube(broken, dates=DATES[3:]), ("month", "mode"))
    with pytest.raises(StorageError, match="killed"):
        bring_up(Dying(broken, at), what)
    if share < 0.9:
        assert not [head.key for head in broken.list() if "collection" in head.key], "no reader is led to it"
    rest = bring_up(broken, what)
    assert set(rest) <= set(every)
    assert contents(whole) == contents(broken)


def test_a_shard_that_is_lost_before_publishing_is_made_again(store: Store, tmp_path: Path) -> None:
    what = monitored(class_cube(store), ("year", "mode"))
    bring_up(store, what, limit=4)
    (lost, *_) = sorted(tmp_path.glob(f"{FOLDER}/composites/mode-year/2019/*/data.zarr/0/classes/c/0/0"))
    composite = one(what.cube, "year", "mode", "2019")
    lost.unlink()
    with pytest.raises(PublishError, match="1 of 4 shards are not done, the first is 0_0"):
        PublishTask(made=composite).do(store)
    again = COMPOSITES.plan(store, what)
    assert f"{composite.prefix}/0_0" in {task.key for task in again}
    bring_up(store, what)
    assert lost.exists()


@pytest.mark.parametrize("rule", ["mode", "best"])
def test_windows_and_repetition_change_no_byte(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    found = []
    for stack_bytes, n_windows in ((2**30, 1), (1, 16)):
        monkeypatch.setattr("earthloom.jobs.monitoring.cutting._STACK_BYTES", stack_bytes)
        store = in_memory()
        composite = one(class_cube(store), "year", rule, "2020")
        tasks = [ReduceTask(composite=composite, part=part) for _, _, part in composite.cube.shards()]
        assert len(list(tasks[0].windows())) == n_windows
        for task in reversed(tasks + tasks[:2]):
            task.do(store)
        PublishTask(made=composite).do(store)
        assert not PublishTask(made=composite).do(store), "another one has committed it"
        found.append(contents(store))
    assert found[0] == found[1]


@pytest.mark.parametrize(("dtype", "n_bands", "n_dates"), [("uint16", 3, 8), ("float32", 2, 5)])
def test_a_task_takes_no_more_memory_than_it_says(store: Store, dtype: str, n_bands: int, n_dates: int) -> None:
    rng = np.random.default_rng(5)
    grid = make_grid(1024, 1024)
    days = [str(datetime.date(2020, 1, 1) + datetime.timedelta(days=20 * n)) for n in range(n_dates)]
    values = {f"b{n}": rng.integers(1, 5000, (n_dates, *grid.shape)).astype(dtype) for n in range(n_bands)}
    for pixels in values.values():
        pixels[rng.random(pixels.shape) < 0.4] = 0
    layers = [Layer(name=name, dtype=dtype, nodata=0) for name in values]
    cube = make_layers(store, f"{FOLDER}/generations/1/cube.zarr", grid, 1024, days, values, layers)
    del values
    composite = one(cube, "year", "median", "2020")
    task = ReduceTask(composite=composite, part=cube.grid.window)
    tracemalloc.start()
    task.do(store)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * task.memory_bytes < peak <= task.memory_bytes


def test_series_and_pairs_do_not_take_a_composite_that_a_later_delivery_of_a_scene_has_outdated() -> None:
    store, asked = in_memory(), (("year", "mode"), ("season", "best"))
    cube = class_cube(store)
    for number, step in enumerate(cube.steps):
        store.put(f"{step_prefix(FOLDER + '/generations/1', number)}.json", sum_document(step, Counted(tally=NOTHING)))
    what = monitored(cube, *asked)
    bring_up(store, what)
    before = BeforeTable(product="landwater", every="year", rule="mode")
    items = earlier_items(store, before, {"landwater": (FOLDER, cube)})
    assert [item.split("/")[-3] for item in items] == ["2019", "2020"]
    assert SERIES_STAGE.finish(store, what)["left_out"] == []
    assert cadences(store) == {"date": 5, "year": 2, "season": 2}

    again = replace(cube.steps[1], scenes=("scenes/20200105/delivered-again",))
    later = replace(cube, steps=(cube.steps[0], again, *cube.steps[2:]))
    said = SERIES_STAGE.finish(store, replace(what, cube=later))
    assert said == {"dates": 5, "written": True, "left_out": ["2020", "2020-DJF"]}
    assert cadences(store) == {"date": 5, "year": 1, "season": 1}
    told = [text for text, _ in _told("series", said, FOLDER)]
    assert told == ["series of 5 dates without the composites of 2020, 2020-DJF, which are outdated or missing"]
    with pytest.raises(ConfigError, match=r"^before: 2020: landwater has no composite \(mode, year\) of the"):
        earlier_items(store, before, {"landwater": (FOLDER, later)})

    bring_up(store, replace(what, cube=later))
    assert len(earlier_items(store, before, {"landwater": (FOLDER, later)})) == 2
    assert SERIES_STAGE.finish(store, replace(what, cube=later))["left_out"] == []
    assert cadences(store) == {"date": 5, "year": 2, "season": 2}


def test_pairs_are_not_compared_with_a_year_further_back_where_one_has_no_composite() -> None:
    store = in_memory()
    cube = class_cube(store)
    bring_up(store, monitored(replace(cube, steps=cube.steps[:1]), ("year", "best")))
    with pytest.raises(ConfigError, match="before: 2020: landwater has no composite"):
        earlier_items(store, BeforeTable(product="landwater"), {"landwater": (FOLDER, cube)})


NOTHING = Tally(pixels=(0, 0, 0), areas_m2=(0.0, 0.0, 0.0), confidence_sums=(0, 0, 0), nodata=520 * 530)


def cadences(store: Any) -> dict[str, int]:
    """Moments of the published series by their cadence."""
    table = pd.read_csv(io.BytesIO(store.get(f"{FOLDER}/series.csv")))
    return {str(cadence): rows["period"].nunique() for cadence, rows in table.groupby("cadence")}
