"""An area whose file asks for monitors over time of an index: their maps follow its cube."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr

import earthloom
from earthloom.jobs.monitoring.trends.detectors.mann_kendall import mann_kendall
from earthloom.jobs.monitoring.trends.detectors.series import decimal_years
from tests.integration.test_monitor import area_file, days, go, write

ASKED = """
[[product.monitor]]
method = "mann-kendall"
level = 0.1
[[product.monitor]]
name = "shifts"
method = "cusum"
[[product.monitor]]
method = "ewmacd"
start = 2021-01-01
lambda = 0.5
"""


def index_file(folder: Path) -> Path:
    path = area_file(folder)
    text = path.read_text().replace("'water-index'", '"index:wet=(green-swir16)/(green+swir16)"')
    path.write_text(text + ASKED)
    return path


def test_maps_of_monitors_follow_the_cube_of_an_index(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed, day in enumerate(("2016-07-01", "2017-07-01", "2018-07-01", "2019-07-01", "2020-07-01")):
        write(tmp_path / "in", f"s{seed}", day, seed=seed)
    result = go(index_file(tmp_path), out=out)
    (product,) = result.products
    assert (result.exit_code, product.errors) == (0, [])
    said = product.derived["monitors"]
    assert said["wet-ewmacd"] == {"waits_for": "5 of 6 dates before 2021-01-01"}
    head = json.loads((out / product.prefix / "trends/wet-mann-kendall/head.json").read_bytes())
    assert (head["prefix"], head["rule"]["level"]) == (said["wet-mann-kendall"]["prefix"], 0.1)

    lazy = earthloom.open(out, "wet", aoi="lake")
    stored = lazy["wet"].values
    assert stored.dtype == np.float32
    trend = mann_kendall(stored.reshape(5, -1), decimal_years([date.fromisoformat(str(day)) for day in days(result)]))
    published = xr.open_zarr(out / head["prefix"] / "data.zarr", group="0", mask_and_scale=False)
    for name in ("slope", "p_value", "tau"):
        np.testing.assert_array_equal(published[name].values.ravel(), getattr(trend, name), err_msg=name)
    assert set(np.unique(published["classes"].values)) == {0, 1, 2, 255}

    before = {path: path.read_bytes() for path in (out / "monitors").rglob("*") if path.is_file()}
    assert go(index_file(tmp_path), out=out).exit_code == 0
    assert {path: path.read_bytes() for path in (out / "monitors").rglob("*") if path.is_file()} == before

    write(tmp_path / "in", "later", "2020-09-01", seed=9)
    later = go(index_file(tmp_path), out=out)
    assert later.exit_code == 0
    after = json.loads((out / product.prefix / "trends/wet-mann-kendall/head.json").read_bytes())
    assert after["steps"] == head["steps"] + 1
    assert (out / head["prefix"] / "result.json").exists(), "what was published stays until gc takes it"
    assert (out / after["prefix"] / "result.json").exists()
    collection = json.loads((out / "monitors/lake/collection.json").read_bytes())
    linked = [link["href"] for link in collection["links"] if "/trends/wet-mann-kendall/" in link["href"]]
    assert linked == [f"./{after['prefix'].removeprefix('monitors/lake/')}/item.json"]


def test_a_wrong_monitor_is_named_with_what_is_known(tmp_path: Path) -> None:
    path = index_file(tmp_path)
    path.write_text(path.read_text().replace("lambda = 0.5", "lamda = 0.5"))
    result = go(path, out=tmp_path / "out")
    assert result.exit_code == 2
    assert "lamda" in result.refused[0][1]
