from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pystac
import pytest

from earthloom.jobs.intake import stac
from earthloom.jobs.intake.stac import StacItem, read_items, resolve_href
from earthloom.tiling.errors import ConfigError, EarthloomError, SceneError
from earthloom.tiling.storage.objects import ObjectRef
from tests.http_range_server import serve

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def document(item_id: str = "S2_x", **assets: dict[str, Any]) -> dict[str, Any]:
    """A STAC 1.1 item with one asset per keyword."""
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": item_id, "geometry": None, "links": [],
        "properties": {"datetime": "2024-05-01T10:00:00Z"}, "assets": assets,
    }  # fmt: skip


def asset(href: str, **more: Any) -> dict[str, Any]:
    return {"href": href, "type": TIFF, "roles": ["data"], **more}


def save(path: Path, content: object) -> ObjectRef:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return ObjectRef.parse(str(path))


def one(path: Path, content: object) -> StacItem:
    (item,) = read_items(save(path, content))
    return item


def test_bands_of_stac_1_1_are_read(tmp_path: Path) -> None:
    bands = [{"name": "B02", "eo:common_name": "blue", "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}]
    item = one(tmp_path / "i.json", document(B02=asset("./B02.tif", bands=bands)))
    assert (item.id, item.datetime, item.problem) == ("S2_x", "2024-05-01T10:00:00Z", "")
    (found,) = item.assets
    assert found.ref.path == tmp_path / "B02.tif"
    (band,) = found.bands
    assert (band.name, band.common_name, band.scale, band.offset, band.nodata) == ("B02", "blue", 1e-4, -0.1, 0.0)


def test_bands_of_stac_1_0_are_read_as_pystac_migrates_them(tmp_path: Path) -> None:
    old = document(B02=asset("B02.tif", **{
        "eo:bands": [{"name": "B02", "common_name": "blue"}],
        "raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": "nan", "unit": "1"}],
    })) | {"stac_version": "1.0.0"}  # fmt: skip
    (found,) = one(tmp_path / "i.json", old).assets
    (band,) = found.bands
    assert (band.name, band.common_name, band.scale, band.offset) == ("B02", "blue", 1e-4, -0.1)
    assert band.nodata is not None
    assert math.isnan(band.nodata)
    migrated = pystac.Item.from_dict(old, migrate=True).to_dict()
    assert one(tmp_path / "j.json", migrated).assets[0].bands[0].common_name == "blue"


def test_fields_of_an_asset_hold_for_its_bands(tmp_path: Path) -> None:
    both = asset("a.tif", **{"raster:scale": 0.5, "bands": [{"name": "r"}, {"name": "g", "raster:scale": 0.25}]})
    single = asset("b.tif", **{"eo:common_name": "nir", "raster:scale": 2})
    item = one(tmp_path / "i.json", document(both=both, single=single))
    assert [band.scale for band in item.assets[0].bands] == [0.5, 0.25]
    assert [(band.common_name, band.scale) for band in item.assets[1].bands] == [("nir", 2.0)]


def test_only_tiffs_with_data_are_taken(tmp_path: Path) -> None:
    item = one(
        tmp_path / "i.json",
        document(
            red=asset("red.tif"),
            no_type={"href": "nir.TIFF"},
            jp2={"href": "red.jp2", "type": "image/jp2", "roles": ["data"]},
            thumbnail=asset("thumb.tif") | {"roles": ["thumbnail"]},
            visual=asset("tci.tif") | {"roles": ["visual"]},
            metadata={"href": "mtd.xml", "type": "application/xml"},
            mask=asset("scl.tif") | {"roles": ["data", "snow-ice"], "bands": [{"name": "scl"}]},
        ),
    )
    assert [found.key for found in item.assets] == ["red", "no_type", "mask"]
    assert [band.categorical for band in item.assets[2].bands] == [True]


def test_an_item_without_tiffs_says_what_it_has(tmp_path: Path) -> None:
    item = one(tmp_path / "i.json", document(jp2={"href": "a.jp2", "type": "image/jp2"}))
    assert item.problem == "item 'S2_x' has no TIFF with data; its assets are of type image/jp2"


def test_facts_that_scaling_needs_are_read(tmp_path: Path) -> None:
    result = document(red=asset("a.tif"))
    result["properties"] |= {
        "view:sun_elevation": 51.5, "s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True,
        "datetime": None, "start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-02-01T00:00:00Z",
    }  # fmt: skip
    item = one(tmp_path / "i.json", result)
    assert (item.sun_elevation_deg, item.processing_baseline, item.offset_applied) == (51.5, "05.09", True)
    assert item.datetime == "2024-01-01T00:00:00Z"


