"""Other people's readers and validators on a published result: zarr-cm, odc-stac, rio-cogeo, GDAL 3.12."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import zarr_cm
from rio_cogeo.cogeo import cog_validate

from earthloom.models.cards.file import to_item
from tests import newer_gdal
from tests.jobs.products.samples import card
from tests.jobs.products.stac_validate import validate
from tests.maps import go, lake


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a class map in EPSG:32617."""
    base = tmp_path_factory.mktemp("readers")
    assert go(lake(base / "in"), out=base / "out").exit_code == 0
    (item,) = base.glob("out/scenes/lake/*/item.json")
    return item.parent


def test_every_node_of_the_zarr_fits_the_conventions(result: Path) -> None:
    root = json.loads((result / "data.zarr/zarr.json").read_text())
    said = root["attributes"]
    zarr_cm.validate_all(said)
    assert set(zarr_cm.detect_revisions(said)) == {"multiscales", "proj", "spatial"}
    zarr_cm.multiscales.validate_node_metadata(root)
    declared = [one for one in said["zarr_conventions"] if one["name"] != "multiscales"]
    nodes = root["consolidated_metadata"]["metadata"]
    for level, entry in enumerate(said["multiscales"]["layout"]):
        group = nodes[str(level)]["attributes"]
        assert "zarr_conventions" not in group, "a level must save to NetCDF"
        assert entry["spatial:transform"] == group["spatial:transform"]
        for name in (str(level), f"{level}/classes", f"{level}/confidence"):
            node: Any = nodes[name]
            attributes = {**node["attributes"], "zarr_conventions": declared}
            zarr_cm.validate_all(attributes)
            as_declared: Any = {**node, "attributes": attributes}
            zarr_cm.spatial.validate_node_metadata(as_declared)
            assert attributes["proj:code"] == "EPSG:32617"
            assert attributes["spatial:shape"] == (node["shape"] if "shape" in node else entry["spatial:shape"])
        assert group["Conventions"] == "CF-1.11"


def test_the_item_is_valid_and_its_bands_are_arrays_that_renders_can_draw(result: Path) -> None:
    item = json.loads((result / "item.json").read_text())
    validate(item)
    data = item["assets"]["data"]
    assert data["type"] == "application/vnd.zarr; version=3; profile=multiscales"
    assert all((result / "data.zarr/0" / band["name"] / "zarr.json").is_file() for band in data["bands"])
    renders = item["properties"]["renders"]
    assert renders["data"]["bands"] == ["classes"]
    with rasterio.open(result / "water-index.tif") as cog:
        palette = cog.colormap(1)
    assert {int(value): tuple(color) for value, color in renders["classes"]["colormap"].items()} == {
        value: palette[value] for value in (0, 1)
    }


def test_a_model_s_card_is_valid_in_the_extension_s_current_version() -> None:
    classes = (("water", "#1f6feb"), ("land", "#8fb569"))
    found = to_item(card(classes, description="Water and land."), weights_name="model.safetensors", n_parameters=1)
    assert any("mlm/v1.5.2" in uri for uri in found["stac_extensions"])
    own = ("scientific", "version")  # of which there is no schema here
    validate({**found, "stac_extensions": [uri for uri in found["stac_extensions"] if not any(w in uri for w in own)]})


def test_odc_stac_loads_the_map_by_its_item_lazily_and_pixel_for_pixel(result: Path) -> None:
    odc = pytest.importorskip("odc.stac")
    item = pystac.Item.from_file(str(result / "item.json"))
    loaded = odc.load([item], bands=["classes"], chunks={})
    with rasterio.open(result / "water-index.tif") as cog:
        assert loaded.classes.dtype == np.uint8
        assert loaded.classes.odc.nodata == cog.nodata
        assert loaded.odc.crs == cog.crs.to_string()
        np.testing.assert_array_equal(loaded.classes.isel(time=0).values, cog.read(1))


def test_gdal_finds_names_and_true_areas_inside_the_file(result: Path) -> None:
    assert cog_validate(result / "water-index.tif", strict=True, quiet=True) == (True, [], [])
    published = json.loads((result / "result.json").read_text())["class_areas"]
    rows = newer_gdal.attribute_table(result / "water-index.tif")
    assert [(row["Class"], int(row["Value"])) for row in rows] == [(one["name"], one["value"]) for one in published]
    assert [float(row["Area_m2"]) for row in rows] == pytest.approx([one["area_m2"] for one in published], rel=1e-9)
    assert ["#{:02x}{:02x}{:02x}".format(*(int(row[c]) for c in ("Red", "Green", "Blue"))) for row in rows] == [
        one["color"] for one in published
    ]
