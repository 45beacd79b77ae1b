"""STAC items as catalogues really write them: what a run takes of them, against pystac where it has an opinion."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.extensions.eo import EOExtension

from earthloom.jobs.config import load
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, assign_ids, expand, open_all, open_scene
from earthloom.jobs.intake.stac import StacItem, read_items
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.jobs.intake.wanted import Need, Wanted, needs, pick
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.models.zoo import ZOO
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import SCENE_ID
from earthloom.tiling.storage.objects import ObjectRef
from tests.http_range_server import serve
from tests.scenes import landscape, write_scene

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
_inspectors = Disposables()  # its child goes with this process


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))


def band(name: str | None = None, common: str | None = None, **more: Any) -> dict[str, Any]:
    """A band of STAC 1.0's `eo:bands`."""
    return {**({"name": name} if name else {}), **({"common_name": common} if common else {}), **more}


def save(folder: Path, assets: dict[str, dict[str, Any]], item_id: str = "x", **properties: Any) -> Path:
    """Write an item of STAC 1.0 whose assets are TIFFs with data unless they say otherwise."""
    whole = {key: {"type": TIFF, "roles": ["data"], **asset} for key, asset in assets.items()}
    item: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.0.0", "id": item_id, "geometry": None, "links": [],
        "properties": {"datetime": "2024-01-01T16:00:00Z", **properties}, "assets": whole,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "item.json"
    path.write_text(json.dumps(item))
    return path


def files(folder: Path, *names: str, **options: Any) -> dict[str, dict[str, Any]]:
    """Files of one band, each an asset of its name."""
    for name in names:
        write_scene(folder / f"{name}.tif", landscape(64, 64, 1), **{"nodata": 0, **options})
    return {name: {"href": f"./{name}.tif"} for name in names}


def wanted(*models: str) -> Wanted:
    return Wanted.by([ZOO[name].cards for name in models])


def opened(path: Path, *models: str, **options: Any) -> OpenedScene:
    (request,) = assign_ids(expand([str(path)], options.get("alternate")))
    return open_scene(request, SceneOptions(**options), _inspectors, models=wanted(*models) if models else None)


def names(scene: OpenedScene) -> list[str]:
    return [one.name for one in scene.scene.bands]


def one(path: Path) -> StacItem:
    (item,) = read_items(ObjectRef.parse(str(path)))
    return item


def planned(path: Path, model: str, tmp_path: Path, **options: Any) -> RunPlan:
    return plan(load({"scenes": [str(path)], "model": model, "out": str(tmp_path / "out"), **options}))


# ---- names of bands


LANDSAT = (("blue", 2, "blue"), ("green", 3, "green"), ("red", 4, "red"), ("nir08", 5, "nir08"), ("swir16", 6, "swir16"),
           ("swir22", 7, "swir22"))  # fmt: skip


@pytest.mark.parametrize("sensor", ["landsat8-c2l2", None])
@pytest.mark.parametrize("naming", ["OLI_B{}", "SR_B{}", "B{}"])
def test_landsats_near_infrared_is_nir_to_a_model_that_asks_for_it(
    tmp_path: Path, sensor: str | None, naming: str
) -> None:
    stem = "LC08_L2SP_017039_20240101_20240110_02_T1"
    assets = {}
    for key, number, common in LANDSAT:
        write_scene(tmp_path / f"{stem}_SR_B{number}.TIF", landscape(64, 64, 1), nodata=0)
        assets[key] = {
            "href": f"./{stem}_SR_B{number}.TIF", "eo:bands": [band(naming.format(number), common)],
            "raster:bands": [{"nodata": 0, "scale": 2.75e-05, "offset": -0.2}],
        }  # fmt: skip
    path = save(tmp_path, assets, stem)
    scene = opened(path, "landwater", **({"sensor": sensor} if sensor else {}))
    assert names(scene) == ["blue", "green", "red", "nir", "swir16", "swir22"]
    assert "nir08 is taken for nir, which the scene does not have under that name" in scene.notes
    assert {(b.scale, b.offset) for b in scene.scene.bands} == {(2.75e-05, -0.2)}
    assert names(opened(path))[3] == "nir08"  # where no model asks, the item's own name stays


