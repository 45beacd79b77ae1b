"""A cube's item and its area's collection hold against the schemas of STAC and of the datacube extension."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pystac
import pytest

from earthloom.jobs.monitoring.cube.cube import ClassInfo, Cube, Step
from earthloom.jobs.monitoring.cube.stac import add_to_area, cube_item, replace_in_area
from earthloom.jobs.monitoring.cube.update import CubeRules
from earthloom.jobs.monitoring.linking import enter
from earthloom.tiling.errors import PublishError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.writing.zarr_sink import Layer
from tests.jobs.monitoring.watched import AREA, RULES
from tests.jobs.products.samples import WKT
from tests.jobs.products.stac_validate import validate
from tests.memory_store import MemoryStore

CUBE = Cube(
    prefix="c", grid=AREA, shard_px=512, title="landwater of lake",
    layers=(
        Layer(name="classes", attributes={"long_name": "class", "flag_values": [0, 1], "flag_meanings": "land water"}),
        Layer(name="confidence", attributes={"long_name": "probability", "scale_factor": 0.004, "units": "1"}),
    ),
    classes=(ClassInfo(value=0, name="land", color="#b59f6b"), ClassInfo(value=1, name="water", color="#1f78b4")),
    steps=tuple(Step(date=datetime.date(2020, month, 1), scenes=("scenes/a/b",)) for month in (1, 3)),
)  # fmt: skip


def item(cube: Cube = CUBE, rules: CubeRules = RULES, generation: int = 1) -> dict[str, Any]:
    return cube_item(
        cube, aoi=rules.aoi, product=rules.product, key=rules.key, rules=rules.to_json(), generation=generation
    )


def test_the_item_is_valid_and_says_dimensions_and_variables() -> None:
    made = item()
    validate(made)
    properties = made["properties"]
    assert properties["cube:dimensions"]["time"]["values"] == ["2020-01-01T00:00:00Z", "2020-03-01T00:00:00Z"]
    assert properties["cube:dimensions"]["x"] == {
        "type": "spatial", "axis": "x", "extent": [276495.0, 307185.0], "step": 30.0, "reference_system": 32633,
    }  # fmt: skip
    assert properties["cube:dimensions"]["y"]["extent"] == sorted(properties["cube:dimensions"]["y"]["extent"])
    assert properties["cube:variables"]["confidence"] == {
        "type": "data", "dimensions": ["time", "y", "x"], "description": "probability", "unit": "1",
    }  # fmt: skip
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2020-01-01T00:00:00Z",
        "2020-03-01T23:59:59Z",
    )
    classes = made["assets"]["data"]["bands"][0]["classification:classes"]
    assert [entry["name"] for entry in classes] == ["land", "water", "nodata"]
    assert any("datacube" in uri for uri in made["stac_extensions"])
    read = pystac.Item.from_dict(made)
    assert read.to_dict(include_self_link=False)["properties"] == properties


def test_a_grid_without_a_code_and_an_image_of_floats_are_valid_too() -> None:
    layer = Layer(
        name="ndvi", dtype="float32", nodata=float("nan"), attributes={"scale_factor": 1.0, "add_offset": 0.0}
    )
    made = item(replace(CUBE, grid=WKT, layers=(layer,), classes=()))
    validate(made)
    assert made["properties"]["cube:dimensions"]["x"]["reference_system"].startswith("PROJCRS")
    assert made["assets"]["data"]["bands"][0]["nodata"] == "nan"


def test_a_broken_cube_is_refused_by_the_schema() -> None:
    for wrong in ({"time": {"type": "temporal"}}, {"x": {"type": "spatial", "axis": "z", "extent": [0, 1]}}, {}):
        made = item()
        made["properties"]["cube:dimensions"] = wrong
        with pytest.raises(ValueError, match="datacube"):
            validate(made)


def test_the_collection_does_not_depend_on_the_order_of_adding() -> None:
    until = item(rules=replace(RULES, until="2020-02-01"))
    forth = add_to_area(
        add_to_area(None, "lake", "./landwater/a/item.json", item()), "lake", "./landwater/b/item.json", until
    )
    back = add_to_area(
        add_to_area(None, "lake", "./landwater/b/item.json", until), "lake", "./landwater/a/item.json", item()
    )
    assert forth == back == add_to_area(forth, "lake", "./landwater/a/item.json", item())
    validate(forth)
    assert [link["title"] for link in forth["links"] if link["rel"] == "item"] == [
        "lake-landwater", "lake-landwater-until-2020-02-01",
    ]  # fmt: skip
    with pytest.raises(PublishError, match="expected the STAC Collection 'monitor-sea'"):
        add_to_area(forth, "sea", "./x", item())


def test_what_was_derived_from_a_replaced_cube_is_not_linked_any_more() -> None:
    derived = {"id": "mode", "bbox": item()["bbox"], "properties": item()["properties"]}
    until = item(rules=replace(RULES, until="2020-02-01"))
    held = add_to_area(None, "lake", "./landwater/a/item.json", item())
    held = add_to_area(held, "lake", "./landwater/b/item.json", until)
    for number, folder in enumerate(("landwater/a", "landwater/b", "ndvi/c")):
        items = {f"./{folder}/composites/mode-year/2020/x/item.json": derived | {"id": f"mode-{number}"}}
        held = replace_in_area(held, "lake", f"./{folder}/composites/", items)
    moved = add_to_area(held, "lake", "./landwater/d/item.json", item())
    assert sorted(link["href"].split("/composites")[0] for link in moved["links"] if link["rel"] == "item") == [
        "./landwater/b", "./landwater/b/item.json", "./landwater/d/item.json", "./ndvi/c",
    ]  # fmt: skip


def test_an_item_and_its_links_never_go_back(tmp_path: Path) -> None:
    store = MemoryStore(ObjectRef.parse(str(tmp_path)))
    shorter = replace(CUBE, steps=CUBE.steps[:1])

    def progress(found: Any) -> tuple[int, int]:
        properties = found["properties"]
        return properties["earthloom:generation"], len(properties["cube:dimensions"]["time"]["values"])

    enter(store, "lake", RULES.base, item(), progress)
    enter(store, "lake", RULES.base, item(shorter), progress)
    assert json.loads(store.get(f"{RULES.base}/item.json")) == item()
    enter(store, "lake", RULES.base, item(shorter, generation=2), progress)
    assert json.loads(store.get(f"{RULES.base}/item.json"))["assets"]["data"]["href"] == "./generations/2/cube.zarr"
    catalog = json.loads(store.get("catalog.json"))
    validate(catalog)
    (child,) = (link for link in catalog["links"] if link["rel"] == "child")
    assert child["href"] == "./monitors/lake/collection.json"
    (link,) = (
        link for link in json.loads(store.get("monitors/lake/collection.json"))["links"] if link["rel"] == "item"
    )
    assert store.get(f"monitors/lake/{link['href'].removeprefix('./')}")
    with pytest.raises(PublishError, match="lies below monitors/lake/"):
        enter(store, "lake", "monitors/sea/x", item())
