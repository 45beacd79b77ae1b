"""What the page knows of a result: from items as runs write them, and from items that somebody else has changed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import rasterio
from pyproj import CRS, Geod, Transformer

from earthloom.jobs.page.rows import group_of, place, proj4_of, row_of
from tests.maps import go, lake


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a map of 300 x 200 px; `path` says where it lies below OUT."""
    base = tmp_path_factory.mktemp("rows")
    result = go(lake(base, "lake", width=300, height=200), out=base / "out")
    prefix = result.results["lake"].prefix
    document: dict[str, Any] = json.loads((base / "out" / prefix / "item.json").read_bytes())
    return document | {"path": prefix, "out": base / "out"}


def row(item: dict[str, Any]) -> dict[str, Any]:
    return row_of(item, "collections/water-index", f"../../{item['path']}/item.json".replace(" ", "%20"))


def test_a_row_says_what_the_files_say(item: dict[str, Any]) -> None:
    made = row(item)
    assert (made["scene"], made["group"], made["path"]) == ("lake", "water-index", item["path"])
    assert made["start"] == made["end"] == "2026-07-01T10:00:00Z"
    classes, confidence = made["rasters"]
    with rasterio.open(Path(item["out"]) / made["path"] / classes["file"]) as dataset:
        assert classes["crs"] == dataset.crs.to_string() == "EPSG:32617"
        palette, names = dataset.colormap(1), json.loads(json.dumps(classes["classes"]))
        pixels = dataset.read(1)
    assert [one["color"] for one in names] == [
        "#{:02X}{:02X}{:02X}".format(*palette[one["value"]][:3]) for one in names
    ]
    assert [one["name"] for one in names] == ["land", "water"]
    areas = {int(value): area for value, area in made["areas"].items()}
    # 10 m in UTM zone 17 at 500 km - 200 km from its middle: within 0.2 % of true areas (scale 0.9996 to 1.0001)
    assert areas == pytest.approx({value: 100 * (pixels == value).sum() for value in areas}, rel=2e-3)
    assert confidence["bands"] == [
        {"name": "confidence", "scale": 0.004, "offset": 0.0, "nodata": 255, "range": [0.0, 250.0]}
    ]


def test_whatever_lies_between_0_and_1_in_steps_of_confidence_is_drawn_over_all_of_it(item: dict[str, Any]) -> None:
    changed = copy.deepcopy(item)
    changed["assets"]["confidence"]["bands"][0]["name"] = "heat"
    assert row(changed)["rasters"][1]["bands"][0]["range"] == [0.0, 250.0]


def test_what_leaves_the_folder_is_no_row(item: dict[str, Any]) -> None:
    for href in (
        "../../../elsewhere/item.json",
        "https://example.com/item.json",
        "../../scenes/a/result.json",
        "/item.json",
    ):
        with pytest.raises(ValueError, match="no item below"):
            place("collections/water-index", href)
    for name in ("../../secret.tif", "https://example.com/a.tif", "..", ""):
        changed = copy.deepcopy(item)
        changed["assets"]["classes"]["href"] = name
        with pytest.raises(ValueError, match="beside"):
            row(changed)


def test_a_colour_is_a_colour(item: dict[str, Any]) -> None:
    changed = copy.deepcopy(item)
    changed["assets"]["classes"]["classification:classes"][0]["color_hint"] = "red;background:url(//x)"
    with pytest.raises(ValueError, match="no colour"):
        row(changed)


def test_a_scene_of_no_known_date_has_none(item: dict[str, Any]) -> None:
    changed = copy.deepcopy(item)
    opened = {"datetime": None, "start_datetime": "1957-10-04T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
    changed["properties"] |= opened
    assert (row(changed)["start"], row(changed)["end"]) == (None, None)


def test_only_what_the_browser_does_not_know_is_spelled_out() -> None:
    for code in ("EPSG:4326", "EPSG:3857", "EPSG:32601", "EPSG:32660", "EPSG:32718"):
        assert proj4_of(code, None, 10, 50) == (code, None)
    for code in ("EPSG:32119", "EPSG:3035", "EPSG:4269", "EPSG:32661", "EPSG:32761"):  # the last: polar stereographic
        name, text = proj4_of(code, None, -80, 35)
        assert name == code
        assert text
        assert text.startswith("+proj=")
        assert "towgs84" not in text


@pytest.mark.parametrize(
    ("code", "lon", "lat"),
    [
        ("EPSG:27700", -0.13, 51.52), ("EPSG:28992", 5.4, 52.1), ("EPSG:2056", 7.4, 46.9), ("EPSG:31467", 9.1, 48.8),
        ("EPSG:26710", -122.0, 37.7), ("EPSG:4267", -100.0, 40.0), ("EPSG:30161", 129.9, 32.7),
    ],
)  # fmt: skip
def test_a_national_grid_lies_where_pyproj_says(code: str, lon: float, lat: float) -> None:
    """A PROJ string alone is 90 to 800 m away. PROJ reads `+towgs84` as a browser does."""
    _, text = proj4_of(code, None, lon, lat)
    for away in (-0.2, 0, 0.2):
        x, y = Transformer.from_crs("OGC:CRS84", code, always_xy=True).transform(lon + away, lat + away)
        found = Transformer.from_crs(CRS(text), "OGC:CRS84", always_xy=True).transform(x, y)
        assert Geod(ellps="WGS84").inv(lon + away, lat + away, *found)[2] < 2


def test_scenes_far_apart_on_one_national_grid_have_crs_of_their_own() -> None:
    """In the browser a name has one string, and the datum of Great Britain lies 20 m differently in Cornwall and Scotland."""
    (south, _), (north, _) = proj4_of("EPSG:27700", None, -5.0, 50.3), proj4_of("EPSG:27700", None, -3.1, 58.9)
    assert south != north
    assert proj4_of("EPSG:27700", None, -5.01, 50.31) == proj4_of("EPSG:27700", None, -5.0, 50.3)


def test_what_monitoring_makes_is_listed_by_area_and_product() -> None:
    base = "monitors/delta/landwater/0123456789abcdef"
    assert group_of("monitors/delta", base) == "delta · landwater"
    assert (
        group_of("monitors/delta", f"{base}/composites/mode-year/2020/ab")
        == "delta · landwater · composites · mode-year"
    )
    view = f"{base}/alerts/drying-0123456789abcdef/views/2020-07-01-0123456789abcdef"
    assert group_of("monitors/delta", view) == "delta · landwater · alerts · drying"