@pytest.mark.parametrize("dialect", ["planetary computer", "plain", "names only", "stac 1.1"])
def test_the_red_edge_of_sentinel2_is_told_apart_in_every_dialect(tmp_path: Path, dialect: str) -> None:
    facts = {
        "B05": (0.704, 0.019, "rededge"), "B06": (0.74, 0.018, "rededge"), "B07": (0.783, 0.028, "rededge"),
        "B08": (0.842, 0.145, "nir"), "B8A": (0.865, 0.033, "rededge"), "B09": (0.945, 0.026, None),
    }  # fmt: skip
    assets = files(tmp_path, *facts)
    for name, (centre, width, common) in facts.items():
        if dialect == "planetary computer":
            assets[name]["eo:bands"] = [band(name, common, center_wavelength=centre, full_width_half_max=width)]
        elif dialect == "plain":
            assets[name]["eo:bands"] = [band(name, "rededge" if name in ("B05", "B06", "B07") else None)]
        elif dialect == "names only":
            assets[name]["eo:bands"] = [band(name)]
        else:
            fields = {"eo:common_name": common, "eo:center_wavelength": centre, "eo:full_width_half_max": width}
            assets[name]["bands"] = [{"name": name, **{key: value for key, value in fields.items() if value}}]
    path = save(tmp_path, assets, "S2B_MSIL2A_20240101T100319_R122_T32TQM_20240101T120000", platform="sentinel-2b")
    assert names(opened(path)) == ["rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09"]


def test_pystac_reads_the_same_common_names(tmp_path: Path) -> None:
    assets = files(tmp_path, "a", "b", "c")
    for key, common in (("a", "red"), ("b", "nir08"), ("c", "swir16")):
        assets[key]["eo:bands"] = [band(key.upper(), common)]
    path = save(tmp_path, assets)
    document = json.loads(path.read_text()) | {
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"]
    }
    item = pystac.Item.from_dict(document, migrate=False)
    theirs = [(EOExtension.ext(asset).bands or [])[0].common_name for asset in item.assets.values()]
    assert names(opened(path)) == theirs


def test_an_asset_that_lists_the_whole_sensor_is_its_own_band(tmp_path: Path) -> None:
    sensor = [band(f"B{n:02d}", common) for n, common in ((2, "blue"), (3, "green"), (4, "red"), (8, "nir"))]
    assets = files(tmp_path, "B03", "B08")
    for asset in assets.values():
        asset |= {"eo:bands": sensor, "raster:bands": [{"scale": s, "nodata": 0} for s in (1, 2, 3, 4)]}
    scene = opened(save(tmp_path, assets))
    assert names(scene) == ["green", "nir"]
    assert [b.scale for b in scene.scene.bands] == [2, 4]


def test_positions_in_the_items_list_are_bands_as_old_stac_writes_them(tmp_path: Path) -> None:
    assets = files(tmp_path, "x1", "x2")
    assets["x1"]["eo:bands"], assets["x2"]["eo:bands"] = [1], [0]
    listed = [band("B8", "nir"), band("B4", "red")]
    assert names(opened(save(tmp_path, assets, "x", **{"eo:bands": listed}))) == ["red", "nir"]


def test_a_key_that_is_a_common_name_names_its_band(tmp_path: Path) -> None:
    assets = files(tmp_path, "green", "swir16")
    for key, own in (("green", "B03"), ("swir16", "B11")):
        assets[key]["eo:bands"] = [band(own)]
    assert names(opened(save(tmp_path, assets))) == ["green", "swir16"]


bands_of_a_sensor = st.lists(
    st.tuples(st.from_regex(r"[A-Z]{1,2}_?[0-9]{1,2}[A-Z]?", fullmatch=True), st.sampled_from(["red", "nir", "blue"])),
    min_size=2, max_size=6, unique_by=lambda pair: pair[0].lower(),
)  # fmt: skip