def test_an_item_collection_keeps_good_items_beside_bad_ones(tmp_path: Path) -> None:
    features = [document("good", red=asset("a.tif")), document("bad", red=asset("/etc/a.tif")), "no item", {"id": 3}]
    good, bad, *odd = read_items(save(tmp_path / "c.json", {"type": "FeatureCollection", "features": features}))
    assert good.problem == ""
    assert "outside the folder" in bad.problem
    assert ["not a STAC item" in item.problem for item in odd] == [True, True]


def test_a_catalogue_written_by_pystac_is_followed_to_the_items_of_its_children(tmp_path: Path) -> None:
    catalog = pystac.Catalog("root", "test")
    collection = pystac.Collection("child", "test", extent=pystac.Extent.from_dict(
        {"spatial": {"bbox": [[0, 0, 1, 1]]}, "temporal": {"interval": [[None, None]]}}
    ))  # fmt: skip
    catalog.add_child(collection)
    for name, parent in (("direct", catalog), ("below", collection)):
        item = pystac.Item.from_dict(document(name, red=asset(str(tmp_path / "cat" / f"{name}.tif"))))
        parent.add_item(item)
    catalog.normalize_and_save(str(tmp_path / "cat"), pystac.CatalogType.SELF_CONTAINED)
    items = read_items(ObjectRef.parse(str(tmp_path / "cat" / "catalog.json")))
    assert {item.id: item.assets[0].ref.path for item in items} == {
        name: tmp_path / "cat" / f"{name}.tif" for name in ("direct", "below")
    }
    assert all(Path(item.url).parent.name == item.id for item in items)


@pytest.mark.parametrize("href", ["https://[bad/x.tif", "file:///tmp/a%00b.tif", "a%00b.tif", "https://\u2100/x.tif"])
def test_an_address_that_is_none_costs_its_own_item_only(tmp_path: Path, href: str) -> None:
    features = [document("bad", red=asset(href)), document("good", red=asset("a.tif"))]
    bad, good = read_items(save(tmp_path / "c.json", {"type": "FeatureCollection", "features": features}))
    assert (bool(bad.problem), good.problem) == (True, "")


def test_a_link_that_leads_nowhere_is_one_bad_item(tmp_path: Path) -> None:
    save(tmp_path / "a.json", document("a", red=asset("a.tif")))
    links = [
        {"rel": "item", "href": "./a.json"},
        {"rel": "item", "href": "./gone.json"},
        {"rel": "child", "href": "x.json"},
    ]
    items = read_items(save(tmp_path / "catalog.json", {"type": "Catalog", "links": links}))
    assert items[0].problem == ""
    assert "gone.json does not exist" in items[1].problem
    assert "x.json does not exist" in items[2].problem


def test_a_catalogue_that_links_to_itself_ends(tmp_path: Path) -> None:
    links = [{"rel": "child", "href": "catalog.json"}, {"rel": "item", "href": "catalog.json"}]
    items = read_items(save(tmp_path / "catalog.json", {"type": "Catalog", "links": links}))
    assert all("not a STAC item" in item.problem for item in items)


def test_links_and_bytes_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = [{"rel": "item", "href": f"{number}.json"} for number in range(5)]
    ref = save(tmp_path / "catalog.json", {"type": "Catalog", "links": links})
    monkeypatch.setattr(stac, "MAX_DOCUMENTS", 4)
    with pytest.raises(ConfigError, match="leads to more than 4 items and catalogues"):
        read_items(ref)
    monkeypatch.setattr(stac, "MAX_JSON_BYTES", 100)
    with pytest.raises(ConfigError, match=r"catalog\.json has \d+ bytes; a STAC file of at most 100"):
        read_items(ref)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\x00", '{"a": ' + "9" * 5000 + "}"])
def test_what_is_not_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ConfigError, match=r"a\.json is not JSON"):
        read_items(ObjectRef.parse(str(tmp_path / "a.json")))


@pytest.mark.parametrize("content", [[], {}, {"type": "Polygon"}, {"type": ["Feature"]}])
def test_json_that_is_not_stac_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ConfigError, match=r"a\.json is not STAC"):
        read_items(save(tmp_path / "a.json", content))


def test_an_empty_collection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FeatureCollection without items"):
        read_items(save(tmp_path / "a.json", {"type": "FeatureCollection", "features": []}))


@pytest.mark.parametrize("number", [10**400, True, "5", None, [1], {"a": 1}, 0, 0.0])
def test_numbers_that_are_none_are_ignored(tmp_path: Path, number: object) -> None:
    item = one(tmp_path / "i.json", document(red=asset("a.tif", **{"raster:scale": number, "bands": [{"name": "x"}]})))
    assert item.assets[0].bands[0].scale is None


WEB = ObjectRef.parse("https://example.com/stac/x/item.json")
BUCKET = ObjectRef.parse("s3://bucket/stac/x/item.json")


