"""Ids and values of STAC items: any id, nodata in every spelling, whatever else stands in a field."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import assign_ids, expand, open_scene
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.tiling.scene import SCENE_ID
from tests.jobs.intake.stac_items import INSPECTORS, TIFF, files, one, opened, save

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    "item_id", ["46/033132022030/2023-01-01-ms", "urn:scene:1", "two words", "übersee", "a\nb", "", "x" * 300]
)
def test_any_id_gets_a_safe_folder_and_stays_in_the_item(tmp_path: Path, item_id: str) -> None:
    path = save(tmp_path, files(tmp_path, "green"), item_id)
    scene = opened(path).scene
    assert SCENE_ID.fullmatch(scene.id)
    assert scene.source_id == (item_id or None)
    (request,) = assign_ids(expand([str(path)]), "mine")
    mine = open_scene(request, SceneOptions(), INSPECTORS).scene
    assert (mine.id, mine.source_id) == ("mine", item_id or None)


@settings(deadline=None)
@given(ids=st.lists(st.text(max_size=40), min_size=2, max_size=6, unique=True))
def test_different_ids_get_different_folders(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("x")
    features: list[dict[str, Any]] = [
        {"type": "Feature", "stac_version": "1.0.0", "id": one, "geometry": None, "links": [], "properties": {},
         "assets": {"a": {"href": "./a.tif", "type": TIFF}}} for one in ids
    ]  # fmt: skip
    (folder / "c.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    requests = assign_ids(expand([str(folder / "c.json")]))
    assert len({request.id for request in requests}) == len(ids)
    assert not any(request.problem for request in requests)
    assert all(SCENE_ID.fullmatch(request.id) for request in requests)


@pytest.mark.parametrize(
    ("written", "right"),
    [
        (0, 0.0), ("0", 0.0), ("-9999", -9999.0), ("-3.4028234663852886e+38", -3.4028234663852886e38), ("NaN", math.nan),
        ("nan", math.nan), ("inf", math.inf), ("-Infinity", -math.inf), ("none", None), ("1e", None), (True, None), ([], None),
        ("9" * 500, None), (" 255 ", 255.0),
    ],
)  # fmt: skip
def test_nodata_is_read_as_a_number_a_word_or_decimal_text(tmp_path: Path, written: Any, right: float | None) -> None:
    path = save(tmp_path, {"a": {"href": "./a.tif", "raster:bands": [{"nodata": written}]}})
    found = one(path).assets[0].bands[0].nodata
    assert found == right or (right is not None and found is not None and math.isnan(right) and math.isnan(found))


def test_a_unit_that_is_no_reflectance_is_not_taken_for_it(tmp_path: Path) -> None:
    for unit in ("cm", "kelvin", "g/cm^2", "kg m-2", "W/m^2/sr/um", "degree"):
        path = save(tmp_path, {"a": {"href": "./a.tif", "raster:bands": [{"scale": 0.1, "unit": unit}]}})
        assert not one(path).assets[0].bands[0].reflectance, unit


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.sampled_from(["B02", "red", "nan"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["name", "common_name", "href"]), inner)
    ),
    max_leaves=6,
)


FIELDS = ("href", "type", "roles", "eo:bands", "bands", "raster:bands", "alternate", "nodata", "eo:common_name")


FACTS = ("eo:bands", "platform", "datetime", "view:sun_elevation", "s2:processing_baseline")


@settings(deadline=None, max_examples=200)
@given(
    asset=st.dictionaries(st.sampled_from(FIELDS), json_values),
    properties=st.dictionaries(st.sampled_from(FACTS), json_values),
)
def test_whatever_stands_in_an_item_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, asset: dict[str, Any], properties: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("x") / "i.json"
    path.write_text(json.dumps({"type": "Feature", "id": "x", "properties": properties, "assets": {"a": asset}}))
    item = one(path)
    assert item.problem or item.assets
    for found in item.assets:
        assert all(isinstance(band, StacBand) for band in found.bands)