@settings(deadline=None)
@given(sensor=bands_of_a_sensor, data=st.data(), prefix=st.sampled_from(["", "T32TQM_2020_", "scene-"]))
def test_a_band_of_a_whole_sensor_is_picked_only_if_key_or_file_name_it(sensor: Any, data: Any, prefix: str) -> None:
    bands = tuple(StacBand(name=name, common_name=common) for name, common in sensor)
    chosen = data.draw(st.sampled_from(bands))
    assert chosen.name
    assert pick(bands, chosen.name, "file") == (chosen,)
    assert pick(bands, "asset", f"{prefix}{chosen.name}") == (chosen,)
    assert pick(bands, "asset", "file") == ()


# ---- which files are data, and which are needed


@pytest.mark.parametrize(
    ("media_type", "href"),
    [
        ("image/vnd.stac.geotiff; cloud-optimized=true", "a.TIF"), ("image/vnd.stac.geotiff", "a.TIF"),
        ("image/tiff; application=geotiff; profile=cloud-optimized", "a.TIF"), ("image/tiff;application=geotiff", "a.TIF"),
        ("IMAGE/TIFF", "a.TIF"), ("image/geotiff", "a.TIF"), ("image/x.geotiff", "a.TIF"), ("application/x-geotiff", "a.TIF"),
        ("application/octet-stream", "a.TIF"), ("image/cog", "a.TIF"), (None, "a.TIF"), ("image/tiff", "a"),
    ],
)  # fmt: skip
def test_every_media_type_that_means_a_tiff_is_read(tmp_path: Path, media_type: str | None, href: str) -> None:
    write_scene(tmp_path / href, landscape(64, 64, 1), nodata=0)
    path = save(tmp_path, {"a": {"href": f"./{href}", "type": media_type, "eo:bands": [band("B3", "green")]}})
    assert names(opened(path)) == ["green"]


@pytest.mark.parametrize("asset", [
    {"href": "a.jp2", "type": "image/jp2"}, {"href": "a.xml", "type": "application/xml"},
    {"href": "a.tif", "type": "application/json"}, {"href": "a.tif", "roles": ["thumbnail"]},
    {"href": "a.tif", "roles": ["metadata"]}, {"href": "a.tif", "roles": ["Overview"]},
])  # fmt: skip
def test_what_is_no_tiff_with_data_is_not_read(tmp_path: Path, asset: dict[str, Any]) -> None:
    assert "has no TIFF with data" in one(save(tmp_path, {"a": asset})).problem


def test_a_picture_is_data_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    assets = files(tmp_path, "visual", "B04")
    assert [asset.key for asset in one(save(tmp_path, assets)).assets] == ["B04"]
    assert [asset.key for asset in one(save(tmp_path, {"visual": assets["visual"]})).assets] == ["visual"]


@pytest.mark.parametrize(
    "extra",
    [
        {"dem": {"href": "./gone.tif"}}, {"nir": {"href": "./gone.tif", "eo:bands": [band("B8", "nir")]}},
        {"B8": {"href": "gs://bucket/B8.tif", "eo:bands": [band("B8", "nir")]}},
        {"odd": {"href": "https://host/x.tif?sig=secret"}}, {"up": {"href": "../../../etc/x.tif"}},
        {"sun_zenith": {"href": "./other.tif"}}, {"mystery": {"href": "./other.tif"}}, {"mystery": {"href": "./broken.tif"}},
        {"red": {"href": "./other.tif", "eo:bands": [band("B4", "red")]}},
    ],
)  # fmt: skip
def test_a_file_that_no_model_asks_for_never_costs_the_scene(tmp_path: Path, extra: dict[str, Any]) -> None:
    assets = files(tmp_path, "green", "swir16")
    write_scene(tmp_path / "other.tif", landscape(64, 64, 1), crs="EPSG:32618")
    (tmp_path / "broken.tif").write_bytes(b"<html>login</html>")
    for key in assets:
        assets[key] |= {"eo:bands": [band(key, key)]}
    scene = opened(save(tmp_path, assets | extra), "water-index", scale=1e-4, quantity="boa_reflectance")
    assert names(scene) == ["green", "swir16"]
    assert len(scene.scene.assets) == 2
    assert scene.scene.grid.crs == "EPSG:32617"


