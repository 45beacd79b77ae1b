"""Items with absolute addresses: what they name is there, and they are STAC."""

from __future__ import annotations

import json
from pathlib import Path

import pystac
import pytest
import rasterio
from click.testing import CliRunner

from earthloom.jobs.analysis.items import item_collection, items_of
from earthloom.jobs.command import cli
from earthloom.tiling.errors import ConfigError
from tests.jobs.products.stac_validate import validate
from tests.maps import go, lake


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("items")
    scene = lake(base / "in", "lake", width=96, height=64)
    for flips in (True, False):
        assert go(scene, out=base / "my out", flips=flips).exit_code == 0
    return base / "my out"


def test_addresses_lead_to_the_files_from_anywhere(out: Path) -> None:
    done = CliRunner().invoke(cli, ["items", str(out), "--product", "water-index"])
    (item,) = pystac.ItemCollection.from_dict(json.loads(done.output)).items
    with rasterio.open(item.assets["classes"].href) as found:
        assert found.shape == (64, 96)
    (printed,) = json.loads(done.output)["features"]
    here = [link["href"] for link in printed["links"] if link["href"].startswith("/")]
    assert len(here) >= 4
    assert [href for href in here if not Path(href).exists()] == []
    assert "alternate" not in item.assets["classes"].extra_fields


def test_with_a_public_address_each_asset_has_it_and_that_of_the_bucket(out: Path) -> None:
    (stored,) = items_of(str(out), "water-index")["features"]
    (path,) = [one for one in out.glob("scenes/*/*/item.json") if stored["properties"]["earthloom:key"] in str(one)]
    places = {"https": "https://maps.example.com/lakes/", "s3": "s3://bucket/maps"}
    (item,) = item_collection([json.loads(path.read_text())], places)["features"]
    validate(item)
    where = f"/{stored['properties']['earthloom:key']}/water-index.tif"
    asset = item["assets"]["classes"]
    assert asset["href"] == f"https://maps.example.com/lakes/scenes/lake{where}"
    assert asset["alternate"] == {"s3": {"href": f"s3://bucket/maps/scenes/lake{where}"}}
    (collection,) = [link["href"] for link in item["links"] if link["rel"] == "collection"]
    assert collection == "https://maps.example.com/lakes/collections/water-index/collection.json"


def test_what_is_no_address_and_what_is_no_product_is_refused(out: Path) -> None:
    with pytest.raises(ConfigError, match="is no address such as https://"):
        items_of(str(out), "water-index", public_url="s3://bucket")
    with pytest.raises(ConfigError, match="has no collection of scenes 'landwater'"):
        items_of(str(out), "landwater")
