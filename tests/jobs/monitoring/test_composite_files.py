"""Composites as they are published: right to the pixel, opened by others, keyed by their steps."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from earthloom.jobs.monitoring.composites.periods import period_of
from earthloom.jobs.monitoring.composites.stage import read_head
from earthloom.jobs.monitoring.cube.cube import Cube
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import pixel_areas_m2
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.composite_cubes import (
    DATES,
    FOLDER,
    GRID,
    NAMES,
    bring_up,
    class_cube,
    in_memory,
    monitored,
    one,
    stacks,
)
from tests.jobs.monitoring.cubes import make_grid, make_layers
from tests.jobs.products.stac_validate import validate


def image_cube(store: Store, values: Mapping[str, NDArray[Any]], nodata: float, dates: Sequence[str]) -> Cube:
    layers = [
        Layer(
            name=name, dtype=str(pixels.dtype), nodata=nodata,
            attributes={"long_name": f"{name} of denoise", "scale_factor": 1e-4, "add_offset": -0.1},
        )
        for name, pixels in values.items()
    ]  # fmt: skip
    return make_layers(store, f"{FOLDER}/generations/1/cube.zarr", GRID, 512, dates, values, layers)


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
