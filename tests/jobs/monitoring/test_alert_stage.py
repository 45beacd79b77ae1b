"""Alerts of real cubes, through the stage that `earthloom monitor` asks: scenes in any order, two drivers, monitors' flags."""

from __future__ import annotations

import datetime
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from earthloom.jobs.monitoring.alerts.head import read_head
from earthloom.jobs.monitoring.alerts.history import AlertSet
from earthloom.jobs.monitoring.alerts.pixels import AFTER, BEFORE, NOTHING, observe_flags
from earthloom.jobs.monitoring.alerts.rule import AlertTable, change_of
from earthloom.jobs.monitoring.alerts.stage import ALERTS, alerts_of, plan_alerts
from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.cube.cube import ClassInfo, Cube, open_cube
from earthloom.jobs.monitoring.stage import Monitored
from earthloom.jobs.monitoring.trends.detectors.cusum import cusum
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from earthloom.tiling.errors import ConfigError, StorageError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring import alert_cubes
from tests.jobs.monitoring.alert_cubes import cube_of, published
from tests.jobs.monitoring.cubes import make_grid, make_layers
from tests.jobs.monitoring.results import Result
from tests.jobs.monitoring.test_alert_updates import a_world, at_once, everything
from tests.jobs.monitoring.watched import RULES, Watched, current, scene
from tests.memory_store import MemoryStore
from tests.threads import side_by_side

TO_WATER: dict[str, Any] = {"name": "to-water", "from": "land", "to": "water", "confirmations": 1, "min_area_m2": 3000}


def monitored(cube: Cube, prefix: str, *alerts: dict[str, Any], monitor: tuple[dict[str, Any], ...] = ()) -> Monitored:
    product = ProductTable.model_validate({"model": "landwater", "alert": list(alerts), "monitor": list(monitor)})
    area = Area(
        name="lake", where="lake.toml", grid=cube.grid, shard_px=cube.shard_px, outline=None, products=(product,)
    )  # fmt: skip
    return Monitored(area=area, product=product, name="landwater", prefix=prefix, cube=cube)


def bring_up_to_date(store: Any, of: Monitored) -> Any:
    """As the driver does."""
    while tasks := ALERTS.plan(store, of):
        for task in tasks:
            task.do(store)
    return ALERTS.finish(store, of)


def scenes() -> list[Result]:
    """Five dates, one of them of two scenes, and one that is mapped again by a newer model."""
    days = ("2020-01-05", "2020-02-05", "2020-03-05", "2020-04-05", "2020-05-05")
    made = [scene(f"d{n}", f"{day}T10:00:00Z", seed=n, east_px=490, side=48) for n, day in enumerate(days)]
    made.append(scene("d1b", f"{days[1]}T10:20:00Z", seed=20, east_px=470, side=48))
    made.append(scene("d2", f"{days[2]}T10:00:00Z", seed=30, east_px=490, side=48, version="2.0.0"))
    return made


def watch(watched: Watched) -> Monitored:
    watched.update()
    cube = open_cube(watched.store, current(watched.store))
    return monitored(cube, RULES.base, TO_WATER)


def seen_by_readers(watched: Watched, of: Monitored) -> dict[str, dict[str, bytes]]:
    return {alerts.rule.name: published(watched.store, alerts) for alerts, _ in alerts_of(of)}


@pytest.mark.parametrize("seed", range(2))
def test_scenes_in_any_order_some_twice_and_updates_between_give_the_same_alerts(tmp_path: Path, seed: int) -> None:
    dice, all_scenes = random.Random(seed), scenes()
    once = Watched(tmp_path / "once")
    for result in all_scenes:
        once.commit(result)
    whole = watch(once)
    summary = bring_up_to_date(once.store, whole)
    assert summary["to-water"]["dates"] == 5
    assert sum(entry["count"] for entry in summary["to-water"]["alerts"].values()) > 10
    wanted = seen_by_readers(once, whole)

    many = Watched(tmp_path / "many")
    arrivals = dice.sample(all_scenes[:-1], len(all_scenes) - 1)
    arrivals.insert(arrivals.index(all_scenes[2]) + dice.randint(1, 2), all_scenes[-1])  # the newer after the older
    arrivals.insert(dice.randint(1, len(arrivals)), arrivals[0])
    for number, result in enumerate(arrivals):
        many.commit(result)
        if dice.random() < 0.5 or number == len(arrivals) - 1:
            bring_up_to_date(many.store, watch(many))
    assert seen_by_readers(many, watch(many)) == wanted
    assert not ALERTS.plan(many.store, watch(many)), "again: nothing is to be done"


