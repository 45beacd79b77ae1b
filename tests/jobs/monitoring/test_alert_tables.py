"""Alerts as files: read by others' readers, the same bytes each time, with true areas and a valid STAC item."""

from __future__ import annotations

import datetime
import io
import json
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import Geod

from earthloom.jobs.monitoring.alerts.history import AlertSet
from earthloom.jobs.monitoring.alerts.lives import Alert, Ledger
from earthloom.jobs.monitoring.alerts.pieces import area_unit_m2
from earthloom.jobs.monitoring.alerts.tables import alert_table, flatgeobuf, geoparquet, pmtiles
from earthloom.tiling.encoding import CONFIDENCE_STEPS
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.vectors import pyogrio
from tests.jobs.monitoring.alert_cubes import MONITOR, alerts_of, cube_of, update
from tests.jobs.monitoring.alert_worlds import World, run
from tests.jobs.monitoring.test_alert_updates import a_world
from tests.jobs.products.stac_validate import validate
from tests.memory_store import MemoryStore

COLUMNS = [
    "id", "rule", "from", "to", "state", "first_date", "last_date", "grown_date", "confirmed_date", "closed_date",
    "count", "confidence", "magnitude", "area_m2", "area_px", "merged_into", "split_from", "geometry",
]  # fmt: skip


@cache
def ledger() -> Ledger:
    *_, (last, _) = run(a_world(), 8)
    return last


def alert_set(world: World | None = None) -> AlertSet:
    made = world or a_world()
    return alerts_of(cube_of(made, 8, range(len(made.days))), made.rule)


@cache
def table() -> Any:
    return alert_table(ledger().alerts, alert_set())


def rows(data: bytes) -> gpd.GeoDataFrame:
    return gpd.read_parquet(io.BytesIO(data)).set_index("id")


def test_a_row_says_what_the_alert_is() -> None:
    found, by_id = rows(geoparquet(table())), {alert.id: alert for alert in ledger().alerts}
    assert ["id", *found.columns] == COLUMNS
    assert {alert.state for alert in by_id.values()} >= {"confirmed", "closed", "merged"}, (
        "the world shows what it shall"
    )
    assert set(found.index) == set(by_id)
    for name, row in found.iterrows():
        alert = by_id[str(name)]
        assert (row["rule"], row["from"], row["to"], row["state"]) == ("land-to-water", "land", "water", alert.state)
        for column, day in (("first_date", alert.first_day), ("last_date", alert.last_day),
                            ("grown_date", alert.grown_day),
                            ("confirmed_date", alert.confirmed_day), ("closed_date", alert.closed_day)):  # fmt: skip
            assert row[column] == (None if day is None else datetime.date(1970, 1, 1) + datetime.timedelta(days=day))
        extent = alert.now
        assert row["confidence"] == pytest.approx(extent.confidence / extent.observations / CONFIDENCE_STEPS, abs=1e-6)
        assert row["magnitude"] == pytest.approx(extent.observations / extent.px, abs=1e-6)
        for column, other in (("merged_into", alert.merged_into), ("split_from", alert.split_from)):
            assert row[column] == other or (other is None and row.isna()[column])


def test_areas_are_true_areas_of_pixels_and_of_the_polygons_on_the_ellipsoid() -> None:
    grid, unit = a_world().grid, area_unit_m2(a_world().grid)
    pixels = pixel_areas_m2(grid, grid.window)
    geod = Geod(ellps="WGS84")
    found = rows(geoparquet(table()))
    for alert in ledger().alerts:
        outline = shapely.from_wkb(alert.now.outline)
        inside = np.zeros(grid.shape, np.bool_)
        cols, lines = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
        inside[:] = shapely.contains_xy(outline, cols, lines)
        row = found.loc[alert.id]
        assert row["area_m2"] == pytest.approx(pixels[inside].sum(), rel=1e-8)
        assert row["area_m2"] == alert.now.area * unit
        assert abs(geod.geometry_area_perimeter(row.geometry)[0]) == pytest.approx(row["area_m2"], rel=1e-3)


def test_all_partitions_have_one_schema_and_the_files_of_alerts_are_the_same_each_time() -> None:
    none = alert_table([], alert_set())
    assert none.schema == table().schema
    assert len(rows(geoparquet(none))) == 0
    shuffled = alert_table(ledger().alerts[::-1], alert_set())
    assert geoparquet(table()) == geoparquet(table()) == geoparquet(shuffled)
    assert flatgeobuf(table()) == flatgeobuf(table()) == flatgeobuf(shuffled)
    grid = a_world().grid
    assert pmtiles(table(), grid) == pmtiles(table(), grid) == pmtiles(shuffled, grid)
    assert pmtiles(none, a_world().grid) is None, "no tiles are no such file"
    assert flatgeobuf(none)[:3] == b"fgb"


