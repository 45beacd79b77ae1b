"""Alerts of a real river that has moved: eight Landsat years at Pucallpa, against plain Python and scipy."""

from __future__ import annotations

import pickle
from functools import cache
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio.features
from numpy.typing import NDArray
from scipy import ndimage

from earthloom.jobs.monitoring.alerts.evidence import ClassEvidence
from earthloom.jobs.monitoring.alerts.history import AlertSet
from earthloom.jobs.monitoring.alerts.rule import AlertTable, change_of
from earthloom.jobs.monitoring.alerts.stage import plan_alerts
from earthloom.tiling.grid import pixel_areas_m2
from tests.jobs.monitoring import pucallpa
from tests.jobs.monitoring.alert_cubes import MONITOR, published, update
from tests.memory_store import MemoryStore

LEAST_M2 = 100_000.0
TABLE = AlertTable.model_validate({"name": "land-to-water", "from": "land", "to": "water", "min_area_m2": LEAST_M2})


@cache
def made(shard_px: int) -> tuple[MemoryStore, AlertSet]:
    store = MemoryStore()
    cube = pucallpa.cube(store, f"{MONITOR}/generations/1/cube.zarr", shard_px)
    evidence = ClassEvidence(change=change_of(TABLE, cube.classes))
    of = AlertSet(cube=cube, prefix=MONITOR, product="mndwi", rule=TABLE.rule("land", "water"), evidence=evidence)
    update(store, of)
    return store, of


def view(shard_px: int) -> gpd.GeoDataFrame:
    import io

    store, of = made(shard_px)
    return gpd.read_parquet(io.BytesIO(published(store, of)["alerts.parquet"]))


def active_in_2020() -> NDArray[np.bool_]:
    """Pixels whose change is seen in 2020, or was confirmed and has been missed once; told pixel by pixel."""
    maps = np.stack([pucallpa.water(pucallpa.scene(year)[0])[0] for year in pucallpa.YEARS])

    def lives(series: NDArray[Any]) -> bool:
        armed, run, misses = False, 0, 0
        for value in series:
            if value == 1:
                run, misses = run + bool(run or armed), 0
            elif value == 0:
                misses += 1
                if run < 2 or misses == 2:
                    run = 0
            if value != 255:
                armed = value == 0
        return run > 0

    unique, which = np.unique(maps.reshape(len(maps), -1), axis=1, return_inverse=True)
    return np.array([lives(series) for series in unique.T])[which].reshape(maps.shape[1:])


def test_living_alerts_are_the_components_of_pixels_that_changed() -> None:
    _, of = made(512)
    labels, n = ndimage.label(active_in_2020(), np.ones((3, 3)))
    areas = ndimage.sum(pixel_areas_m2(of.cube.grid, of.cube.grid.window), labels, np.arange(1, n + 1))
    found = view(512)
    living = found[found["closed_date"].isna()]
    large = [area for area in areas if area >= LEAST_M2]
    assert 30 < len(large) <= len(living), "some have shrunk since they began"
    assert sorted(living.loc[living["area_m2"] >= LEAST_M2, "area_m2"]) == pytest.approx(sorted(large), rel=1e-7)
    drawn = rasterio.features.rasterize(
        living.geometry, out_shape=of.cube.grid.shape, transform=rasterio.Affine(*of.cube.grid.transform)
    )
    kept = np.isin(labels, np.flatnonzero(areas >= LEAST_M2) + 1)
    assert (kept <= (drawn == 1)).all()
    assert drawn.sum() == living["area_px"].sum()


def test_the_rivers_new_bed_is_a_confirmed_alert_and_the_town_is_none() -> None:
    found = view(512)
    living = found[found["state"] == "confirmed"]
    at = {name: gpd.points_from_xy([lon], [lat])[0] for name, (lon, lat) in
          {"new reach": (-74.4405, -8.4263), "town": (-74.56, -8.38)}.items()}  # fmt: skip
    (reach,) = living[living.contains(at["new reach"])].itertuples()
    assert reach.first_date.year == 1990
    assert reach.area_m2 > 5e6
    assert not found.contains(at["town"]).any()


def test_shards_change_no_byte() -> None:
    one, other = (published(*made(shard_px)) for shard_px in (512, 1024))
    assert [name for name in one if name.endswith(".parquet")] != []
    by_date = {shard_px: {name[:10]: data for name, data in files.items() if name[:2] in ("19", "20")}
               for shard_px, files in ((512, one), (1024, other))}  # fmt: skip
    assert len(by_date[512]) == len(pucallpa.YEARS)
    assert by_date[512] == by_date[1024]
    for name in ("alerts.parquet", "alerts.fgb", "alerts.pmtiles"):
        assert one[name] == other[name]


def test_tasks_travel_and_are_small() -> None:
    _, of = made(512)
    tasks = plan_alerts(MemoryStore(), of)
    assert [task.key.rpartition("/")[2].partition(" from date 1 on")[0] for task in tasks] == ["0_0", "0_1"]
    for task in tasks:
        data = pickle.dumps(task)
        assert pickle.loads(data) == task
        assert len(data) < 8000
