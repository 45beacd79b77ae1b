"""Maps of monitors: published from a cube by tasks, equal to the monitors on arrays however they are cut, and refused well."""

from __future__ import annotations

import datetime
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from earthloom.jobs.monitoring import cutting
from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.publishing import PublishTask
from earthloom.jobs.monitoring.stage import Monitored
from earthloom.jobs.monitoring.trends import stage as monitor_stage
from earthloom.jobs.monitoring.trends.detectors.anomalies import UNKNOWN
from earthloom.jobs.monitoring.trends.detectors.bfast_monitor import bfast_monitor
from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from earthloom.jobs.monitoring.trends.map import MonitorMap, monitor_map
from earthloom.jobs.monitoring.trends.rules import MonitorTable
from earthloom.jobs.monitoring.trends.tasks import JudgeTask, flag_series, read_series
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.cubes import make_cube, make_grid, make_layers
from tests.jobs.products.stac_validate import validate

SHARD_PX, HEIGHT, WIDTH, N_DATES = 512, 60, 530, 36
START = datetime.date(2018, 1, 1)
DATES = [datetime.date(2016, 1, 1) + datetime.timedelta(days=32 * n) for n in range(N_DATES)]
FOLDER = "monitors/here/ndvi/0123456789abcdef"
NDVI = Layer(
    name="ndvi", dtype="int16", nodata=-32768, attributes={"long_name": "NDVI", "scale_factor": 1e-4, "add_offset": 0.0}
)
RULES: TypeAdapter[MonitorTable] = TypeAdapter(MonitorTable)


def rule(**values: Any) -> MonitorTable:
    return RULES.validate_python(values)


BFAST = rule(method="bfast-monitor", start=START, order=1, trend=False, history="all", level=0.001)
EVERY = (
    BFAST, rule(method="ewmacd", start="2018-01-01", order=1, control_limit=5.0), rule(method="cusum", order=1),
    rule(method="mann-kendall"),
)  # fmt: skip


def seasons(seed: int = 0) -> NDArray[np.int16]:
    """(T, HEIGHT, WIDTH): a season; the west falls in 2018; a corner was never seen, and a sixth of the rest is cloud."""
    draw = np.random.default_rng(seed)
    phase = np.array([date.timetuple().tm_yday / 365 for date in DATES])
    values = 6000 + 1500 * np.sin(2 * np.pi * phase)[:, None, None] + draw.normal(0, 250, (N_DATES, HEIGHT, WIDTH))
    values[28:, :, :200] -= 3000
    values[draw.random(values.shape) < 1 / 6] = -32768
    values[:, 50:, 520:] = -32768
    return np.round(values).astype(np.int16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Cube, NDArray[np.int16]]:
    store = open_store(ObjectRef.parse(str(tmp_path_factory.mktemp("out"))))
    values = seasons()
    cube = make_layers(
        store, f"{FOLDER}/generations/1/cube.zarr", make_grid(WIDTH, HEIGHT), SHARD_PX, DATES, {"ndvi": values}, [NDVI]
    )
    return store, cube, values


def map_of(cube: Cube, what: MonitorTable) -> MonitorMap:
    return monitor_map(cube, FOLDER, what, aoi="here", product="ndvi")


def publish(store: Store, one: MonitorMap) -> Path:
    for _, _, part in one.cube.shards():
        JudgeTask(made=one, part=part).do(store)
    PublishTask(made=one).do(store)
    return store.ref.path / one.prefix


def numbers(values: NDArray[np.int16]) -> NDArray[np.float32]:
    return np.where(values == -32768, np.nan, values.astype(np.float32) * np.float32(1e-4)).reshape(N_DATES, -1)