def test_a_file_that_the_best_variant_needs_is_not_done_without(tmp_path: Path) -> None:
    assets = files(tmp_path, "green", "nir")
    for key in ("green", "nir", "swir16"):
        assets.setdefault(key, {"href": "./gone.tif"})["eo:bands"] = [band(key, key)]
    path = save(tmp_path, assets)
    (result,) = open_all(expand([str(path)]), SceneOptions(), models=wanted("water-index"))
    assert isinstance(result, RefusedScene)  # ndwi of green and nir would be another map than the item promises
    assert "gone.tif does not exist" in result.message
    del assets["swir16"]
    assert names(opened(save(tmp_path, assets), "water-index")) == ["green", "nir"]


def test_a_refusal_for_a_missing_band_says_what_was_left_out(tmp_path: Path) -> None:
    assets = files(tmp_path, "green") | {"mystery": {"href": "./gone.tif"}}
    assets["green"]["eo:bands"] = [band("B3", "green")]
    (refused,) = planned(save(tmp_path, assets), "water-index", tmp_path).refused
    assert "missing swir16" in refused.message
    assert "mystery was left out: " in refused.message
    assert "gone.tif does not exist" in refused.message


def test_the_grid_is_that_of_the_bands_which_models_ask_for(tmp_path: Path) -> None:
    from affine import Affine

    assets = files(tmp_path, "green", "swir16", transform=Affine(20, 0, 300000, 0, -20, 4500000))
    assets |= files(tmp_path, "red")
    for key in assets:
        assets[key]["eo:bands"] = [band(key, key)]
    assert opened(save(tmp_path, assets), "water-index").scene.grid.transform[0] == 20
    assert opened(save(tmp_path, assets)).scene.grid.transform[0] == 10


@pytest.mark.parametrize("sensor", [None, "sentinel2-l2a"])
@pytest.mark.parametrize("described", [True, False])
def test_classes_aerosol_and_water_vapour_are_never_taken_for_an_image(
    tmp_path: Path, sensor: str | None, described: bool
) -> None:
    assets = files(tmp_path, "B02", "B03", "B04", "SCL", "AOT", "WVP")
    for key, common in (("B02", "blue"), ("B03", "green"), ("B04", "red")):
        if described or not sensor:
            assets[key]["eo:bands"] = [band(key, common)]
    for key in ("SCL", "AOT", "WVP"):  # as Earth Search writes them
        assets[key] |= {"roles": ["data", "reflectance"], "raster:bands": [{"nodata": 0, "scale": 0.001}]}
    options = {"sensor": sensor} if sensor else {"quantity": "reflectance", "scale": 1e-4}
    scene = opened(save(tmp_path, assets), "destripe", **options)
    assert names(scene) == ["blue", "green", "red"]
    without_models = opened(save(tmp_path, assets), **options)
    assert [
        (b.name.lower(), b.categorical)
        for b in without_models.scene.bands
        if b.name.lower() not in ("blue", "green", "red")
    ] == [("scl", True)]


@pytest.mark.parametrize("name", ["SCL", "AOT", "WVP", "QA_PIXEL", "udm2"])
def test_masks_among_files_that_the_user_names_are_no_image_either(tmp_path: Path, name: str) -> None:
    files(tmp_path, "T32_B02", "T32_B03", f"T32_{name}")
    reference = ",".join(f"{tmp_path}/T32_{one}.tif" for one in ("B02", "B03", name))
    (request,) = expand([reference])
    scene = open_scene(request, SceneOptions(), _inspectors, models=wanted("destripe"))
    assert [b.name for b in scene.scene.bands if not b.categorical] == ["T32_B02", "T32_B03"]
    by_hand = open_scene(request, SceneOptions(bands=(("third", 3),)), _inspectors, models=wanted("destripe"))
    assert "third" in names(by_hand)


keys = st.sampled_from(
    ["green", "swir16", "nir", "red", "nir08", "SCL", "dem", "mystery", "rededge", "lwir11", "qa_pixel"]
)


