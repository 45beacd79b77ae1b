"""One table for results of all types, against stac-geoparquet's own reading and pystac."""

from __future__ import annotations

import io
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stac_geoparquet.arrow import stac_table_to_items

from earthloom.jobs.products import stac_item
from earthloom.jobs.products.item_table import (
    items_parquet,
    latest_ids,
    latest_items,
    latest_parquet,
    published_of,
    read_items,
)
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid
from tests.jobs.products.samples import KEY, UTM, WKT, card, item, scene
from tests.jobs.products.stac_validate import validate

DTYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64")


def image_item(
    name: str, bands: tuple[tuple[str, str, float | None, dict[str, float]], ...], grid: Grid = UTM,
    datetime: str | None = "2001-07-01T17:30:00Z", key: str = KEY,
) -> dict[str, Any]:  # fmt: skip
    """The item of an image; each band is (name, dtype, nodata, statistics)."""
    infos = tuple(
        stac_item.BandInfo(name=band, data_type=dtype, nodata=nodata, scale=1.0, statistics=statistics)
        for band, dtype, nodata, statistics in bands
    )
    asset = stac_item.AssetInfo(
        name="image", href="./image.tif", media_type=stac_item.COG, roles=("data",), bands=infos, grid=grid, size=1
    )
    about = stac_item.Provenance(
        software={"earthloom": "0"}, cards=((card(), "./card.json"),), settings={"shard_px": 512}
    )
    return stac_item.item(scene=scene(grid, name, datetime), product=card().name, card=card(), key=key, grid=grid, rows=[],
                          assets=[asset], provenance=about)  # fmt: skip


nodata_values = st.one_of(
    st.none(), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -9999.0, 255.0, -3.4028234663852886e38, 1.8e19])
)
statistic = st.floats(-1e300, 1e300) | st.integers(-(2**40), 2**40)
band_parts = st.tuples(
    st.sampled_from(["red", "nir", "swir16", "pan"]),
    st.sampled_from(DTYPES),
    nodata_values,
    st.dictionaries(st.sampled_from(["minimum", "maximum", "mean", "stddev"]), statistic)
    | st.dictionaries(st.just("count"), st.integers(0, 2**50)),
)
item_parts = st.tuples(
    st.lists(band_parts, min_size=1, max_size=5), st.sampled_from([UTM, WKT]),
    st.sampled_from(["2001-07-01T17:30:00Z", "2024-05-01T00:00:00.5Z", None]),
)  # fmt: skip


@settings(deadline=None, max_examples=25)
@given(parts=st.lists(item_parts, min_size=1, max_size=5), with_map=st.booleans(), data=st.data())
def test_products_of_all_types_and_band_counts_share_a_table_and_come_back(
    parts: list[Any], with_map: bool, data: Any
) -> None:
    items = [
        image_item(f"s{number}", tuple(bands), grid, datetime) for number, (bands, grid, datetime) in enumerate(parts)
    ] + ([item(name="map")] if with_map else [])
    table = items_parquet(items)
    back = read_items(table)
    assert back == sorted(items, key=lambda one: str(one["id"]))
    assert items_parquet(data.draw(st.permutations(items))) == table
    assert items_parquet(back) == table  # what a later run merges into
    for one in back:
        validate(one)


def test_the_type_of_a_column_does_not_depend_on_which_items_are_in_the_table() -> None:
    whole = image_item("a", (("red", "uint16", 0, {"minimum": 1, "maximum": 9, "count": 4}),))
    real = image_item("b", (("red", "float32", math.nan, {"minimum": 0.5, "maximum": 0.7, "count": 4}),))
    schemas = [
        pq.read_schema(pa.BufferReader(items_parquet(items))).field("assets").type for items in ([whole], [real])
    ]
    assert schemas[0] == schemas[1]
    (band,) = (bands.type.value_type for bands in schemas[0].field("image").type if bands.name == "bands")
    assert (band.field("nodata").type, band.field("statistics").type.field("count").type) == (pa.float64(), pa.int64())


def test_pystac_reads_every_row_of_a_mixed_table() -> None:
    items = [
        image_item("a", (("red", "uint16", 0, {"minimum": 1}),)),
        image_item("b", (("red", "float32", math.nan, {}), ("nir", "float32", math.nan, {}))),
        item(name="c"),
    ]
    rows = list(stac_table_to_items(pq.read_table(io.BytesIO(items_parquet(items)))))
    assert [pystac.Item.from_dict(row).properties["earthloom:scene"] for row in rows] == ["a", "b", "c"]


