"""Alerts by `earthloom monitor`: from scenes to polygons, again only what is new, and the same in whatever order dates come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from affine import Affine

import earthloom
from earthloom.jobs.monitoring.monitor import MonitorResult
from tests.jobs.products.stac_validate import validate
from tests.maps import KEYS
from tests.scenes import write_scene

AREA = """name = "lake"
onto = "EPSG:32617,20m,500000,4494000,506000,4500000"
shard = 512
[[product]]
model = "water-index"
scenes = ["{scenes}"]
[product.options]
{keys}
[[product.alert]]
name = "flooded"
from = "land"
to = "water"
closing = 1
min_area_m2 = 50_000
"""
DATES = ("2020-05-01", "2020-06-01", "2020-07-01", "2020-08-01")


def write(folder: Path, number: int) -> None:
    """280 x 280 px of land and, from the second date on, a lake that grows and then falls apart."""
    green, swir = np.full((280, 280), 1500, np.uint16), np.full((280, 280), 3000, np.uint16)
    lake = np.zeros_like(green, np.bool_)
    if number:
        lake[50 : 90 + 20 * number, 40:120] = True
    if number == 3:
        lake[70:80] = False
    green[lake], swir[lake] = 2500, 300
    write_scene(
        folder / f"d{number}.tif", np.stack([green, swir]), ("green", "swir16"), crs="EPSG:32617",
        date=f"{DATES[number].replace('-', ':')} 10:00:00", transform=Affine(20, 0, 500_000, 0, -20, 4_500_000),
    )  # fmt: skip


def go(folder: Path) -> MonitorResult:
    file = folder / "lake.toml"
    file.write_text(AREA.format(keys=KEYS, scenes=f"{folder}/in/*.tif"))
    return earthloom.monitor(file, out=folder / "out", executor="local")


def alerts_of(folder: Path, result: MonitorResult) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the command says of them, and the files that readers follow to."""
    (product,) = result.products
    assert product.errors == []
    summary = product.derived["alerts"]["flooded"]
    view = folder / "out" / summary["view"]
    head = json.loads((view.parents[1] / "head.json").read_text())
    updates = (view.parents[1] / "updates" / str(head["generation"])).glob("*.parquet")
    files = {path.name: path.read_bytes() for path in (*view.iterdir(), *updates)}
    return dict(summary), files


def test_dates_in_another_order_and_runs_between_give_the_same_alerts(tmp_path: Path) -> None:
    once, many = tmp_path / "once", tmp_path / "many"
    for number in range(len(DATES)):
        write(once / "in", number)
    summary, wanted = alerts_of(once, go(once))
    assert summary["dates"] == 4
    assert {state: entry["count"] for state, entry in summary["alerts"].items()} == {"confirmed": 2}

    found = gpd.read_parquet(once / "out" / summary["view"] / "alerts.parquet").sort_values("area_m2")
    (small, large) = found.itertuples()
    assert small.split_from == large.id
    assert str(large.first_date) == "2020-06-01"
    assert str(large.confirmed_date) == "2020-07-01"
    assert large.count == 3
    item = json.loads((once / "out" / summary["view"] / "item.json").read_text())
    validate(item)
    collection = json.loads((once / "out/monitors/lake/collection.json").read_text())
    assert f"./{summary['view'].removeprefix('monitors/lake/')}/item.json" in [
        link["href"] for link in collection["links"]
    ]

    for number in (2, 0, 3, 1):
        write(many / "in", number)
        result = go(many)
    assert alerts_of(many, result)[1] == wanted
    before = {path: path.stat().st_mtime_ns for path in (many / "out").rglob("alerts/**/*") if path.is_file()}
    assert alerts_of(many, go(many))[1] == wanted
    assert {path: path.stat().st_mtime_ns for path in (many / "out").rglob("alerts/**/*") if path.is_file()} == before