def test_what_was_known_then_is_what_is_known_now_of_then(tmp_path: Path) -> None:
    """Partitions and ids do not depend on later dates, so a run with `--until` has those of the whole run."""
    some, whole = Watched(tmp_path / "some"), Watched(tmp_path / "whole")
    for result in scenes():
        whole.commit(result)
        if not result.prefix.startswith("scenes/d4"):
            some.commit(result)
    then, now = watch(some), watch(whole)
    bring_up_to_date(some.store, then)
    bring_up_to_date(whole.store, now)
    for name, files in seen_by_readers(some, then).items():
        updates = {key: data for key, data in files.items() if key[:4] == "2020"}
        assert len(updates) == 4
        assert updates.items() < seen_by_readers(whole, now)[name].items()


def alert_set(*known: int, generation: int = 1) -> AlertSet:
    return alert_cubes.alerts_of(cube_of(a_world(), 8, known, generation), a_world().rule)


def test_a_slow_driver_with_an_older_cube_takes_nothing_back() -> None:
    store, older, newer = MemoryStore(), alert_set(0, 1, 2), alert_set(0, 1, 2, 3, 4)
    alert_cubes.update(store, alert_set(0, 1))
    shards = plan_alerts(store, older)
    for task in shards:
        task.do(store)
    late = [*shards, *plan_alerts(store, older)]
    alert_cubes.update(store, newer)
    wanted = published(store, newer)
    for task in late:  # what it does with state that is gone ends well, since another has come further
        task.do(store)
    assert not plan_alerts(store, older)
    alert_cubes.update(store, older)
    assert published(store, newer) == wanted == at_once(a_world(), 8)


def test_a_driver_with_an_older_generation_takes_nothing_back() -> None:
    store, older = MemoryStore(), alert_set(0, 2, 3, generation=1)
    alert_cubes.update(store, alert_set(0, 2, generation=1))
    late = plan_alerts(store, older)
    alert_cubes.update(store, alert_set(0, 1, 2, 3, 4, generation=2))
    for task in late:
        task.do(store)
    alert_cubes.update(store, older)
    head = read_head(store, everything().places())
    assert head is not None
    assert (head.generation, len(head.updates)) == (2, 5)
    assert published(store, everything()) == at_once(a_world(), 8)


def test_state_that_is_gone_while_nobody_has_come_further_is_an_error_with_the_remedy() -> None:
    store, of = MemoryStore(), alert_set(0, 1, 2)
    alert_cubes.update(store, alert_set(0, 1))
    tasks = plan_alerts(store, of)
    store.delete_all(f"{of.places().folder}/state")
    for task in tasks:
        with pytest.raises(StorageError, match="run again"):
            task.do(store)
    alert_cubes.update(store, of)
    assert len(published(store, of)) == 4 + 3


def test_several_drivers_at_once_make_one_result() -> None:
    store = MemoryStore()
    orders = [(0, 1, 2), (0, 1, 2, 3, 4), (0, 1, 2, 3), (0, 1, 2, 3, 4)]

    def drive(known: tuple[int, ...]) -> None:
        for _ in range(5):
            try:
                return alert_cubes.update(store, alert_set(*known))
            except StorageError:  # its state was cleaned up: run again, as it says
                continue
        return None

    side_by_side(drive, orders)
    assert published(store, everything_of_one_generation()) == at_once(a_world(), 8)


def everything_of_one_generation() -> AlertSet:
    return alert_set(*range(5))


