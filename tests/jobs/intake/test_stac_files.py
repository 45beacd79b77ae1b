"""Which files of a STAC item are data, which of them a run needs, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.config import load
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import RefusedScene, expand, open_all, open_scene
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.jobs.intake.wanted import Need, needs
from earthloom.jobs.planning.plan import RunPlan, plan
from earthloom.tiling.errors import SceneError
from tests.http_range_server import serve
from tests.jobs.intake.stac_items import INSPECTORS, band, files, names, one, opened, save, wanted
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")


def planned(path: Path, model: str, tmp_path: Path, **options: Any) -> RunPlan:
    return plan(load({"scenes": [str(path)], "model": model, "out": str(tmp_path / "out"), **options}))


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
    scene = open_scene(request, SceneOptions(), INSPECTORS, models=wanted("destripe"))
    assert [b.name for b in scene.scene.bands if not b.categorical] == ["T32_B02", "T32_B03"]
    by_hand = open_scene(request, SceneOptions(bands=(("third", 3),)), INSPECTORS, models=wanted("destripe"))
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
