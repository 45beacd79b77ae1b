"""An area whose file asks for composites: they follow its cube, and are what an analyst computes from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import xarray as xr

import earthloom
from earthloom.jobs.monitoring.composites.lazy import composite
from tests.integration.test_monitor import area_file, go, write

ASKED = "composites = [{ every = 'month', rule = 'best' }, { every = 'year', rule = 'best:clear' }]"


def test_composites_follow_the_cube(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed, day in enumerate(("2020-07-01", "2020-07-21", "2020-10-01")):
        write(tmp_path / "in", f"s{seed}", day, seed=seed)
    result = go(area_file(tmp_path, more=ASKED), out=out)
    (product,) = result.products
    assert (result.exit_code, product.errors) == (0, [])
    assert {name: entry["periods"] for name, entry in product.derived["composites"].items()} == {
        "best-month": 2, "best:clear-year": 1,
    }  # fmt: skip
    before = {path: path.read_bytes() for path in (out / "monitors").rglob("*") if path.is_file()}
    assert go(area_file(tmp_path, more=ASKED), out=out).exit_code == 0
    assert {path: path.read_bytes() for path in (out / "monitors").rglob("*") if path.is_file()} == before

    cube = earthloom.open(out, "water-index", aoi="lake")
    for rule, every, shelf in (("best", "month", "best-month"), ("best:clear", "year", "best-clear-year")):
        head = json.loads((out / product.prefix / "composites" / shelf / "head.json").read_bytes())
        lazy = composite(cube, rule, every).compute()  # type: ignore[arg-type]
        assert list(head["periods"]) == lazy.period.values.tolist()
        for number, entry in enumerate(head["periods"].values()):
            published = xr.open_zarr(out / entry["prefix"] / "data.zarr", group="0", mask_and_scale=False)
            for name in ("classes", "confidence", "count"):
                assert np.array_equal(published[name].values, lazy[name].values[number]), (shelf, name)

    write(tmp_path / "in", "late", "2020-07-11", seed=9)  # out of order: a new generation of the cube
    later = go(area_file(tmp_path, more=ASKED), out=out)
    assert later.exit_code == 0
    assert later.products[0].update.renewed
    head = json.loads((out / product.prefix / "composites/best-month/head.json").read_bytes())
    old = {path.parent.name for path in before if path.name == "result.json" and "best-month" in path.parts}
    keys = {period: entry["prefix"].rpartition("/")[2] for period, entry in head["periods"].items()}
    assert keys["2020-10"] in old, "an unchanged month is not made again"
    assert keys["2020-07"] not in old
    assert head["periods"]["2020-07"]["dates"] == ["2020-07-01", "2020-07-11", "2020-07-21"]
