"""A change as it is published: against numpy and rasterio over whole arrays, whatever the order, repetitions and faults."""

from __future__ import annotations

import datetime
import io
import json
import pickle
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from numpy.typing import NDArray

from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.change.map import Change
from earthloom.jobs.monitoring.change.polygons import find_changed, unite
from earthloom.jobs.monitoring.change.stage import CHANGE_STAGE
from earthloom.jobs.monitoring.change.tasks import CompareTask, PublishChangeTask, part_key, plan_change
from earthloom.jobs.monitoring.change.transitions import Sides, count_transitions, exact_areas_m2, transition_rows
from earthloom.jobs.monitoring.composites.maps import map_of_result, map_of_step
from earthloom.jobs.monitoring.cutting import part_name
from earthloom.jobs.monitoring.stage import Monitored
from earthloom.jobs.publish.files import committed_document
from earthloom.tiling.errors import ConfigError, StorageError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.window import Window
from tests.jobs.monitoring.cubes import make_cube, make_grid
from tests.jobs.products.stac_validate import validate
from tests.stores import Faulty

NAMES = ("land", "water", "snow ice")
FOLDER = "monitors/here/landwater/0123456789abcdef"
SIZE = (700, 1100)


def maps() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(2, h, w) classes and confidence: patches of 9 px, a river that moves over shards' borders, nodata in a corner."""
    rng = np.random.default_rng(5)
    height, width = SIZE
    patches = rng.choice(np.array([0, 1, 2, 255], np.uint8), (2, 78, 123), p=(0.7, 0.2, 0.05, 0.05))
    classes = np.kron(patches, np.ones((1, 9, 9), np.uint8))[:, :height, :width]
    classes[:, 300:560, 200:900] = 0
    classes[0, 480:505, 210:890] = 1
    classes[1, 505:530, 210:890] = 1
    classes[1, :100, :100] = 255
    confidence = np.where(classes == 255, 255, rng.integers(100, 251, classes.shape)).astype(np.uint8)
    return classes, confidence


def a_change(store: Store, shard_px: int = 512, least_m2: float = 9 * 900.0) -> Change:
    cube = make_cube(store, f"{FOLDER}/{shard_px}/cube.zarr", make_grid(*reversed(SIZE)), shard_px,
                     ["1985-07-01", "2020-08-01"], *maps(), NAMES)  # fmt: skip
    before, after = (map_of_step(cube, step) for step in (0, 1))
    return Change(folder=f"{FOLDER}/{shard_px}", aoi="here", product="landwater", before=before, after=after,
                  least_m2=least_m2)  # fmt: skip


def bring_up_to_date(store: Store, change: Change, seed: int = 0) -> int:
    """Do what is to be done, in any order and some of it twice, as workers may; the number of tasks."""
    n_tasks, order = 0, random.Random(seed)
    while tasks := list(plan_change(store, change)):
        n_tasks += len(tasks)
        tasks += order.sample(tasks, order.randrange(len(tasks) + 1))
        order.shuffle(tasks)
        for task in tasks:
            task.do(store)
    return n_tasks


