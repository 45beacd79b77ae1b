from __future__ import annotations

import json
import posixpath
from urllib.parse import unquote

import pystac
import pytest
from pyproj import CRS
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension

from earthloom.jobs.products import stac_item
from earthloom.jobs.products.class_map import classes_band, confidence_band
from earthloom.tiling.counting import Tally
from earthloom.tiling.errors import PublishError, SceneError
from earthloom.tiling.grid import Grid
from tests.jobs.products.samples import CLASSES, KEY, UTM, WKT, card, counted, item, scene
from tests.jobs.products.stac_validate import validate


def test_an_item_is_valid_and_says_who_made_it() -> None:
    found = item()
    validate(found)
    properties = found["properties"]
    assert found["id"] == "scene-1-landwater-01234567"
    assert found["collection"] == "landwater"
    assert properties["earthloom:key"] == KEY
    assert properties["earthloom:weights_sha256"] == "a" * 64
    assert properties["earthloom:card_sha256"] == card().digest()
    assert properties["processing:software"] == {"earthloom": "0.1.0", "torch": "2.13.0"}
    assert properties["gsd"] == pytest.approx(30, rel=1e-3)
    assert [row["name"] for row in properties["earthloom:class_areas"]] == [name for name, _ in CLASSES]
    assert "created" not in json.dumps(found)


def test_pystac_reads_back_the_grid_classes_and_files() -> None:
    read = pystac.Item.from_dict(item())
    assert read.datetime is not None
    assert read.datetime.isoformat() == "2001-07-01T17:30:00+00:00"
    asset = read.assets["classes"]
    projection = ProjectionExtension.ext(asset)
    assert (projection.code, projection.shape) == ("EPSG:32612", [48, 64])
    assert projection.transform == list(UTM.transform)
    assert projection.bbox == list(UTM.bounds)
    classes = ClassificationExtension.ext(asset).classes
    assert classes is not None
    assert [(one.value, one.title, one.color_hint) for one in classes[:4]] == [
        (value, name, color.lstrip("#").upper()) for value, (name, color) in enumerate(CLASSES)
    ]
    assert classes[2].name == "snow_ice"
    assert (classes[4].value, classes[4].nodata) == (255, True)
    file = FileExtension.ext(asset)
    assert (file.size, file.checksum) == (1234, "1220" + "b" * 64)
    assert not ProjectionExtension.ext(read.assets["quicklook"], add_if_missing=True).code  # a picture lies nowhere
    (confidence,) = read.assets["confidence"].extra_fields["bands"]
    assert confidence["raster:scale"] == 1 / 250
    assert confidence["nodata"] == 255
    assert confidence["statistics"]["mean"] == 200
    (band,) = asset.extra_fields["bands"]
    assert band["statistics"] == {"count": 64 * 48, "maximum": 3, "minimum": 1, "valid_percent": 97.916667}


def test_a_crs_without_a_code_is_spelled_out() -> None:
    found = item(WKT)
    validate(found)
    projection = ProjectionExtension.ext(pystac.Item.from_dict(found).assets["classes"])
    assert projection.code is None
    assert CRS.from_wkt(projection.wkt2 or "").equals(CRS.from_wkt(WKT.crs), ignore_axis_order=True)


def test_an_unknown_date_is_an_open_interval_and_never_made_up() -> None:
    found = item(datetime=None)
    validate(found)
    assert found["properties"]["datetime"] is None
    read = pystac.Item.from_dict(found)
    assert read.common_metadata.start_datetime is not None
    assert read.common_metadata.end_datetime is not None
    assert read.common_metadata.start_datetime.isoformat() == "1957-10-04T00:00:00+00:00"
    assert read.common_metadata.end_datetime.year == 9999


@pytest.mark.parametrize(
    ("given", "found"),
    [("2001-07-01T17:30:00Z", "2001-07-01T17:30:00Z"), ("2001-07-01T19:30:00+02:00", "2001-07-01T17:30:00Z"),
     ("2001-07-01T17:30:00.120Z", "2001-07-01T17:30:00.12Z"), ("2001-07-01T17:30:00.000000Z", "2001-07-01T17:30:00Z")],
)  # fmt: skip
def test_dates_have_one_spelling(given: str, found: str) -> None:
    assert item(datetime=given)["properties"]["datetime"] == found


@pytest.mark.parametrize("given", ["yesterday", "2001-07-01T17:30:00"])
def test_a_date_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(SceneError, match="give `datetime`"):
        item(datetime=given)


