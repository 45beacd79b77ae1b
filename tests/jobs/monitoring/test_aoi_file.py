"""AOI files: what they mean, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.monitoring.aoi_file import Area, make_area, read_area
from earthloom.tiling.aoi import parse_aoi
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef

WHERE = ObjectRef.parse("/areas/lake.toml")
WEST, SOUTH, EAST, NORTH = 12.0, 50.4, 12.1, 50.5
BBOX = {"name": "lake", "bbox": [WEST, SOUTH, EAST, NORTH], "crs": "EPSG:32633", "gsd": 30, "shard": 512}
PRODUCT = {"product": [{"model": "landwater"}]}

FULL = """
name = "pucallpa"
geometry = "pucallpa.geojson"
crs = "EPSG:32718"
gsd = 30
shard = 512

[[product]]
model = ["cloudmask", "landwater"]
scenes = "s3://bucket/prefix/"
overlap = ["LC09*", "LC08*"]
mask = { product = "cloudmask", classes = ["cloud", "shadow"] }
[product.options]
sensor = "landsat8-c2l2"

[[product]]
model = "ndvi"
"""


def area(**changes: Any) -> Area:
    values = {key: value for key, value in {**BBOX, **PRODUCT, **changes}.items() if value is not None}
    return make_area(values, WHERE)


def geojson(*, crs: str | None = None) -> bytes:
    ring = [[-74.7, -8.5], [-74.3, -8.5], [-74.3, -8.3], [-74.7, -8.3], [-74.7, -8.5]]
    return json.dumps(
        {
            "type": "Feature",
            "properties": {"crs": crs, "gsd": 10} if crs else {},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
    ).encode()


def test_a_file_and_the_geometry_beside_it(tmp_path: Path) -> None:
    (tmp_path / "pucallpa.toml").write_text(FULL)
    (tmp_path / "pucallpa.geojson").write_bytes(geojson(crs="EPSG:4326"))
    found = read_area(str(tmp_path / "pucallpa.toml"))
    assert (found.name, found.shard_px, found.grid.crs, found.grid.transform[0]) == ("pucallpa", 512, "EPSG:32718", 30)
    assert (found.grid.width % 512, found.grid.height % 512) == (0, 0)
    assert json.loads(str(found.outline))["type"] == "Polygon"
    chain, index = found.products
    assert chain.model == ("cloudmask", "landwater")
    assert chain.scenes == ("s3://bucket/prefix/",)
    assert chain.overlap == ("LC09*", "LC08*")
    assert chain.mask is not None
    assert chain.mask.classes == ("cloud", "shadow")
    assert chain.options == {"sensor": "landsat8-c2l2"}
    assert (index.scenes, index.overlap) == ((), None)


def test_a_bbox_a_geometry_and_a_grid_say_the_same(tmp_path: Path) -> None:
    by_bbox = area()
    left, bottom, right, top = by_bbox.grid.bounds
    by_grid = area(bbox=None, crs=None, gsd=None, onto=f"EPSG:32633,30m,{left + 5},{bottom + 5},{right - 5},{top - 5}")
    assert by_grid.grid == by_bbox.grid == parse_aoi(f"EPSG:32633,30m,{left},{bottom},{right},{top}").grid(512)
    assert by_grid.outline is None
    ring = [[WEST, SOUTH], [EAST, SOUTH], [EAST, NORTH], [WEST, NORTH], [WEST, SOUTH]]
    feature = {
        "type": "Feature",
        "properties": {"crs": "EPSG:32633", "gsd": 30},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    by_file = area(bbox=None, crs=None, gsd=None, geometry=str(tmp_path / "a.geojson"))
    assert by_file.grid == by_bbox.grid, "crs and gsd may be properties of the geometry"
    assert json.loads(str(by_file.outline)) == json.loads(str(by_bbox.outline))


def test_a_bbox_across_the_antimeridian_is_one_area() -> None:
    found = area(bbox=[179.9, -17.0, -179.9, -16.8], crs="EPSG:32760", gsd=30)
    assert found.grid.width * 30 < 60_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gds": 30}, r"gds: there is no such key \(did you mean 'gsd'\?\); here are name, geometry, bbox"),
        (
            {"product": [{"model": "a"}, {"model": "b", "overlp": "latest"}]},
            r"product\[1\]\.overlp: there is no such key \(did you mean 'overlap'\?\); here are model, scenes, options",
        ),
        (
            {"product": [{"model": "a", "mask": {"product": "cloudmask", "class": ["cloud"]}}]},
            r"product\[0\]\.mask\.classes is missing; product\[0\]\.mask\.class: there is no such key",
        ),
        ({"product": []}, "product: Tuple should have at least 1 item"),
        ({"product": None}, "product is missing"),
        ({"shard": 700}, "shard must be a multiple of 512, got '700'"),
        ({"name": "../etc"}, r"name: '\.\./etc' cannot be a folder name"),
        ({"bbox": None}, "an area has one of geometry, bbox and onto, and this one has none"),
        ({"geometry": "a.geojson"}, "and this one has geometry and bbox"),
        ({"crs": None}, "crs is missing; a grid needs both"),
        ({"onto": "EPSG:32633,30m,0,0,1,1", "bbox": None}, "crs: onto says it already"),
        ({"bbox": [12.0, 50.5, 12.1, 50.4]}, r"the bbox \(12, 50\.5, 12\.1, 50\.4\) is not \(west, south, east, north\)"),
        ({"gsd": "30deg"}, "the GSD 30deg is not in the unit of"),
        ({"product": [{"model": "a"}, {"model": ["a"]}]}, r"product\[1\]\.model: a is watched already"),
        ({"product": [{"model": "a", "options": {"out": "x"}}]}, r"product\[0\]\.options\.out: this is a key of"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        area(**changes)
    assert str(error.value).startswith("/areas/lake.toml: ")


def test_a_secret_under_a_wrong_key_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as error:
        area(aws_secret_access_key="wJalrXUtnFEMI")
    assert "wJalr" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"), [("name = ", "is not TOML"), (None, "there is no such file"), ("a=" + "[" * 9999, "TOML|deeply")]
)
def test_files_that_are_none(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "a.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_area(str(path))


def test_a_geometry_never_leaves_the_forms_of_references(tmp_path: Path) -> None:
    for text in ("../../etc/passwd", "/vsicurl/http://169.254.169.254/x", "http://169.254.169.254/x.json"):
        with pytest.raises(ConfigError):
            area(bbox=None, geometry=text)