def test_geoparquet_says_where_to_look() -> None:
    data = geoparquet(table())
    geo = json.loads(pq.read_metadata(io.BytesIO(data)).metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert (geo["version"], geo["primary_column"], column["encoding"]) == ("1.1.0", "geometry", "WKB")
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert "crs" not in column, "the default is longitude and latitude"
    everything = gpd.read_parquet(io.BytesIO(data))
    assert everything.crs.to_string() == "OGC:CRS84"
    boxes = pa.table(pq.read_table(io.BytesIO(data), columns=["bbox"])).column("bbox").to_pylist()
    assert [[box[name] for name in ("xmin", "ymin", "xmax", "ymax")] for box in boxes] == shapely.bounds(
        everything.geometry.array
    ).tolist()
    west, south, east, north = everything.geometry.iloc[0].bounds
    near = gpd.read_parquet(io.BytesIO(data), bbox=(west, south, east, north))
    assert set(near["id"]) == set(everything[everything.intersects(shapely.box(west, south, east, north))]["id"])


def test_flatgeobuf_and_tiles_are_read_by_gdal(tmp_path: Path) -> None:
    tiles = pmtiles(table(), a_world().grid)
    assert tiles is not None
    (tmp_path / "alerts.fgb").write_bytes(flatgeobuf(table()))
    (tmp_path / "alerts.pmtiles").write_bytes(tiles)
    pyogrio()
    wanted = rows(geoparquet(table()))
    found = gpd.read_file(tmp_path / "alerts.fgb").set_index("id").loc[wanted.index]
    assert shapely.equals(found.geometry.array, wanted.geometry.array).all()
    assert (found["state"] == wanted["state"]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of polygons below a tile's unit
        drawn = gpd.read_file(tmp_path / "alerts.pmtiles")
    assert set(drawn["id"]) == set(wanted.index)
    info = pyogrio().read_info(tmp_path / "alerts.pmtiles")
    assert info["layer_name"] == "alerts"
    header = tiles[:102]
    assert (header[:7], header[100], header[101]) == (b"PMTiles", 3, 11), "zoom 11 shows pixels of 30 m as squares"


def test_rows_are_in_an_order_that_keeps_neighbours_together() -> None:
    alerts = ledger().alerts[:1]
    spread = [_moved(alerts[0], col, row) for row in range(0, 4096, 512) for col in range(0, 4096, 512)]
    ids = alert_table(spread, alert_set()).column("id").to_pylist()
    cells = [tuple(int(part) // 2048 for part in name.split("_")) for name in ids]
    assert sum(one != other for one, other in zip(cells[1:], cells, strict=False)) == 3, "quarter after quarter"


def _moved(alert: Alert, col: int, row: int) -> Alert:
    return replace(alert, id=f"{col}_{row}", born_col=col, born_row=row)


def test_the_item_is_valid_and_says_until_when_it_holds() -> None:
    store, of = MemoryStore(), alert_set()
    update(store, of)
    places = of.places()
    item = json.loads(store.get(f"{places.view}/item.json"))
    validate(item)
    assert item["properties"]["end_datetime"] == "2019-05-25T23:59:59Z"
    assert item["properties"]["expires"] == item["assets"]["alerts"]["expires"] == "2019-06-27T00:00:00Z"
    assert any("timestamps/v1.1.0" in uri for uri in item["stac_extensions"])
    counted = {state: entry["count"] for state, entry in item["properties"]["earthloom:alerts"].items()}
    assert sum(counted.values()) == len(ledger().alerts)
    for asset in item["assets"].values():
        assert len(store.get(f"{places.view}/{asset['href'].removeprefix('./')}")) == asset["file:size"]
    collection = json.loads(store.get("monitors/here/collection.json"))
    (link,) = (link for link in collection["links"] if link["rel"] == "item")
    assert link["href"].endswith("item.json")
    assert f"monitors/here/{link['href'].removeprefix('./')}" == f"{places.view}/item.json"
    assert places.view.startswith(f"{MONITOR}/alerts/land-to-water-")


@pytest.mark.parametrize("wrong", ["tomorrow", "2020-01-01T00:00:00+02:00", None])
def test_a_broken_expiry_is_refused_by_the_schema(wrong: Any) -> None:
    store, of = MemoryStore(), alert_set()
    update(store, of)
    item = json.loads(store.get(f"{of.places().view}/item.json"))
    item["properties"]["expires"] = wrong
    with pytest.raises(ValueError, match="expires"):
        validate(item)


def test_the_unit_of_areas_is_exact_for_any_grid() -> None:
    for gsd, crs in ((0.3, "EPSG:32718"), (30.0, "EPSG:32718"), (0.25, "EPSG:4326"), (1000.0, "EPSG:3857")):
        grid = Grid(crs=crs, transform=(gsd, 0, 0.0, 0, -gsd, 0.0), width=64, height=64)
        unit = area_unit_m2(grid)
        assert np.log2(unit) == int(np.log2(unit))
        assert 2**26 <= grid.gsd_m() ** 2 / unit < 2**27
