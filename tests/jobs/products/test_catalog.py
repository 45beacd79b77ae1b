from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import geopandas
import pystac
import pytest
from shapely.geometry import shape

from earthloom.jobs.products.item_table import items_parquet, read_items
from earthloom.jobs.products.stac_collection import add_to_catalog, add_to_collection
from earthloom.jobs.products.stac_item import item_href
from earthloom.tiling.errors import PublishError
from tests.jobs.products.samples import KEY, LONLAT, UTM, WKT, card, collection_of, item
from tests.jobs.products.stac_validate import validate

OTHER_KEY = KEY[::-1]


def entries() -> list[tuple[str, dict[str, Any]]]:
    items = [
        item(UTM, name="b"),
        item(LONLAT, name="a", datetime="2024-05-01T00:00:00.5Z"),
        item(UTM, name="a", key=OTHER_KEY, datetime="2024-05-01T00:00:00Z"),
    ]
    return [(item_href(one["properties"]["earthloom:scene"], one["properties"]["earthloom:key"]), one) for one in items]


def test_a_collection_is_the_same_in_whatever_order_items_arrive() -> None:
    whole = collection_of(entries())
    validate(whole)
    for order in itertools.permutations(entries()):
        result: dict[str, Any] | None = None
        for href, one in order:
            result = add_to_collection(result, name=card().name, card=card(), entries=[(href, one)])
        assert json.dumps(result) == json.dumps(whole)
        assert add_to_collection(result, name=card().name, card=card(), entries=[(href, one)]) == result


def test_extents_cover_all_items() -> None:
    result = collection_of(entries())
    ((west, south, east, north),) = result["extent"]["spatial"]["bbox"]
    for _, one in entries():
        assert west <= one["bbox"][0] <= one["bbox"][2] <= east
        assert south <= one["bbox"][1] <= one["bbox"][3] <= north
    assert result["extent"]["temporal"]["interval"] == [["2001-07-01T17:30:00Z", "2024-05-01T00:00:00.5Z"]]
    unknown = add_to_collection(result, name=card().name, card=card(), entries=[("c", item(name="c", datetime=None))])
    assert unknown["extent"]["temporal"]["interval"] == [["1957-10-04T00:00:00Z", "9999-12-31T23:59:59Z"]]


def test_an_item_of_the_same_id_is_replaced_and_others_stay() -> None:
    result = collection_of(entries())
    again = add_to_collection(
        result, name=card().name, card=card(), entries=[("../elsewhere/item.json", entries()[0][1])]
    )
    hrefs = [link["href"] for link in again["links"] if link["rel"] == "item"]
    assert len(hrefs) == 3
    assert "../elsewhere/item.json" in hrefs
    assert result == collection_of(entries())  # what was given is not changed


def test_what_an_operator_added_is_kept() -> None:
    result = collection_of(entries()[:1])
    result |= {"providers": [{"name": "ACME"}], "license": "CC-BY-4.0", "keywords": ["water"]}
    result["links"].append({"rel": "license", "href": "https://example.com/license"})
    again = add_to_collection(result, name=card().name, card=card(), entries=entries()[1:2])
    validate(again)
    assert (again["providers"], again["license"], again["keywords"]) == ([{"name": "ACME"}], "CC-BY-4.0", ["water"])
    assert {"rel": "license", "href": "https://example.com/license"} in again["links"]
    catalog = add_to_catalog(None, "landwater", "./collections/landwater/collection.json") | {"title": "Mine"}
    catalog["links"].append({"rel": "about", "href": "https://example.com"})
    assert add_to_catalog(catalog, "landwater", "./collections/landwater/collection.json")["title"] == "Mine"
    assert {"rel": "about", "href": "https://example.com"} in add_to_catalog(catalog, "x", "./x.json")["links"]


def test_catalogs_grow_in_any_order() -> None:
    one = add_to_catalog(add_to_catalog(None, "a", "./a.json"), "b", "./b.json")
    other = add_to_catalog(add_to_catalog(None, "b", "./b.json"), "a", "./a.json")
    validate(one)
    assert one == other == add_to_catalog(one, "a", "./a.json")


def test_foreign_objects_are_not_overwritten() -> None:
    first = entries()[0]
    with pytest.raises(PublishError, match="output folder of its own"):
        add_to_catalog({"type": "Catalog", "id": "someone-else"}, "a", "./a.json")
    with pytest.raises(PublishError, match="Collection 'landwater'"):
        add_to_collection({"type": "Collection", "id": "x"}, name=card().name, card=card(), entries=[first])
    result = collection_of([first])
    del result["links"][-1]["earthloom:bbox"]
    with pytest.raises(PublishError, match=r"Delete collection\.json"):
        add_to_collection(result, name=card().name, card=card(), entries=[("x", entries()[1][1])])
    with pytest.raises(PublishError, match="no items"):
        collection_of([])


def test_pystac_walks_from_the_catalog_to_every_item(tmp_path: Path) -> None:
    files = {
        "catalog.json": add_to_catalog(None, "landwater", "./collections/landwater/collection.json"),
        "collections/landwater/collection.json": collection_of(entries()),
    }
    for _, one in entries():
        result = one["properties"]
        files[f"scenes/{result['earthloom:scene']}/{result['earthloom:key']}/item.json"] = one
    for name, value in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(value))
    catalog = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    found = {one.id: one for one in catalog.get_items(recursive=True)}
    assert set(found) == {one["id"] for _, one in entries()}
    for read in found.values():
        assert read.get_collection() is not None
        assert read.get_root() is catalog
        href = read.assets["classes"].get_absolute_href() or ""
        assert Path(href).parent == Path(read.get_self_href() or "").parent


def test_items_come_back_from_the_table() -> None:
    items = [*(one for _, one in entries()), item(WKT, name="wkt", datetime=None)]
    table = items_parquet(items)
    assert table == items_parquet(items[::-1])
    back = read_items(table)
    assert back == sorted(items, key=lambda one: str(one["id"]))
    for one in back:
        validate(one)


def test_geopandas_reads_the_table() -> None:
    frame = geopandas.read_parquet(io.BytesIO(items_parquet([one for _, one in entries()])))
    for _, one in entries():
        (row,) = [row for row in frame.itertuples() if row.id == one["id"]]
        assert row.geometry.equals(shape(one["geometry"]))
    assert frame.crs.to_epsg() == 4326


def test_tables_that_are_none_are_refused() -> None:
    with pytest.raises(PublishError, match="at least one"):
        items_parquet([])
    with pytest.raises(PublishError, match="made again"):
        read_items(b"PAR1 but not really")