def test_links_lead_to_the_collection_the_source_and_the_model() -> None:
    found = item()
    links = {(link["rel"], link["href"]) for link in found["links"]}
    folder = f"scenes/scene-1/{KEY}"
    resolved = {rel: posixpath.normpath(posixpath.join(folder, href)) for rel, href in links if "://" not in href}
    assert resolved == {
        "root": "catalog.json",
        "parent": "collections/landwater/collection.json",
        "collection": "collections/landwater/collection.json",
    }
    assert ("derived_from", "s3://bucket/in/scene-1%20%281%29.tif") in links
    (model,) = [link for link in found["links"] if "mlm:name" in link]
    assert (model["rel"], model["href"], model["mlm:name"]) == (
        "derived_from", "s3://models/landwater-6b/card.json", "landwater-6b",
    )  # fmt: skip
    back = posixpath.normpath(posixpath.join("collections/landwater", stac_item.item_href("scene-1", KEY)))
    assert unquote(back) == f"{folder}/item.json"


def test_a_scene_from_stac_is_linked_by_its_item() -> None:
    found = item(source_item="https://example.com/items/S2A")
    sources = [link["href"] for link in found["links"] if link["rel"] == "derived_from" and "mlm:name" not in link]
    assert sources == ["https://example.com/items/S2A"]


def test_the_same_result_gives_the_same_bytes() -> None:
    assert json.dumps(item()) == json.dumps(item())


def test_class_names_are_made_fit_for_machines_without_collisions() -> None:
    names = ("snow/ice", "snow ice", "水", "nodata", "a_b-1")
    found = stac_item.class_objects(card(tuple((name, "#aabbcc") for name in names)).classes)
    assert [one["name"] for one in found] == ["snow_ice", "snow_ice_1", "class_2", "nodata_3", "a_b-1", "nodata"]
    assert [one["title"] for one in found[:5]] == list(names)


@pytest.mark.parametrize("href", ["/etc/passwd", "../other/a.tif", "s3://bucket/a.tif", "file:///a"])
def test_assets_lie_beside_their_item(href: str) -> None:
    with pytest.raises(PublishError, match="beside its item"):
        stac_item.AssetInfo(name="a", href=href, media_type=stac_item.COG, roles=("data",))


def test_assets_with_one_name_and_bad_checksums_are_refused() -> None:
    one = stac_item.AssetInfo(name="a", href="./a.tif", media_type=stac_item.COG, roles=("data",))
    about = stac_item.Provenance(software={}, cards=((card(), "./card.json"),), settings={})
    with pytest.raises(PublishError, match="share a name"):
        stac_item.item(
            scene=scene(), product=card().name, card=card(), key=KEY, grid=UTM, rows=[], assets=[one, one], provenance=about
        )  # fmt: skip
    with pytest.raises(PublishError, match="sha256"):
        stac_item.AssetInfo(name="a", href="./a.tif", media_type=stac_item.COG, roles=("data",), sha256="etag")


def test_a_product_without_classes_lists_no_classification() -> None:
    band = stac_item.BandInfo(name="red", data_type="float32", nodata=float("nan"))
    asset = stac_item.AssetInfo(
        name="image", href="./image.tif", media_type=stac_item.COG, roles=("data",), bands=(band,), grid=UTM
    )
    about = stac_item.Provenance(software={"earthloom": "0"}, cards=((card(), "./card.json"),), settings={})
    found = stac_item.item(
        scene=scene(), product=card().name, card=card(), key=KEY, grid=UTM, rows=[], assets=[asset], provenance=about
    )
    validate(found)
    assert not any("classification" in uri or "file" in uri for uri in found["stac_extensions"])
    assert found["assets"]["image"]["bands"][0]["nodata"] == "nan"


def test_an_empty_map_has_statistics_too() -> None:
    none = Tally(pixels=(0, 0), areas_m2=(0.0, 0.0), confidence_sums=(0, 0), nodata=9)
    assert classes_band(none).statistics == {"count": 9, "valid_percent": 0.0}
    assert confidence_band(none).statistics == {"count": 9, "valid_percent": 0.0}
    assert confidence_band(counted()).statistics is not None


def test_an_antimeridian_scene_is_valid() -> None:
    grid = Grid(crs="EPSG:4326", transform=(0.1, 0.0, 178.0, 0.0, -0.1, -16.0), width=64, height=48)
    found = item(grid)
    validate(found)
    assert found["bbox"][0] > found["bbox"][2]