@pytest.mark.parametrize(
    ("base", "href", "url"),
    [
        (WEB, "./a.tif", "https://example.com/stac/x/a.tif"),
        (WEB, "../y/a.tif", "https://example.com/stac/y/a.tif"),
        (WEB, "../../../../../etc/passwd", "https://example.com/etc/passwd"),
        (WEB, "/a.tif", "https://example.com/a.tif"),
        (WEB, "s3://other/a.tif", "s3://other/a.tif"),
        (WEB, "a%20b.tif", "https://example.com/stac/x/a%20b.tif"),
        (BUCKET, "../a.tif", "s3://bucket/stac/a.tif"),
        (BUCKET, "../../../a.tif", "s3://bucket/a.tif"),
    ],
)
def test_links_of_a_network_document_stay_on_its_host(base: ObjectRef, href: str, url: str) -> None:
    assert resolve_href(href, base, None).url == url


@pytest.mark.parametrize("base", [WEB, BUCKET])
@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd", "FILE:///etc/passwd", "http://169.254.169.254/latest", "HTTP://localhost/x", "//evil/x.tif",
        "/vsicurl/http://x/a.tif?x", "vrt://x", "GTIFF_DIR:1:/etc/x", "a.tif?sig=secret", "https://u:p@host/a.tif", "..\\x",
        "data:image/tiff;base64,AA", "swift://bucket/a.tif", "a\x00.tif",
        "https://[bad/x.tif", "https://example.com/a%00b.tif",
    ],
)  # fmt: skip
def test_a_network_document_cannot_name_local_files_or_odd_forms(base: ObjectRef, href: str) -> None:
    with pytest.raises(EarthloomError) as caught:
        resolve_href(href, base, None)
    assert "secret" not in str(caught.value)


def test_links_of_a_local_document_stay_below_what_the_user_named(tmp_path: Path) -> None:
    root = tmp_path / "cat"
    base = save(root / "items" / "i.json", {})
    outside = tmp_path / "secret.tif"
    outside.write_bytes(b"")
    (root / "link.tif").symlink_to(outside)
    assert resolve_href("../assets/a.tif", base, root).path == root / "assets" / "a.tif"
    assert resolve_href(str(root / "a.tif"), base, root).path == root / "a.tif"
    assert resolve_href((root / "a.tif").as_uri(), base, root).path == root / "a.tif"
    assert resolve_href("s3://bucket/a.tif", base, root).url == "s3://bucket/a.tif"
    for href in ("../../secret.tif", "/etc/passwd", "file:///etc/passwd", "../link.tif", "../../cat2/a.tif"):
        with pytest.raises(SceneError, match=r"outside the folder .*give that file itself"):
            resolve_href(href, base, root)


def test_an_item_on_the_web_is_read_with_its_assets_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x" / "i.json", document("web", red=asset("a.tif"), bad=asset("b.tif")))
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        (item,) = read_items(ObjectRef.parse(server.url("x/i.json")))
        assert [found.ref.url for found in item.assets] == [server.url("x/a.tif"), server.url("x/b.tif")]


def test_a_catalogue_is_followed_to_items_at_any_depth_and_in_circles(tmp_path: Path) -> None:
    catalog = pystac.Catalog("root", "test")
    year = pystac.Catalog("2024", "test")
    month = pystac.Catalog("2024-05", "test")
    catalog.add_child(year)
    year.add_child(month)
    for name, parent in (("above", year), ("deep", month)):
        item = pystac.Item.from_dict(document(name, red=asset(str(tmp_path / "cat" / f"{name}.tif"))))
        parent.add_item(item)
    catalog.normalize_and_save(str(tmp_path / "cat"), pystac.CatalogType.SELF_CONTAINED)
    lowest = tmp_path / "cat" / "2024" / "2024-05" / "catalog.json"
    back = json.loads(lowest.read_text())
    back["links"].append({"rel": "child", "href": "../../catalog.json"})
    lowest.write_text(json.dumps(back))
    items = read_items(ObjectRef.parse(str(tmp_path / "cat" / "catalog.json")))
    assert [item.id for item in items] == ["above", "deep"]


@pytest.mark.parametrize(
    "said", [{"numberMatched": 40}, {"context": {"matched": 40}}, {"search:metadata": {"matched": 40}}]
)
def test_one_page_of_a_search_says_that_it_is_not_all(tmp_path: Path, said: dict[str, Any]) -> None:
    features = [document("a", red=asset("a.tif")), document("b", red=asset("b.tif"))]
    first, second = read_items(save(tmp_path / "c.json", {"type": "FeatureCollection", "features": features, **said}))
    assert "c.json holds 2 of the 40 items that the search found" in first.notes[0]
    assert not second.notes
    whole = {"type": "FeatureCollection", "features": features, "numberMatched": 2}
    assert not any(item.notes for item in read_items(save(tmp_path / "d.json", whole)))