@settings(deadline=None)
@given(present=st.sets(keys, min_size=1), model=st.sampled_from(["water-index", "landwater", "destripe", "burn-nbr"]))
def test_no_file_that_a_model_would_use_is_passed_over(present: set[str], model: str) -> None:
    commons = {"green", "swir16", "nir", "red", "nir08", "rededge", "lwir11"}
    ordered = sorted(present)
    listed = [(key, key, (StacBand(common_name=key),) if key in commons else ()) for key in ordered]
    found = dict(zip(ordered, needs(listed, wanted(model), None), strict=True))
    for key, need in found.items():
        if model == "destripe":
            image = key in commons and key != "lwir11"
            assert (need is Need.MUST) == image or not present & commons
        elif key in wanted(model).names:
            assert need is not Need.NOT
        elif key in commons - {"nir08"}:
            assert need is Need.NOT
    if model == "water-index" and {"green", "swir16"} <= present:
        assert {key for key, need in found.items() if need is Need.MUST} == {"green", "swir16"}


# ---- addresses


def test_another_address_is_named_where_the_first_fails_and_taken_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "a.tif", landscape(64, 64, 1), nodata=0)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        asset = {"href": server.url("gone.tif"), "eo:bands": [band("B3", "green")],
                 "alternate": {"copy": {"href": "./a.tif"}, "s3": {"href": "s3://bucket/a.tif"}}}  # fmt: skip
        path = save(tmp_path, {"a": asset})
        with pytest.raises(
            Exception, match=r"alternate address, copy \(\./a\.tif\), s3 \(.*take it by `alternate=copy`"
        ):
            opened(path)
        scene = opened(path, alternate="copy")
        assert scene.scene.assets[0].ref.path == tmp_path / "a.tif"
        with pytest.raises(
            SceneError, match=r"has an alternate address 'cpoy'; they have copy, s3 \(did you mean 'copy'\?\)"
        ):
            opened(path, alternate="cpoy")


def test_an_address_that_we_do_not_read_names_the_alternates(tmp_path: Path) -> None:
    asset = {"href": "swift://bucket/a.tif", "alternate": {"s3": {"href": "s3://bucket/a.tif?token=secret"}}}
    problem = one(save(tmp_path, {"a": asset})).problem
    assert "take it by `alternate=s3`" in problem
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("href", "file"),
    [
        ("./scene%20one.tif", "scene one.tif"), ("scene%20one.tif", "scene%20one.tif"), ("a%2Bb.tif", "a+b.tif"),
        ("f%C3%BCr.tif", "für.tif"), ("a+b.tif", "a+b.tif"), ("sub%20folder/x.tif", "sub folder/x.tif"),
        ("100%.tif", "100%.tif"), ("a#1.tif", "a#1.tif"),
    ],
)  # fmt: skip
def test_relative_addresses_are_percent_encoded_or_plain(tmp_path: Path, href: str, file: str) -> None:
    write_scene(tmp_path / file, landscape(64, 64, 1), nodata=0)
    assert opened(save(tmp_path, {"a": {"href": href}})).scene.assets[0].ref.path == tmp_path / file


@pytest.mark.parametrize(
    "href", ["%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fsecret.tif", "%2Fetc%2Fpasswd", "a%00.tif", "a" * 5000]
)
def test_encoded_addresses_leave_the_folder_no_more_than_plain_ones(tmp_path: Path, href: str) -> None:
    item = one(save(tmp_path / "in", {"a": {"href": href}, "b": {"href": "./b.tif"}}))
    assert [
        asset.key
        for asset in item.assets
        if asset.ref.scheme != "file" or not asset.ref.path.is_relative_to(tmp_path / "in")
    ] == []


# ---- ids


@pytest.mark.parametrize(
    "item_id", ["46/033132022030/2023-01-01-ms", "urn:scene:1", "two words", "übersee", "a\nb", "", "x" * 300]
)
def test_any_id_gets_a_safe_folder_and_stays_in_the_item(tmp_path: Path, item_id: str) -> None:
    path = save(tmp_path, files(tmp_path, "green"), item_id)
    scene = opened(path).scene
    assert SCENE_ID.fullmatch(scene.id)
    assert scene.source_id == (item_id or None)
    (request,) = assign_ids(expand([str(path)]), "mine")
    mine = open_scene(request, SceneOptions(), _inspectors).scene
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


# ---- values


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