def test_a_field_of_two_kinds_ends_in_a_message_and_not_in_arrow() -> None:
    odd = image_item("b", (("red", "uint8", 0, {}),))
    odd["properties"]["gsd"] = "thirty"
    with pytest.raises(PublishError, match=r"do not fit in one table.*the scenes are published"):
        items_parquet([image_item("a", (("red", "uint8", 0, {}),)), odd])


def test_an_item_keeps_the_id_of_its_source_where_its_scene_has_another() -> None:
    from dataclasses import replace

    found = image_item("a", (("red", "uint8", 0, {}),))
    assert "earthloom:source_id" not in found["properties"]
    named = replace(scene(name="a-1"), source_id="urn:scene:a/1", source_item="https://example.com/i.json")
    about = stac_item.Provenance(
        software={"earthloom": "0"}, cards=((card(), "./card.json"),), settings={}, source_item=named.source_item
    )
    made = stac_item.item(
        scene=named, product=card().name, card=card(), key=KEY, grid=UTM, rows=[], assets=[], provenance=about
    )
    assert made["properties"]["earthloom:source_id"] == "urn:scene:a/1"
    assert [link["title"] for link in made["links"] if link["href"] == named.source_item] == [
        "Source scene urn:scene:a/1"
    ]
    validate(made)


OTHER_KEY = KEY[::-1]


@settings(deadline=None, max_examples=30)
@given(
    results=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([KEY, OTHER_KEY, "5" * 64]), st.none() | st.integers(0, 3)),
        min_size=1, max_size=7, unique_by=lambda one: one[:2],
    ),
    data=st.data(),
)  # fmt: skip
def test_exactly_one_result_of_each_scene_counts_and_it_is_the_last_committed(results: list[Any], data: Any) -> None:
    items = [item(name=name, key=key) for name, key, _ in results]
    published = {
        one["id"]: None if day is None else f"2026-07-0{day + 1}T00:00:00.25Z"
        for one, (_, _, day) in zip(items, results, strict=True)
    }
    table = items_parquet(items, published)
    assert items_parquet(data.draw(st.permutations(items)), published) == table
    assert published_of(table) == published
    rows = pq.read_table(io.BytesIO(table), columns=["scene", "key", "superseded"]).to_pylist()
    for of in {name for name, _, _ in results}:
        counting = [row["key"] for row in rows if row["scene"] == of and not row["superseded"]]
        ranked = sorted((-1 if day is None else day, key) for name, key, day in results if name == of)
        assert counting == [ranked[-1][1]]
    latest = pq.read_table(io.BytesIO(latest_parquet(table)))
    assert latest.column("scene").to_pylist() == sorted({name for name, _, _ in results})
    assert latest.schema.names == pq.read_schema(io.BytesIO(table)).names
    assert latest_ids(table) == set(latest.column("id").to_pylist())
    assert latest_items(table) == read_items(latest_parquet(table))


def test_columns_of_classes_hold_true_areas_shares_and_confidence() -> None:
    image = image_item("x", (("red", "uint8", 0, {}),))
    both = pq.read_table(io.BytesIO(items_parquet([item(name="map"), image]))).to_pylist()
    row, none = (next(one for one in both if one["scene"] == of) for of in ("map", "x"))
    said = item(name="map")["properties"]["earthloom:class_areas"]
    for name, area in zip(("shadow", "water", "snow_ice", "land"), said, strict=True):
        assert row[f"{name}_m2"] == area["area_m2"]
        assert row[f"{name}_percent"] == area["percent"]
        assert row[f"{name}_confidence"] == area.get("mean_confidence")
        assert none[f"{name}_m2"] is None


def test_a_table_of_another_make_is_refused_with_the_remedy() -> None:
    plain = pa.table({"id": ["a"]})
    buffer = io.BytesIO()
    pq.write_table(plain, buffer)
    for read in (read_items, latest_parquet, latest_ids, latest_items, published_of):
        with pytest.raises(PublishError, match=r"cannot be read .*delete it: it is made again"):
            read(buffer.getvalue())