def test_old_state_and_views_go_and_what_others_may_still_need_stays() -> None:
    store = MemoryStore()
    for n in range(1, 6):
        alert_cubes.update(store, alert_set(*range(n)))
    places = alert_set(*range(5)).places()
    folders = {
        kind: {entry.key.split("/")[-2] for entry in store.list(f"{places.folder}/{kind}")}
        for kind in ("state", "views")
    }
    assert folders == {"state": set(places.names[3:]), "views": set(places.names[3:])}
    updates = {entry.key.rpartition("/")[2] for entry in store.list(f"{places.folder}/updates/1")}
    assert updates == {f"{name}.parquet" for name in places.names}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "to-water", "from": "land"}, "needs classes 'from' and 'to', or the name of a 'monitor'"),
        ({"name": "x", "from": "land", "to": "water", "monitor": "ndvi"}, "or of a 'monitor', not of both"),
        ({"name": "x", "from": "land", "to": "water", "direction": "fall"}, "of the flags of a 'monitor'"),
        ({"name": "To Water", "from": "land", "to": "water"}, "name"),
        ({"name": "x", "from": "land", "to": "water", "confirmation": 2}, "confirmation"),
        ({"name": "x", "from": "land", "to": "water", "confirmations": 0}, "confirmations"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlertTable.model_validate(values)


CLASSES = tuple(ClassInfo(value=n, name=name, color="#000000") for n, name in enumerate(("land", "water", "cloud")))


def test_class_names_become_values() -> None:
    table = AlertTable.model_validate({"name": "x", "from": ["land"], "to": "water", "ignore": "cloud"})
    change = change_of(table, CLASSES)
    assert (change.before, change.after, change.ignore) == ((0,), (1,), (2,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": "sea"}, "to names the class 'sea'; the product has land, water, cloud"),
        ({"to": "land"}, "'land' stands in from and in to"),
        ({"ignore": "water"}, "'water' stands in to and in ignore"),
    ],
)
def test_class_names_that_do_not_fit_the_product_are_refused(changes: dict[str, Any], message: str) -> None:
    table = AlertTable.model_validate({"name": "x", "from": "land", "to": "water"} | changes)
    with pytest.raises(ConfigError, match=message):
        change_of(table, CLASSES)


def test_two_alerts_of_one_name_are_refused(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.commit(scenes()[0])
    of = watch(watched)
    with pytest.raises(ConfigError, match="two alerts called to-water"):
        alerts_of(monitored(of.cube, of.prefix, TO_WATER, TO_WATER))


# ---- flags of monitors ----------------------------------------------------------------------------------------------

START = datetime.date(2018, 1, 1)
DATES = [datetime.date(2016, 1, 1) + datetime.timedelta(days=32 * n) for n in range(36)]
NDVI = Layer(name="ndvi", dtype="int16", nodata=-32768, attributes={"long_name": "NDVI", "scale_factor": 1e-4})
FOLDER = "monitors/here/ndvi/0123456789abcdef"
BFAST = {"method": "bfast-monitor", "layer": "ndvi", "start": START, "order": 1, "trend": False, "history": "all"}
EWMACD = {"method": "ewmacd", "layer": "ndvi", "start": START, "order": 1, "control_limit": 5.0, "name": "chart"}
CUSUM = {"method": "cusum", "layer": "ndvi", "order": 1, "level": 0.01, "name": "shift"}
SHIFTS: dict[str, Any] = {"name": "shifts", "monitor": "shift", "direction": "fall", "min_area_m2": 20_000}
FALLS: dict[str, Any] = {"name": "falls", "monitor": "ndvi-bfast-monitor", "direction": "fall", "min_area_m2": 20_000}
MOVES: dict[str, Any] = {"name": "moves", "monitor": "chart", "confirmations": 3, "min_area_m2": 20_000}


def seasons() -> NDArray[np.int16]:
    """(36, 40, 560): a season; a square over the border of two shards falls after the 28th date; a sixth is cloud."""
    draw = np.random.default_rng(3)
    phase = np.array([date.timetuple().tm_yday / 365 for date in DATES])
    values = 6000 + 1500 * np.sin(2 * np.pi * phase)[:, None, None] + draw.normal(0, 150, (len(DATES), 40, 560))
    values[28:, 10:30, 500:530] -= 1500
    values[draw.random(values.shape) < 1 / 6] = -32768
    return np.round(values).astype(np.int16)


def ndvi_cube(store: Store, n_dates: int) -> Cube:
    prefix = f"{FOLDER}/generations/1/cube.zarr"
    return make_layers(store, prefix, make_grid(560, 40), 512, DATES[:n_dates], {"ndvi": seasons()[:n_dates]}, [NDVI])


def watched_index(store: Store, n_dates: int) -> Monitored:
    return monitored(ndvi_cube(store, n_dates), FOLDER, FALLS, MOVES, SHIFTS, monitor=(BFAST, EWMACD, CUSUM))


def test_flags_of_monitors_become_alerts_and_later_dates_change_none_of_the_past() -> None:
    at_once, by_date = MemoryStore(), MemoryStore()
    whole = watched_index(at_once, len(DATES))
    summary = bring_up_to_date(at_once, whole)
    assert "waits_for" in bring_up_to_date(by_date, watched_index(by_date, 12))["falls"]
    for n_dates in (24, 29, 30, len(DATES)):
        bring_up_to_date(by_date, watched_index(by_date, n_dates))
    for (alerts, _), (same, _) in zip(alerts_of(whole), alerts_of(watched_index(by_date, len(DATES))), strict=True):
        assert published(by_date, same) == published(at_once, alerts)
        found = summary[alerts.rule.name]["alerts"]["confirmed"]
        assert found["count"] == 1
        assert found["area_m2"] == pytest.approx(20 * 30 * 900, rel=0.05)


def test_flags_say_before_after_and_nothing_on_each_date() -> None:
    store = MemoryStore()
    of = watched_index(store, len(DATES))
    (falls, _), *_ = alerts_of(of)
    window = of.cube.grid.window
    seen = [entry.seen for entry in falls.evidence.observe(store, of.cube, window, range(len(DATES)))]
    assert (np.stack(seen[:23]) == NOTHING).all(), "before the monitor begins"
    clouded = seasons() == NDVI.nodata
    assert (np.stack(seen)[clouded] == NOTHING).all()
    assert (seen[25][~clouded[25]] == BEFORE).mean() > 0.97
    assert (seen[35][10:30, 500:530][~clouded[35][10:30, 500:530]] == AFTER).mean() > 0.97
    assert falls.evidence.memory_bytes(window, 5) > window.size_px * 5


def test_cusum_is_asked_anew_for_each_date_of_the_dates_up_to_it() -> None:
    store = MemoryStore()
    of = watched_index(store, len(DATES))
    shifts, window = alerts_of(of)[2][0], of.cube.grid.window
    seen = [entry.seen for entry in shifts.evidence.observe(store, of.cube, window, range(len(DATES)))]
    stored = seasons()
    values = np.where(stored == NDVI.nodata, np.nan, stored.astype(np.float32) * np.float32(1e-4))
    for step in (20, 29, 31, 35):
        known = cusum(values[: step + 1].reshape(step + 1, -1), decimal_years(DATES[: step + 1]), order=1, level=0.01)
        wanted = observe_flags(known.flags[-1].reshape(window.shape), "fall").seen
        np.testing.assert_array_equal(seen[step], wanted)
    again = list(shifts.evidence.observe(store, of.cube, window, [29]))
    np.testing.assert_array_equal(again[0].seen, seen[29], "the date alone says the same as among the others")


@pytest.mark.parametrize(
    ("alert", "monitor", "message"),
    [
        ({"monitor": "evi"}, BFAST, "there is no monitor 'evi'; landwater has ndvi-bfast-monitor"),
        (
            {"monitor": "trend"},
            {"method": "mann-kendall", "name": "trend"},
            "alerts follow bfast-monitor, ewmacd, cusum",
        ),
    ],
)
def test_monitors_that_alerts_cannot_follow_are_refused(alert: dict[str, Any], monitor: Any, message: str) -> None:
    of = monitored(ndvi_cube(MemoryStore(), 30), FOLDER, {"name": "x", **alert}, monitor=(monitor,))
    with pytest.raises(ConfigError, match=message):
        alerts_of(of)


def test_areas_that_share_pixels_share_ids() -> None:
    cube, rule = cube_of(a_world(), 8, range(5)), a_world().rule
    a, b, c, d, e, f = cube.grid.transform

    def name(rows: int, cols: int, crs: str = cube.grid.crs) -> str:
        """Of an alert that begins at pixel (20, 30) of the cube's grid, in a grid that begins so much before it."""
        grid = Grid(crs=crs, transform=(a, b, c - cols * a, d, e, f - rows * e), width=50, height=50)
        return alert_cubes.alerts_of(replace(cube, grid=grid), rule).naming.id(100, 20 + rows, 30 + cols)

    assert name(0, 0) == name(3, 7)
    assert name(0, 0) != name(0, 0, crs="EPSG:32719")


@pytest.mark.s3
def test_a_bucket_and_a_folder_hold_the_same_bytes(tmp_path: Path, s3_env: None) -> None:
    for text in ("s3://outputs/test-alerts", str(tmp_path)):
        store = open_store(ObjectRef.parse(text))
        for known, generation in (([0, 2], 1), (range(5), 2)):
            alert_cubes.update(store, alert_set(*known, generation=generation))
        assert published(store, everything()) == at_once(a_world(), 8)