def files(store: Store, change: Change) -> dict[str, bytes]:
    """What the result vouches for, and the result but for its write_id."""
    document = committed_document(store, change.prefix)
    assert document is not None
    found = {name: store.get(f"{change.prefix}/{name}") for name in document["files"]}
    return found | {"result.json": json.dumps({**document, "write_id": ""}, sort_keys=True).encode()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(ObjectRef.parse(str(tmp_path_factory.mktemp("out"))))


@pytest.fixture(scope="module")
def change(store: Store) -> Change:
    made = a_change(store)
    assert bring_up_to_date(store, made) <= 3 * 6 + 1, (
        "as for a usual map, with what labels need, with what polygons need"
    )
    return made


def whole() -> Sides:
    classes, confidence = maps()
    return Sides(
        before=classes[0], after=classes[1], before_confidence=confidence[0], after_confidence=confidence[1]
    )  # fmt: skip


def published(store: Store, change: Change, name: str) -> Path:
    return (store.ref / f"{change.prefix}/{name}").path


def test_the_matrix_is_that_of_the_whole_maps(store: Store, change: Change) -> None:
    grid = change.grid
    expected = transition_rows(
        count_transitions(whole(), exact_areas_m2(grid, grid.window), 3), change.before.classes
    )  # fmt: skip
    document = json.loads(store.get(f"{change.prefix}/transitions.json"))
    assert document["transitions"] == expected
    assert (document["from"]["name"], document["to"]["name"]) == ("1985-07-01", "2020-08-01")
    table = pd.read_parquet(io.BytesIO(store.get(f"{change.prefix}/transitions.parquet")))
    assert table["from"].tolist() == [row["before"] for row in expected]
    assert table["area_m2"].tolist() == [row["area_m2"] for row in expected]
    assert table["px"].sum() == SIZE[0] * SIZE[1]


def test_the_map_reads_land_to_water_in_every_legend(store: Store, change: Change) -> None:
    sides = whole()
    with rasterio.open(published(store, change, "landwater-change.tif")) as dataset:
        values, tags, colors = dataset.read(1), dataset.tags(1), dataset.colormap(1)
    classes = maps()[0].astype(int)
    moved = (classes[0] == 0) & (classes[1] == 1)
    assert set(np.unique(values[moved])) == {1}
    assert tags["CLASS_1"] == "land → water"
    assert tags["CLASS_0"] == "unchanged"
    assert colors[1][:3] == (0x3A, 0x75, 0x93)  # a quarter of #8c6d31, three of #1f78b4
    unknown = (sides.before == 255) | (sides.after == 255)
    assert (values[unknown] == 255).all()
    assert (values[~unknown & (sides.before == sides.after)] == 0).all()
    with rasterio.open(published(store, change, "landwater-change-confidence.tif")) as dataset:
        trust, scale = dataset.read(1), dataset.scales[0]
    both = sides.before_confidence[moved] * (sides.after_confidence[moved] / 250**2)
    np.testing.assert_allclose(trust[moved] * scale, both, atol=0.0021)
    item = json.loads(store.get(f"{change.prefix}/item.json"))
    validate(item)
    entry = next(one for one in item["assets"]["classes"]["classification:classes"] if one["value"] == 1)
    assert (entry["name"], entry["title"]) == ("land_to_water", "land → water")
    assert item["properties"]["start_datetime"] == "1985-07-01T00:00:00Z"
    assert {"transitions", "transitions-table", "changes"} <= set(item["assets"])
    zarr = json.loads(store.get(f"{change.prefix}/data.zarr/0/classes/zarr.json"))
    assert zarr["attributes"]["flag_meanings"].split()[:3] == ["unchanged", "land_to_water", "land_to_snow_ice"]
    assert "land → water" in published(store, change, "landwater-change.qml").read_text("utf-8")


def test_the_polygons_are_those_of_the_whole_map(store: Store, change: Change) -> None:
    table = gpd.read_parquet(published(store, change, "changes.parquet"))
    grid = change.grid
    pieces = unite([find_changed(whole(), grid, grid.window, change.least_m2).draw()], change.least_m2)
    assert len(table) == len(pieces)
    assert table["px"].tolist() == pieces.pixels.tolist()
    assert table["area_m2"].tolist() == np.round(pieces.areas_m2, 3).tolist()
    assert table["area_m2"].min() >= change.least_m2
    assert table.crs == grid.crs
    rivers = table[(table["px"] == 25 * 680)]
    assert set(zip(rivers["from"], rivers["to"], strict=True)) == {("water", "land"), ("land", "water")}
    assert all(len(river.exterior.coords) == 5 for river in rivers.geometry)  # over three shards, corners only


def test_nothing_is_done_twice(store: Store, change: Change) -> None:
    assert plan_change(store, change) == []
    assert committed_document(store, change.prefix) is not None
    assert not list(store.list(f"{change.prefix}/parts"))


def test_order_and_repetition_change_no_byte(tmp_path: Path, store: Store, change: Change) -> None:
    other = open_store(ObjectRef.parse(str(tmp_path)))
    again = a_change(other)
    bring_up_to_date(other, again, seed=7)
    assert files(other, again) == files(store, change)


def test_another_cut_gives_the_same_polygons_and_areas(tmp_path: Path, store: Store, change: Change) -> None:
    other = open_store(ObjectRef.parse(str(tmp_path)))
    coarse = a_change(other, shard_px=1024)
    assert bring_up_to_date(other, coarse) <= 3 * 2 + 1
    ours, theirs = files(other, coarse), files(store, change)
    for name in ("transitions.parquet", "changes.parquet"):
        assert ours[name] == theirs[name]


class Dying:
    """A store that dies at its n-th request, for good."""

    def __init__(self, inner: Store, n: int) -> None:
        self._faulty = Faulty(inner, {})
        self._faulty.before = self._count
        self.left = n

    def _count(self, _: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise StorageError("dead", transient=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._faulty, name)


def test_a_worker_may_die_at_any_request(tmp_path: Path) -> None:
    reference = open_store(ObjectRef.parse(str(tmp_path / "reference")))
    expected = a_small_change(reference)
    bring_up_to_date(reference, expected)
    n, died = 1, True
    while died:
        n += 13
        inner = open_store(ObjectRef.parse(str(tmp_path / str(n))))
        made = a_small_change(inner)
        dying: Any = Dying(inner, n)
        try:
            bring_up_to_date(dying, made)
            died = False
        except StorageError:
            bring_up_to_date(inner, made)
        assert files(inner, made) == files(reference, expected)
    assert n > 50


def a_small_change(store: Store) -> Change:
    classes, confidence = (values[:, 300:560, 250:790] for values in maps())
    cube = make_cube(store, f"{FOLDER}/cube.zarr", make_grid(540, 260), 512, ["1985-07-01", "2020-08-01"], classes,
                     confidence, NAMES)  # fmt: skip
    return Change(folder=FOLDER, aoi="here", product="landwater", before=map_of_step(cube, 0),
                  after=map_of_step(cube, 1), least_m2=100.0)  # fmt: skip


def test_tasks_travel_and_are_small(tmp_path: Path) -> None:
    store = open_store(ObjectRef.parse(str(tmp_path)))
    made = a_small_change(store)
    for task in (*plan_change(store, made), PublishChangeTask(change=made, parts_bytes=10)):
        data = pickle.dumps(task)
        assert pickle.loads(data) == task
        assert len(data) < 8000
        assert task.memory_bytes > 0


@pytest.mark.s3
def test_object_storage_holds_the_same_bytes(tmp_path: Path, s3_env: None) -> None:
    local, remote = (open_store(ObjectRef.parse(text)) for text in (str(tmp_path), "s3://outputs/change"))
    ours, theirs = a_small_change(local), a_small_change(remote)
    bring_up_to_date(local, ours)
    bring_up_to_date(remote, theirs)
    assert files(remote, theirs) == files(local, ours)
    assert not list(remote.list(f"{theirs.prefix}/parts"))


def test_a_lost_part_is_made_again(tmp_path: Path) -> None:
    store = open_store(ObjectRef.parse(str(tmp_path)))
    made = a_small_change(store)
    n_shards = len(plan_change(store, made))
    while isinstance((tasks := plan_change(store, made))[0], CompareTask):  # some ask for more memory first
        for task in tasks:
            task.do(store)
    parts = [head.key for head in store.list(f"{made.prefix}/parts") if not head.key.endswith(".need")]
    assert len(parts) == n_shards > 1
    store.delete(parts[0])
    (again,) = plan_change(store, made)
    assert isinstance(again, CompareTask)
    assert part_key(made, part_name(again.part, made.before.shard_px)) == parts[0]
    again.do(store)
    (last,) = plan_change(store, made)
    assert isinstance(last, PublishChangeTask)
    assert last.do(store)
    assert not last.do(store)


def test_a_published_map_of_changes_can_itself_be_read_as_a_map(store: Store, change: Change) -> None:
    document = committed_document(store, change.prefix)
    assert document is not None
    day = datetime.date(2020, 8, 1)
    found = map_of_result(store, change.prefix, document, name="change", start=day, end=day)
    assert found.grid == change.grid
    assert found.shard_px == 512
    assert [entry.name for entry in found.classes][1] == "land → water"
    window = change.grid.window
    classes, _ = found.read(store, window)
    with rasterio.open(published(store, change, "landwater-change.tif")) as dataset:
        assert (classes == dataset.read(1)).all()


def test_what_cannot_be_compared_is_refused(store: Store, change: Change) -> None:
    with pytest.raises(ConfigError, match="are the same map"):
        replace(change, after=change.before)
    with pytest.raises(ConfigError, match="2020-08-01 is not known to be earlier than 1985-07-01"):
        replace(change, before=change.after, after=change.before)
    with pytest.raises(ConfigError, match="other grids"):
        replace(change, after=replace(change.after, shard_px=1024))
    with pytest.raises(ConfigError, match="other classes"):
        replace(change, after=replace(change.after, classes=change.after.classes[:1]))


def test_keys_follow_what_can_change_a_byte(change: Change) -> None:
    others: Sequence[Change] = (
        replace(change, least_m2=1.0),
        replace(change, after=replace(change.after, made_of="others")),
        replace(change, folder="monitors/there/landwater/0"),
    )
    assert len({change.key, *(other.key for other in others)}) == 4
    assert replace(change, after=replace(change.after, sources=())).key == change.key


def test_a_shard_whose_changes_need_more_memory_than_planned_says_so_and_is_planned_with_that(tmp_path: Path) -> None:
    store = open_store(ObjectRef.parse(str(tmp_path)))
    change = replace(a_change(store), least_m2=0.0)
    planned: list[dict[Window, int]] = []
    while tasks := [task for task in plan_change(store, change) if isinstance(task, CompareTask)]:
        planned.append({task.part: task.memory_bytes for task in tasks})
        for task in tasks:
            task.do(store)
    assert len(planned) in (2, 3), "as usual, perhaps with what labels need, and with what polygons need"
    for part in planned[-1]:
        assert planned[-1][part] > planned[0][part]
    bring_up_to_date(store, change)
    assert committed_document(store, change.prefix) is not None


def test_one_change_with_two_smallest_polygons_is_two_current_results(tmp_path: Path) -> None:
    store = open_store(ObjectRef.parse(str(tmp_path)))
    classes, confidence = (values[:, 450:550, 200:300] for values in maps())
    cube = make_cube(store, f"{FOLDER}/generations/1/cube.zarr", make_grid(100, 100), 512,
                     ["1985-07-01", "2020-08-01"], classes, confidence, NAMES)  # fmt: skip
    asked = [{"from": "1985", "to": "2020", "min_area_m2": least} for least in (0, 50_000, 0)]
    product = ProductTable.model_validate({"model": "landwater", "change": asked})
    area = Area(name="here", where="", grid=cube.grid, shard_px=512, outline=None, products=(product,))
    of = Monitored(area=area, product=product, name="landwater", prefix=FOLDER, cube=cube)
    while tasks := CHANGE_STAGE.plan(store, of):
        for task in tasks:
            task.do(store)
    made = CHANGE_STAGE.finish(store, of)
    assert sorted(made) == ["1985--2020", "1985--2020, 50000 m2"]
    assert json.loads(store.get(f"{FOLDER}/change/head.json"))["changes"] == made
    least = [json.loads(store.get(f"{made[name]['prefix']}/transitions.json"))["min_area_m2"] for name in sorted(made)]
    assert least == [0, 50_000]