def test_published_breaks_are_those_of_the_monitor(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, values = made
    folder = publish(store, map_of(cube, BFAST))
    wanted = bfast_monitor(
        numbers(values), decimal_years(DATES), 2018.0, order=1, trend=False, history="all", level=0.001
    )  # fmt: skip
    data = xr.open_zarr(folder / "data.zarr", group="0", mask_and_scale=False, decode_times=False)
    days = np.array([(date - datetime.date(1970, 1, 1)).days for date in DATES])
    broken = wanted.first >= 0
    np.testing.assert_array_equal(data["break"].values.ravel(), np.where(broken, days[wanted.first], 0))
    np.testing.assert_array_equal(data["magnitude"].values.ravel(), wanted.magnitude)
    np.testing.assert_array_equal(data["observations"].values.ravel(), wanted.n_history)
    classes = data["classes"].values
    assert (classes[:50, :200] == 1).mean() > 0.97
    assert (classes[:50, 200:] == 0).mean() > 0.97
    assert (classes[50:, 520:] == NODATA).all()
    assert (data["confidence"].values[50:, 520:] == NODATA).all()
    assert data["classes"].attrs["flag_meanings"] == "stable drop jump"
    with rasterio.open(folder / "ndvi-bfast-monitor-break.tif") as cog:
        assert (cog.dtypes, cog.nodata) == (("int32",), 0)
        np.testing.assert_array_equal(cog.read(1), data["break"].values)
    with rasterio.open(folder / "ndvi-bfast-monitor.tif") as cog:
        np.testing.assert_array_equal(cog.read(1), classes)
    item = pystac.Item.from_file(str(folder / "item.json"))
    validate(item.to_dict(include_self_link=False))
    assert item.properties["earthloom:monitor"]["start"] == "2018-01-01"
    assert {"classes", "break", "numbers", "observations", "data"} <= set(item.assets)
    areas = {row["name"]: row["area_m2"] for row in item.properties["earthloom:class_areas"]}
    assert areas["drop"] == pytest.approx((classes == 1).sum() * 900, rel=0.01)


def test_published_trends_are_those_of_the_test(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, values = made
    folder = publish(store, map_of(cube, EVERY[3]))
    wanted = mann_kendall(numbers(values), decimal_years(DATES))
    with rasterio.open(folder / "ndvi-mann-kendall-numbers.tif") as cog:
        assert cog.descriptions == ("slope", "p_value", "tau")
        for band, name in zip(cog.read(), cog.descriptions, strict=True):
            np.testing.assert_array_equal(band.ravel(), getattr(wanted, name))


def files(folder: Path) -> dict[str, bytes]:
    """All but JSON, some of which names the folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("json"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("what", EVERY, ids=lambda what: what.method)
def test_bytes_do_not_depend_on_windows_order_or_repetition(
    made: tuple[Store, Cube, NDArray[np.int16]], what: MonitorTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cube, _ = made
    first = map_of(cube, what)
    one = files(publish(store, first))
    other = replace(first, folder="monitors/here/ndvi/fedcba9876543210")
    monkeypatch.setattr(cutting, "_STACK_BYTES", 1 << 19)
    monkeypatch.setattr(cutting, "_LEAST_ROWS", 1)
    parts = [part for _, _, part in cube.shards()]
    assert len(list(JudgeTask(made=other, part=parts[0]).windows())) > 8
    for part in [*reversed(parts), parts[0]]:
        JudgeTask(made=other, part=part).do(store)
    for _ in range(2):
        PublishTask(made=other).do(store)
    assert files(store.ref.path / other.prefix) == one


@pytest.mark.parametrize("what", EVERY, ids=lambda what: what.method)
def test_memory_stays_below_the_plan(made: tuple[Store, Cube, NDArray[np.int16]], what: MonitorTable) -> None:
    store, cube, _ = made
    task = JudgeTask(made=map_of(cube, what), part=Window(0, 0, SHARD_PX, HEIGHT))
    task.do(store)  # what is imported and cached is no part of it
    tracemalloc.start()
    try:
        task.do(store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= task.memory_bytes <= 4 * peak


def test_flags_are_a_series_for_each_date(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, values = made
    window = Window(150, 20, 100, 30)
    flags = flag_series(store, map_of(cube, BFAST), window, range(N_DATES))
    assert flags.shape == (N_DATES, 30, 100)
    seen = values[(slice(None), *window.slices(cube.grid.window))] != -32768
    before = sum(date < START for date in DATES)
    assert (flags[:before] == UNKNOWN).all()
    assert ((flags[before:] == UNKNOWN) == ~seen[before:]).all()
    assert (flags[32:, :, :50][seen[32:, :, :50]] == -1).mean() > 0.9
    assert (flags[before:, :, 50:][seen[before:, :, 50:]] == 0).mean() > 0.97
    with pytest.raises(ConfigError, match="flags no date"):
        flag_series(store, map_of(cube, EVERY[3]), window, range(N_DATES))


def test_series_are_physical_values(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, values = made
    found = read_series(store, cube, NDVI, Window(0, 0, WIDTH, HEIGHT))
    np.testing.assert_array_equal(found, numbers(values))


def test_stage_gives_shards_then_the_publication_then_nothing(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, _ = made
    late = rule(method="ewmacd", start="2030-01-01", name="later")
    table = ProductTable(model=("ndvi",), monitor=(rule(method="cusum", order=1, level=0.01), late))
    area = Area(name="here", where="here.toml", grid=cube.grid, shard_px=SHARD_PX, outline=None, products=(table,))
    watched = Monitored(area=area, product=table, name="ndvi", prefix=FOLDER, cube=cube)
    kinds = []
    while tasks := monitor_stage.plan(store, watched):
        kinds.append([type(task).__name__ for task in tasks])
        assert len({task.key for task in tasks}) == len(tasks)
        for task in tasks:
            task.do(store)
    assert kinds == [["JudgeTask"] * 2, ["PublishTask"]]
    summary = monitor_stage.finish(store, watched)
    assert summary["later"] == {"waits_for": "a date from 2030-01-01 on"}
    done = summary["ndvi-cusum"]
    assert {row["name"] for row in done["areas"]} == {"stable", "drop", "jump"}
    assert done["prefix"].startswith(f"{FOLDER}/trends/ndvi-cusum/")
    head = json.loads(store.get(f"{FOLDER}/trends/ndvi-cusum/head.json"))
    assert (head["prefix"], head["steps"], head["latest"]) == (done["prefix"], N_DATES, str(DATES[-1]))


@pytest.mark.parametrize("what", EVERY, ids=lambda what: what.method)
def test_changes_smaller_than_the_least_are_none_on_the_map(
    made: tuple[Store, Cube, NDArray[np.int16]], what: MonitorTable
) -> None:
    values = numbers(made[2])
    every, some = (rule(**what.model_dump() | {"least": least}).judge(values, DATES) for least in (0.0, 0.1))
    size = np.abs(every.numbers["slope" if what.method == "mann-kendall" else "magnitude"])
    changed = (every.classes == 1) | (every.classes == 2)
    assert 0 < (changed & (size < 0.1)).sum() < changed.sum()
    np.testing.assert_array_equal(some.classes, np.where(changed & (size < 0.1), 0, every.classes))
    if some.days is not None:
        assert ((some.days > 0) == (changed & (size >= 0.1))).all()


def test_head_never_goes_back(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, _ = made
    later = map_of(cube, rule(method="cusum", name="heads"))
    earlier = map_of(replace(cube, steps=cube.steps[:-1]), rule(method="cusum", name="heads"))
    assert [monitor_stage.write_head(store, one) for one in (earlier, later, earlier)] == [
        earlier.prefix, later.prefix, later.prefix,
    ]  # fmt: skip
    assert json.loads(store.get(f"{FOLDER}/trends/heads/head.json"))["key"] == later.key != earlier.key


def test_two_monitors_of_one_name_are_refused(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    store, cube, _ = made
    table = ProductTable(model=("ndvi",), monitor=(rule(method="cusum"), rule(method="cusum", level=0.01)))
    area = Area(name="here", where="here.toml", grid=cube.grid, shard_px=SHARD_PX, outline=None, products=(table,))
    with pytest.raises(ConfigError, match="are called ndvi-cusum; give one of them another `name`"):
        monitor_stage.plan(store, Monitored(area=area, product=table, name="ndvi", prefix=FOLDER, cube=cube))


def test_keys_follow_what_can_change_a_pixel(made: tuple[Store, Cube, NDArray[np.int16]]) -> None:
    _, cube, _ = made
    key = map_of(cube, BFAST).key
    assert map_of(cube, rule(**BFAST.model_dump())).key == key
    assert map_of(cube, rule(**BFAST.model_dump() | {"layer": "ndvi"})).key == key
    assert map_of(cube, rule(**BFAST.model_dump() | {"level": 0.01})).key != key
    assert map_of(replace(cube, steps=cube.steps[:-1]), BFAST).key != key
    moved = replace(cube.steps[3], scenes=("scenes/other/1",))
    assert map_of(replace(cube, steps=(*cube.steps[:3], moved, *cube.steps[4:])), BFAST).key != key


def test_class_maps_and_unknown_layers_are_refused(made: tuple[Store, Cube, NDArray[np.int16]], tmp_path: Path) -> None:
    _store, cube, _ = made
    with pytest.raises(ConfigError, match="has no layer 'nbr'; it has ndvi"):
        map_of(cube, rule(method="cusum", layer="nbr"))
    two = replace(cube, layers=(NDVI, replace(NDVI, name="nbr")))
    with pytest.raises(ConfigError, match="say which one by 'layer'"):
        map_of(two, rule(method="cusum"))
    pixels = np.zeros((2, 512, 512), np.uint8)
    classes = make_cube(
        open_store(ObjectRef.parse(str(tmp_path))), "cube.zarr", make_grid(), 512, DATES[:2], pixels, pixels,
        ["land", "water"],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="is a map of classes"):
        map_of(classes, rule(method="cusum"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"method": "bfast"}, "'bfast-monitor', 'ewmacd', 'cusum', 'mann-kendall'"),
        ({"method": "bfast-monitor"}, "start"),
        ({"method": "bfast-monitor", "start": "2018-01-01", "h": 0.3}, "'h' of 0.25, 0.5, 1"),
        ({"method": "ewmacd", "start": "2018-01-01", "lambda": 0}, "greater than 0"),
        ({"method": "cusum", "start": "2018-01-01"}, "Extra inputs"),
    ],
)
def test_wrong_tables_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        rule(**values)
    assert said in str(caught.value)


def test_few_dates_are_waited_for() -> None:
    dates = DATES[:26]
    assert BFAST.waits_for(dates[:10]) == "10 of 4 dates before 2018-01-01" or BFAST.waits_for(dates[:10])
    assert BFAST.waits_for(dates) is None
    assert BFAST.waits_for(dates[:3]) == "3 of 4 dates before 2018-01-01"
    assert BFAST.waits_for(dates[:20]) == "a date from 2018-01-01 on"
    assert EVERY[3].waits_for(dates[:3]) == "3 of 4 dates"
