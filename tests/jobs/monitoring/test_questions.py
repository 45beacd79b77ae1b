"""Which maps an analyst means, and what is said of their dates."""

from __future__ import annotations

import datetime
from pathlib import Path

import geopandas as gpd
import pytest
from shapely.geometry import box

from earthloom.jobs.monitoring.questions import chosen_maps, zones_of
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.maps import go
from tests.scenes import landscape, write_scene


def test_a_scene_of_which_only_the_year_is_known_claims_no_day_in_tables_or_on_pictures(tmp_path: Path) -> None:
    pixels = landscape(96, 64, 2)
    scene = write_scene(tmp_path / "lake_2020.tif", pixels, ("green", "swir16"), date=None)
    assert go(scene, out=tmp_path / "out", date_pattern="%Y", assumed_day="07-01").exit_code == 0
    first, last = datetime.date(2020, 1, 1), datetime.date(2020, 12, 31)
    (found,) = chosen_maps(open_store(ObjectRef.parse(str(tmp_path / "out"))), "water-index")
    assert (found.start, found.end, found.days) == (first, last, "2020-01-01 to 2020-12-31")
    zones = gpd.GeoDataFrame(geometry=[box(300_100, 4_499_500, 300_300, 4_499_900)], crs="EPSG:32617")
    day = datetime.date(2020, 7, 1)  # stands for the scene where one is chosen by its date
    table = zones_of(zones, str(tmp_path / "out"), "water-index", since=day, until=day)
    assert set(table["start"]) == {first}
    assert set(table["end"]) == {last}
    with pytest.raises(ConfigError, match="no scene of water-index lies between 2020-07-02 and None"):
        zones_of(zones, str(tmp_path / "out"), "water-index", since=day + datetime.timedelta(1))
    layers = (tmp_path / "out" / "collections" / "water-index" / "water-index.qlr").read_text()
    assert "lake_2020 classes, 2020-01-01 to 2020-12-31" in layers
