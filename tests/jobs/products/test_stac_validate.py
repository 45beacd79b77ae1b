from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from typing import Any

import pystac
import pytest
from pystac.extensions.classification import Classification
from pystac.extensions.mlm import (
    AcceleratorType,
    AssetGeneralMLMExtension,
    InputStructure,
    MLMExtension,
    ModelInput,
    ModelOutput,
    ResultStructure,
    TaskType,
    ValueScaling,
)
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType

from earthloom.jobs.products.stac_collection import add_to_catalog
from earthloom.jobs.products.stac_item import EXTENSIONS
from tests.jobs.products import stac_validate as module
from tests.jobs.products.samples import collection_of, item
from tests.jobs.products.stac_validate import validate

Break = Callable[[dict[str, Any]], Any]


def test_no_call_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network call")

    module._core_validator.cache_clear()
    module._extension_validator.cache_clear()
    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    validate(item())
    validate(model_card())
    validate(collection_of([("./item.json", item())]))
    validate(add_to_catalog(None, "landwater", "./x.json"))
    found = item()
    found["stac_extensions"].append("https://example.com/never-fetched.json")
    with pytest.raises(ValueError, match=r"never-fetched\.json, of which we have no schema"):
        validate(found)


def drop_fields(prefix: str) -> Break:
    def change(found: dict[str, Any]) -> None:
        for place in (found["properties"], *found["assets"].values()):
            for part in (place, *place.get("bands", [])):
                for name in [name for name in part if name.startswith(prefix)]:
                    del part[name]

    return change


BROKEN: dict[str, tuple[str, Break]] = {
    "code is a number": ("assets.classes.proj:code", lambda t: t["assets"]["classes"].update({"proj:code": 32612})),
    "code without authority": ("proj:code", lambda t: t["assets"]["classes"].update({"proj:code": "32612"})),
    "field of version 1": ("proj:epsg", lambda t: t["assets"]["classes"].update({"proj:epsg": 32612})),
    "shape of three": ("proj:shape", lambda t: t["assets"]["classes"]["proj:shape"].append(1)),
    "transform of five": ("proj:transform", lambda t: t["assets"]["classes"]["proj:transform"].pop()),
    "bbox of text": ("proj:bbox", lambda t: t["assets"]["classes"].update({"proj:bbox": ["a"] * 4})),
    "no field of an extension": ("projection-2.0.0", drop_fields("proj:")),
    "no raster field": ("raster-2.0.0", drop_fields("raster:")),
    "class without value": (
        "assets.classes.classification:classes[1]",
        lambda t: t["assets"]["classes"]["classification:classes"][1].pop("value"),
    ),
    "class without name": (
        "assets.classes.classification:classes[0]",
        lambda t: t["assets"]["classes"]["classification:classes"][0].pop("name"),
    ),
    "class name with a space": (
        "classification:classes[0].name",
        lambda t: t["assets"]["classes"]["classification:classes"][0].update(name="a b"),
    ),
    "colour in lower case": (
        "color_hint",
        lambda t: t["assets"]["classes"]["classification:classes"][0].update(color_hint="#ff00aa"),
    ),
    "no classes": ("classification:classes", lambda t: t["assets"]["classes"].update({"classification:classes": []})),
    "scale as text": (
        "assets.confidence.bands[0].raster:scale",
        lambda t: t["assets"]["confidence"]["bands"][0].update({"raster:scale": "1/250"}),
    ),
    "sampling of another kind": (
        "raster:sampling",
        lambda t: t["assets"]["confidence"]["bands"][0].update({"raster:sampling": "line"}),
    ),
    "raster version 1": ("raster:bands", lambda t: t["assets"]["confidence"].update({"raster:bands": [{}]})),
    "unknown data type": ("data_type", lambda t: t["assets"]["confidence"]["bands"][0].update(data_type="byte")),
    "software version as number": (
        "processing:software.torch",
        lambda t: t["properties"]["processing:software"].update(torch=2.13),
    ),
    "level written out": ("processing:level", lambda t: t["properties"].update({"processing:level": "Level 4"})),
    "processing date without zone": (
        "processing:datetime",
        lambda t: t["properties"].update({"processing:datetime": "2001-01-01T00:00:00"}),
    ),
    "checksum not hex": ("file:checksum", lambda t: t["assets"]["classes"].update({"file:checksum": "MD5!"})),
    "negative size": ("file:size", lambda t: t["assets"]["classes"].update({"file:size": -1})),
    "file field at the item": ("file:size", lambda t: t["properties"].update({"file:size": 1})),
    "no href": ("assets.classes", lambda t: t["assets"]["classes"].pop("href")),
    "no collection": ("collection", lambda t: t.pop("collection")),
    "no date": ("properties.datetime", lambda t: t["properties"].update(datetime=None)),
    "a year": ("properties.datetime", lambda t: t["properties"].update(datetime="2001")),
    "no bbox": ("bbox", lambda t: t.pop("bbox")),
    "geometry of no kind": ("geometry", lambda t: t["geometry"].update(type="Square")),
    "old version": ("1.0.0", lambda t: t.update(stac_version="1.0.0")),
    "no type": ("None", lambda t: t.pop("type")),
    "not a number": ("JSON", lambda t: t["properties"].update(gsd=float("nan"))),
}


@pytest.mark.parametrize(("field", "change"), BROKEN.values(), ids=BROKEN)
def test_broken_items_are_refused_by_field(field: str, change: Break) -> None:
    found = copy.deepcopy(item())
    change(found)
    with pytest.raises(ValueError, match="scene-1-landwater-01234567") as caught:
        validate(found)
    assert field in str(caught.value)


