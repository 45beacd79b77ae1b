"""Composites as they are published: right to the pixel, opened by others, resumed after a kill, keyed by their steps."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import pickle
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from earthloom.jobs.monitoring.aoi_file import Area, ProductTable
from earthloom.jobs.monitoring.composites.composite import Composite, composites_of
from earthloom.jobs.monitoring.composites.periods import period_of
from earthloom.jobs.monitoring.composites.rules import CompositeTable, parse_rule
from earthloom.jobs.monitoring.composites.stage import COMPOSITES, read_head
from earthloom.jobs.monitoring.composites.tasks import PublishCompositeTask, ReduceTask
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.jobs.monitoring.stage import Monitored
from earthloom.tiling.errors import ConfigError, PublishError, StorageError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import Store, open_store
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.cubes import make_cube, make_grid, make_layers
from tests.jobs.products.stac_validate import validate
from tests.memory_store import MemoryStore

NAMES = ("land", "water", "snow")
DATES = ("2019-12-20", "2020-01-05", "2020-02-10", "2020-07-01", "2020-07-21")
FOLDER = "monitors/lake/landwater/0123456789abcdef"
GRID = make_grid(520, 530)
Files = dict[str, bytes]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(ObjectRef.parse(str(tmp_path)))


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


def image_cube(store: Store, values: Mapping[str, NDArray[Any]], nodata: float, dates: Sequence[str]) -> Cube:
    layers = [
        Layer(
            name=name, dtype=str(pixels.dtype), nodata=nodata,
            attributes={"long_name": f"{name} of denoise", "scale_factor": 1e-4, "add_offset": -0.1},
        )
        for name, pixels in values.items()
    ]  # fmt: skip
    return make_layers(store, f"{FOLDER}/generations/1/cube.zarr", GRID, 512, dates, values, layers)


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


def contents(store: Any, prefix: str = "") -> Files:
    """All that is deterministic: `result.json` without its write id."""
    found = {head.key: store.get(head.key) for head in store.list(prefix)}
    for name, data in found.items():
        if name.endswith("result.json"):
            found[name] = json.dumps(json.loads(data) | {"write_id": ""}).encode()
    return found


def in_memory() -> Any:
    return MemoryStore(ObjectRef.parse("/nowhere"))


def one(cube: Cube, every: str, rule: str, period: str) -> Composite:
    made = composites_of(cube, FOLDER, aoi="lake", product="landwater", every=every, rule=parse_rule(rule))  # type: ignore[arg-type]
    return next(composite for composite in made if composite.period.name == period)


def expected_mode(classes: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    votes = np.stack([(classes == value).sum(axis=0) for value in range(len(NAMES))])
    n_clear = votes.sum(axis=0)
    share = np.floor(250 * votes.max(axis=0) / np.maximum(n_clear, 1) + 0.5)
    return np.where(n_clear, votes.argmax(axis=0), 255), np.where(n_clear, share, 255), n_clear


def test_the_mode_of_a_map_is_published_as_cog_zarr_and_item(store: Store, tmp_path: Path) -> None:
    import rioxarray  # noqa: F401 - registers the accessor .rio
    import xarray as xr

    cube, (classes, _) = class_cube(store), stacks()
    bring_up(store, monitored(cube, ("season", "mode")))
    head = read_head(store, f"{FOLDER}/composites/mode-season")
    assert head is not None
    assert {name: entry["dates"] for name, entry in head["periods"].items()} == {
        "2020-DJF": list(DATES[:3]), "2020-JJA": list(DATES[3:]),
    }  # fmt: skip
    with rasterio.open(tmp_path / head["periods"]["2020-JJA"]["prefix"] / "landwater.tif") as cog:
        assert np.array_equal(cog.read(1), expected_mode(classes[3:])[0])
    folder = tmp_path / head["periods"]["2020-DJF"]["prefix"]
    assert folder.parent == tmp_path / FOLDER / "composites/mode-season/2020-DJF"
    commonest, share, n_clear = expected_mode(classes[:3])
    with rasterio.open(folder / "landwater.tif") as cog:
        assert np.array_equal(cog.read(1), commonest)
        assert (cog.nodata, cog.crs.to_epsg(), cog.transform) == (255, 32718, GRID.affine)
        assert cog.colormap(1)[1] == (0x1F, 0x78, 0xB4, 255)
        assert cog.tags(1)["CLASS_1"] == "water"
        tags = cog.tags()
        assert (tags["EARTHLOOM_PERIOD"], tags["EARTHLOOM_RULE"], tags["EARTHLOOM_AOI"]) == ("2020-DJF", "mode", "lake")
        assert cog.overviews(1) == [2]
    with rasterio.open(folder / "landwater-confidence.tif") as cog:
        assert np.array_equal(cog.read(1), share)
        assert cog.scales == (0.004,)
    with rasterio.open(folder / "landwater-count.tif") as cog:
        assert np.array_equal(cog.read(1), n_clear)
        assert (cog.nodata, cog.dtypes) == (0, ("uint8",))
    data = xr.open_zarr(folder / "data.zarr", group="0", mask_and_scale=False, decode_coords="all")
    assert np.array_equal(data.classes.values, commonest)
    assert np.array_equal(data["count"].values, n_clear), "what is not stored was not observed"
    assert data.classes.attrs["flag_meanings"] == "land water snow"
    assert data.rio.crs.to_epsg() == 32718
    item = json.loads((folder / "item.json").read_bytes())
    validate(item)
    properties = item["properties"]
    assert (properties["datetime"], properties["start_datetime"], properties["end_datetime"]) == (
        None, "2019-12-01T00:00:00Z", "2020-02-29T23:59:59Z",
    )  # fmt: skip
    assert [entry["title"] for entry in item["assets"]["classes"]["classification:classes"]] == [*NAMES, "No data"]
    areas_m2 = pixel_areas_m2(GRID, GRID.window)
    for row in properties["earthloom:class_areas"]:
        assert row["pixels"] == (commonest == row["value"]).sum()
        assert row["area_m2"] == pytest.approx(areas_m2[commonest == row["value"]].sum())
    sources = [link["href"] for link in item["links"] if link["rel"] == "derived_from"]
    assert [(folder / source).resolve().relative_to(tmp_path).parts[1] for source in sources] == [
        "20191220", "20200105", "20200210",
    ]  # fmt: skip
    result = json.loads((folder / "result.json").read_bytes())
    assert (result["kind"], result["aoi"], result["period"], result["start"]) == (
        "composite",
        "lake",
        "2020-DJF",
        "2019-12-01",
    )
    listed = {f"{head['periods']['2020-DJF']['prefix']}/{name}" for name in result["files"]}
    present = {entry.key for entry in store.list(head["periods"]["2020-DJF"]["prefix"]) if "/blocks/" not in entry.key}
    assert listed == present - {f"{head['periods']['2020-DJF']['prefix']}/result.json"}


def test_pystac_finds_the_item_from_the_catalog(store: Store, tmp_path: Path) -> None:
    import pystac

    dates = [date for date in DATES if date > "2020"]
    bring_up(store, monitored(class_cube(store, dates=dates), ("year", "best")))
    (path,) = tmp_path.glob(f"{FOLDER}/composites/best-year/2020/*/item.json")
    (item,) = pystac.Catalog.from_file(str(tmp_path / "catalog.json")).get_items(recursive=True)
    assert Path(item.self_href) == path
    assert item.common_metadata.start_datetime == datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    styles = {"style", "confidence-style", "count-style"}
    assert {"classes", "confidence", "count", "data", "quicklook", "metadata"} | styles == set(item.assets)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_median_of_an_image_has_its_bands_dtype_and_scale(store: Store, tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(4)
    nodata = math.nan if dtype == "float32" else 0
    values = {name: rng.integers(1, 5000, (4, *GRID.shape)).astype(dtype) for name in ("red", "green", "blue")}
    gaps = rng.random((4, *GRID.shape)) < 0.4
    for pixels in values.values():
        pixels[gaps] = nodata
    dates = ("2020-06-01", "2020-06-08", "2020-06-11", "2020-06-30")
    bring_up(store, monitored(image_cube(store, values, nodata, dates), ("month", "median")))
    (folder,) = tmp_path.glob(f"{FOLDER}/composites/median-month/2020-06/*")
    with rasterio.open(folder / "landwater.tif") as cog:
        found = cog.read()
        assert cog.descriptions == ("red", "green", "blue")
        assert cog.dtypes == (dtype,) * 3
        assert (cog.scales, cog.offsets) == ((1e-4,) * 3, (-0.1,) * 3)
        assert repr(cog.nodata) == repr(float(nodata))
    for band, pixels in zip(found, values.values(), strict=True):
        masked = np.ma.array(pixels.astype(np.float64), mask=gaps)
        expected: Any = np.ma.median(masked, axis=0)  # type: ignore[no-untyped-call]
        expected = expected if dtype == "float32" else np.rint(expected)
        assert np.array_equal(band, expected.filled(nodata).astype(dtype), equal_nan=True)
    item = json.loads((folder / "item.json").read_bytes())
    validate(item)
    assert [band["name"] for band in item["assets"]["image"]["bands"]] == ["red", "green", "blue"]


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


def test_a_replaced_scene_changes_the_key_of_its_period_and_no_other() -> None:
    store = in_memory()
    scenes = [(f"scenes/{date}/{'0' * 64}",) for date in DATES]
    replaced = [*scenes[:4], ("scenes/2020-07-21/" + "1" * 64,)]
    first, second = class_cube(store, scenes=scenes), class_cube(store, 2, scenes=replaced)
    for period, same in (("2019-12", True), ("2020-02", True), ("2020-07", False)):
        assert (one(first, "month", "mode", period).key == one(second, "month", "mode", period).key) is same


def test_the_key_is_made_of_rule_cadence_and_all_that_changes_a_pixel() -> None:
    store = in_memory()
    cube = class_cube(store)
    keys = [
        one(cube, "month", "mode", "2020-07").key,
        one(cube, "month", "best", "2020-07").key,
        one(cube, "season", "mode", "2020-JJA").key,
        one(replace(cube, shard_px=1024), "month", "mode", "2020-07").key,
        one(replace(cube, grid=make_grid(520, 530, gsd=10.0)), "month", "mode", "2020-07").key,
        one(replace(cube, classes=cube.classes[::-1]), "month", "mode", "2020-07").key,
    ]
    assert len(set(keys)) == len(keys)
    moved = replace(cube, prefix=f"{FOLDER}/generations/7/cube.zarr")
    assert one(moved, "month", "mode", "2020-07") == replace(
        one(cube, "month", "mode", "2020-07"), cube=one(moved, "month", "mode", "2020-07").cube
    )


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
        PublishCompositeTask(composite=composite).do(store)
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
        PublishCompositeTask(composite=composite).do(store)
        assert not PublishCompositeTask(composite=composite).do(store), "another one has committed it"
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


def test_bands_that_cannot_lie_in_one_file_are_refused(store: Store) -> None:
    layers = [Layer(name="red", dtype="uint16", nodata=0), Layer(name="ndvi", dtype="float32", nodata=math.nan)]
    values: dict[str, NDArray[Any]] = {
        "red": np.ones((1, *GRID.shape), np.uint16),
        "ndvi": np.ones((1, *GRID.shape), np.float32),
    }
    cube = make_layers(store, f"{FOLDER}/generations/1/cube.zarr", GRID, 512, ["2020-01-01"], values, layers)
    with pytest.raises(ConfigError, match="red has uint16 with 0 and ndvi float32 with nan"):
        _ = one(cube, "year", "median", "2020").publication


def test_the_number_of_observations_has_one_dtype_for_all_periods_of_a_cadence() -> None:
    store = in_memory()
    cube = class_cube(store)
    dtypes = {
        every: one(cube, every, "mode", period_of(every, cube.steps[3].date).name).count_dtype
        for every in ("month", "year")
    }
    assert dtypes == {"month": "uint8", "year": "uint16"}