def test_broken_collections_and_catalogs_are_refused() -> None:
    found = collection_of([("./item.json", item())])
    found["summaries"]["classification:classes"][0]["value"] = "0"
    with pytest.raises(ValueError, match=r"summaries\.classification:classes\[0\]\.value"):
        validate(found)
    found = collection_of([("./item.json", item())])
    found["extent"]["temporal"]["interval"] = [["2001-07-01", None]]
    with pytest.raises(ValueError, match=r"interval\[0\]\[0\]"):
        validate(found)
    catalog = add_to_catalog(None, "a", "./a.json")
    del catalog["description"]
    with pytest.raises(ValueError, match="description"):
        validate(catalog)


def model_card() -> dict[str, Any]:
    """A model as pystac's own classes write it: another hand than ours."""
    found = pystac.Item(
        id="unet", geometry=None, bbox=None, datetime=None,
        properties={"start_datetime": "1957-10-04T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"},
    )  # fmt: skip
    asset = pystac.Asset(href="./weights.safetensors", roles=["mlm:model", "mlm:weights"])
    found.add_asset("weights", asset)
    MLMExtension.ext(found, add_if_missing=True).apply(
        name="unet",
        architecture="U-Net",
        tasks=[TaskType.SEMANTIC_SEGMENTATION],
        framework="PyTorch",
        accelerator=AcceleratorType.CUDA,
        accelerator_constrained=False,
        total_parameters=31_000_000,
        input=[
            ModelInput.create(
                name="bands",
                bands=["red", "nir"],
                input=InputStructure.create(
                    shape=[-1, 2, 256, 256],
                    dim_order=["batch", "channel", "height", "width"],
                    data_type=DataType.FLOAT32,
                ),
                value_scaling=None,
            )
        ],
        output=[
            ModelOutput.create(
                name="classes",
                tasks=[TaskType.SEMANTIC_SEGMENTATION],
                result=ResultStructure.create(
                    shape=[-1, 2, 256, 256], dim_order=["batch", "class", "height", "width"], data_type=DataType.FLOAT32
                ),
                classes=[Classification.create(value=0, name="water", color_hint="0000FF")],
            )
        ],
    )
    AssetGeneralMLMExtension.ext(asset, add_if_missing=True).artifact_type = "safetensors"
    made = found.to_dict(include_self_link=False, transform_hrefs=False)
    made["stac_extensions"] = [
        uri.replace("mlm/v1.4.0", "mlm/v1.5.2") for uri in made["stac_extensions"]
    ]  # pystac's is older
    made["properties"]["mlm:input"][0]["value_scaling"] = [
        ValueScaling.create("z-score", mean=0.2, stddev=0.1).to_dict(),  # type: ignore[arg-type]  # its enum takes the word
        {"type": None},
    ]
    return made


def test_models_written_by_pystac_pass() -> None:
    found = model_card()
    assert EXTENSIONS["mlm"] in found["stac_extensions"]
    validate(found)


BROKEN_MODELS: dict[str, tuple[str, Break]] = {
    "no name": ("'mlm:name' is a required property", lambda t: t["properties"].pop("mlm:name")),
    "no input": ("'mlm:input' is a required property", lambda t: t["properties"].pop("mlm:input")),
    "empty output": ("mlm:output", lambda t: t["properties"].update({"mlm:output": []})),
    "no model asset": ("mlm-1.5.2", lambda t: t["assets"]["weights"].update(roles=["data"])),
    "no artifact type": ("mlm:artifact_type", lambda t: t["assets"]["weights"].pop("mlm:artifact_type")),
    "accelerator": ("mlm:accelerator", lambda t: t["properties"].update({"mlm:accelerator": "gpu"})),
    "shape of zero": (
        "mlm:input[0].input.shape[1]", lambda t: t["properties"]["mlm:input"][0]["input"]["shape"].__setitem__(1, 0),
    ),
    "z-score without mean": (
        "mlm:input[0].value_scaling[0]", lambda t: t["properties"]["mlm:input"][0]["value_scaling"][0].pop("mean"),
    ),
    "bands that nobody lists": (
        "'bands' is a required property",
        lambda t: t["properties"]["mlm:output"][0]["result"].update(dim_order=["batch", "bands", "height", "width"]),
    ),
    "class without value": (
        "classification:classes[0]",
        lambda t: t["properties"]["mlm:output"][0]["classification:classes"][0].pop("value"),
    ),
    "input on an asset": ("mlm:input", lambda t: t["assets"]["weights"].update({"mlm:input": []})),
}  # fmt: skip


@pytest.mark.parametrize(("field", "change"), BROKEN_MODELS.values(), ids=BROKEN_MODELS)
def test_broken_models_are_refused_by_field(field: str, change: Break) -> None:
    found = model_card()
    change(found)
    with pytest.raises(ValueError, match="unet") as caught:
        validate(found)
    assert field in str(caught.value)


def test_projections_written_by_pystac_pass() -> None:
    found = pystac.Item.from_dict(item())
    ProjectionExtension.ext(found.assets["classes"]).apply(
        code="EPSG:32612", wkt2="PROJCRS[…]", bbox=[0, 0, 1, 1], centroid={"lat": 1.0, "lon": 2.0}, shape=[1, 2],
        transform=[1, 0, 0, 0, 1, 0, 0, 0, 1], geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
    )  # fmt: skip
    validate(found.to_dict(include_self_link=False, transform_hrefs=False))
