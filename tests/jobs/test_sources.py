from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from earthloom.jobs.config import check
from earthloom.jobs.intake.dates import utc
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, assign_ids, expand, open_all, open_scene
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import serve
from tests.scenes import landscape, real, shipped, write_scene


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))


def make(
    path: Path, count: int = 1, names: tuple[str | None, ...] | None = None, side: int = 64, **options: Any
) -> Path:
    return write_scene(path, landscape(side, side, count), names, **{"nodata": 0, **options})


_inspectors = Disposables()  # its child goes with this process


def opened(reference: str | Path, **options: Any) -> OpenedScene:
    (request,) = expand([str(reference)])
    if "://" not in str(reference):
        return open_scene(request, SceneOptions(**options), _inspectors)
    with Disposables() as fresh:  # a child keeps the settings of its start
        return open_scene(request, SceneOptions(**options), fresh)


def names(scene: OpenedScene) -> list[str]:
    return [band.name for band in scene.scene.bands]


def ids(requests: list[SceneRequest]) -> list[str]:
    return [request.id for request in requests]


# ---- finding


def test_a_file_is_one_scene_named_by_its_stem(tmp_path: Path) -> None:
    (request,) = expand([str(make(tmp_path / "port one.v2.tif"))])
    assert request.id == "port-one.v2"
    assert [part.ref.path for part in request.parts] == [tmp_path / "port one.v2.tif"]


def test_a_relative_path_with_dots_is_the_users_own_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.tif")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert [request.parts[0].ref.path for request in expand(["../a.tif"])] == [tmp_path / "a.tif"]
    assert ids(expand([".."])) == ["a"]


def test_folders_and_globs_take_tiffs_in_order(tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIFF", "notes.txt", "sub/c.tif", "sub/deep/d.tif", "a[1].tif"):
        make(tmp_path / name)
    folder = str(tmp_path)
    assert ids(expand([folder])) == ids(expand([folder + "/"])) == ["a", "a-1", "b", "c", "d"]
    assert ids(expand([f"{folder}/*"])) == ["a", "a-1", "b"]
    assert ids(expand([f"{folder}/?.tif"])) == ["b"]
    assert ids(expand([f"{folder}/**/[cd].tif"])) == ["c", "d"]
    assert ids(expand([f"{folder}/a[1].tif"])) == ["a-1"]  # that file exists, so the brackets mean themselves


def test_a_scene_that_is_found_twice_is_taken_once(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif")
    assert ids(expand([str(path), str(tmp_path), f"{tmp_path}/*.tif"])) == ["a"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{}/nothing/", r"nothing/ holds no file that ends in \.tif or \.tiff"),
        ("{}/*.tif", r"\*\.tif matches no file"),
        ("{}/*", r"/\* matches 1 file, none of them \*\.tif"),
        ("{}/**.tif", "is not a glob|matches 0"),
        ("{}/none.json", "none.json does not exist"),
        ("blue={}/a.tif,green=", "each part must name one file"),
        ("blue={}/*.tif,green={}/b.tif", "each part must name one file"),
        ("https://example.com/scenes/", "a web server cannot be listed"),
        ("https://example.com/a.tif?X-Amz-Signature=abc", "carries a query"),
        ("blue=https://example.com/a.tif?X-Amz-Signature=abc", "carries a query"),
        ("/vsicurl/https://example.com/a.tif", "not a file path or URL"),
        ("GTIFF_DIR:1:a.tif", "GDAL connection string"),
        ("", "is empty"),
    ],
)
def test_a_reference_that_names_nothing_says_what_was_looked_for(tmp_path: Path, reference: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=message) as caught:
        expand([reference.replace("{}", str(tmp_path))])
    assert "X-Amz-Signature" not in str(caught.value)


def test_several_files_are_bands_of_one_scene(tmp_path: Path) -> None:
    for name in ("S2_x_B02.tif", "S2_x_B03.tif"):
        make(tmp_path / name)
    listed = opened(f"{tmp_path}/S2_x_B02.tif,{tmp_path}/S2_x_B03.tif", sensor="sentinel2-l2a")
    assert (listed.scene.id, names(listed)) == ("S2_x", ["blue", "green"])
    named = opened(f"nir={tmp_path}/S2_x_B02.tif, red={tmp_path}/S2_x_B03.tif", scale=1e-4)
    assert (named.scene.id, names(named)) == ("S2_x", ["nir", "red"])
    assert [(band.asset, band.index) for band in named.scene.bands] == [(0, 1), (1, 1)]


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "year=2024" / "a.tif")
    monkeypatch.chdir(tmp_path)
    for reference in ("year=2024/a.tif", "year=2024/*.tif", "year=2024/"):
        (request,) = expand([reference])
        assert (request.id, request.parts[0].name) == ("a", "")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_prefixes_and_globs_on_s3(tmp_path: Path) -> None:
    root = ObjectRef.parse("s3://scenes/sources")
    data = make(tmp_path / "a.tif").read_bytes()
    for key in ("x/a.tif", "x/b.TIFF", "x/notes.txt", "x/deep/c.tif", "xy/d.tif"):
        open_store(root).put(key, data)
    assert ids(expand(["s3://scenes/sources/x/"])) == ["a", "b", "c"]
    assert ids(expand(["s3://scenes/sources/*/?.tif"])) == ["a", "d"]
    assert ids(expand(["s3://scenes/sources/**/[!ab].tif"])) == ["c", "d"]
    assert ids(expand(["s3://scenes/sources/x/a.tif"])) == ["a"]
    with pytest.raises(ConfigError, match="s3://scenes/sources/z/ holds no file"):
        expand(["s3://scenes/sources/z/"])
    scene = opened("s3://scenes/sources/x/a.tif").scene
    assert scene.assets[0].identity.startswith("etag:")
    assert scene.grid == opened(tmp_path / "a.tif").scene.grid


def test_a_web_scene_without_a_strong_etag_is_still_called_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "lake.tif")
    with serve(tmp_path, etag="weak") as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        assert opened(server.url("lake.tif")).scene.id == "lake"


# ---- ids


def test_different_files_of_one_name_get_ids_of_their_own(tmp_path: Path) -> None:
    paths = [str(make(tmp_path / folder / "a.tif")) for folder in ("x", "y")]
    first, second = assign_ids(expand(paths))
    assert first.id != second.id
    assert all(request.id.startswith("a-") and len(request.id) == 10 for request in (first, second))
    assert "several scenes are called a; this one is" in first.notes[0]
    assert ids(assign_ids(expand(paths[:1]))) == ["a"]
    assert ids(assign_ids(expand(paths[::-1]))) == [second.id, first.id]  # the order of arguments does not matter


def test_one_explicit_id_for_two_scenes_is_refused(tmp_path: Path) -> None:
    paths = [str(make(tmp_path / name)) for name in ("a.tif", "b.tif")]
    with pytest.raises(ConfigError, match="colliding scene ids: `scene_id=lake` names one scene, but 2 were found"):
        assign_ids(expand(paths), "lake")
    with pytest.raises(ConfigError, match="cannot be a folder name"):
        assign_ids(expand(paths[:1]), "../lake")
    assert ids(assign_ids(expand(paths[:1]), "lake")) == ["lake"]


def test_two_stac_items_of_one_id_are_refused_and_the_other_scene_stays(tmp_path: Path) -> None:
    for name in ("x", "y", "z"):
        make(tmp_path / name / "B02.tif")
        stac_item(tmp_path / name / "i.json", "other" if name == "z" else "same", blue=["B02.tif", "blue"])
    requests = assign_ids(expand([str(tmp_path / name / "i.json") for name in ("x", "y", "z")]))
    first, second, third = open_all(requests, SceneOptions())
    for refused in (first, second):
        assert isinstance(refused, RefusedScene)
        assert "colliding scene ids: 2 STAC items of this run are called same" in refused.message
    assert isinstance(third, OpenedScene)


# ---- bands


def test_bands_are_named_by_options_then_stac_then_preset_then_the_file(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", 4, ("B02", "Green", "B04", "haze"))
    assert names(opened(path)) == ["B02", "green", "B04", "haze"]
    assert names(opened(path, sensor="sentinel2-l2a")) == ["blue", "green", "red", "haze"]
    assert names(opened(path, sensor="sentinel2-l2a", bands=(("nir", 1), ("red", "4")))) == [
        "nir",
        "green",
        "B04",
        "red",
    ]
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "coastal", None, None, None])
    output = opened(tmp_path / "i.json", sensor="sentinel2-l2a", bands=(("haze2", "a:4"),))
    assert names(output) == ["coastal", "green", "red", "haze2"]


def test_a_preset_is_believed_before_a_description(tmp_path: Path) -> None:
    path = make(tmp_path / "x_B02.tif", 1, ("Green",))
    assert names(opened(path)) == ["green"]
    assert names(opened(path, sensor="sentinel2-l2a")) == ["blue"]
    other = opened(make(tmp_path / "y.tif", 1, ("Green",)), sensor="sentinel2-l2a")
    assert (names(other), scaling(other)) == (["green"], [(1e-4, 0.0)])


def test_a_file_that_names_no_bands_is_read_in_the_presets_order_and_says_so(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", (landscape(64, 64, 4) >> 6).astype("uint8"), nodata=0)
    scene = opened(path, sensor="naip")
    assert names(scene) == ["red", "green", "blue", "nir"]
    assert any("taken in the order of naip: red, green, blue, nir" in note for note in scene.notes)
    assert any("nir is marked as alpha in a, and is read as data" in note for note in scene.notes)  # as GDAL writes it
    assert names(opened(path)) == ["band1", "band2", "band3"], "what nobody names is a mask"


def test_thermal_bands_in_two_gains_keep_two_names(tmp_path: Path) -> None:
    pixels = (landscape(64, 64, 2) >> 6).astype("uint8")
    path = write_scene(tmp_path / "a.tif", pixels, ("B6_VCID_1", "B6_VCID_2"))
    assert names(opened(path, sensor="landsat7-etm-dn")) == ["lwir", "B6_VCID_2"]


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ((("red", 4),), r"`bands=red=4`: there is no such band; the scene has a with 3 bands"),
        ((("red", 0),), "there is no such band"),
        ((("red", "x:1"),), r"`bands=red=x:1`: the scene has no file 'x'; it has a \(or 1 to 1\)"),
        ((("red", 1), ("nir", 1)), "gives one band two names: red and nir"),
        ((("red", 1), ("red", 2)), "two bands are both given the name red"),
    ],
)
def test_bands_that_do_not_fit_the_file_are_refused(tmp_path: Path, bands: Any, message: str) -> None:
    with pytest.raises((SceneError, ConfigError), match=message):
        opened(make(tmp_path / "a.tif", 3), bands=bands)


def test_a_preset_that_knows_none_of_the_bands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"a: `sensor=landsat8-c2l2` knows SR_B1, .* but the scene has B02, B03"):
        opened(make(tmp_path / "a.tif", 2, ("B02", "B03")), sensor="landsat8-c2l2")


def test_a_name_for_a_file_of_several_bands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"red=a names one band, but the file has 3; number them: `bands=red="):
        opened(f"red={make(tmp_path / 'a.tif', 3)}")


def test_more_bands_in_the_item_than_in_the_file_are_not_believed_where_nothing_tells_which(tmp_path: Path) -> None:
    make(tmp_path / "a.tif", 1)
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "red", "green"])
    scene = opened(tmp_path / "i.json")
    assert names(scene) == ["band1"]
    assert any("says that a has 2 bands, but the file has 1, and nothing tells which" in note for note in scene.notes)


# ---- values


def test_unknown_values_are_said_to_be_unknown(tmp_path: Path) -> None:
    scene = opened(make(tmp_path / "a.tif"))
    assert (scene.scene.quantity, scene.scale_known) == ("dn", False)
    assert (
        "unknown value scale: say what the numbers mean by `sensor=<preset>`, or `scale` with `quantity`" in scene.notes
    )
    output = opened(tmp_path / "a.tif", quantity="dn")
    assert (output.scene.quantity, output.scale_known) == ("dn", True)


def scaling(scene: OpenedScene) -> list[tuple[float, float]]:
    return [(band.scale, band.offset) for band in scene.scene.bands]


def test_scales_come_from_options_then_stac_then_tags_then_preset(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", 1, ("B02",))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,), (3.0,)
    item = tmp_path / "i.json"
    stac_item(item, "x", a=["a.tif", "blue"], scale=0.25, offset=-1.0)
    assert scaling(opened(path)) == [(0.5, 3.0)]
    assert opened(path).scene.quantity == "reflectance"
    tagged = opened(path, sensor="sentinel2-l2a")
    assert scaling(tagged) == [(0.5, 3.0)]
    assert "scale 0.5 by the file's tags is taken, not 0.0001 by `sensor=sentinel2-l2a`" in tagged.notes
    assert "offset 3 by the file's tags is taken, not 0 by `sensor=sentinel2-l2a`" in tagged.notes
    assert scaling(opened(item)) == scaling(opened(item, sensor="sentinel2-l2a")) == [(0.25, -1.0)]
    assert scaling(opened(item, sensor="sentinel2-l2a", scale=2.0, offset=7.0)) == [(2.0, 7.0)]
    both = opened(path, sensor="sentinel2-l2a", offset=-0.1)
    assert scaling(both) == [(0.5, -0.1)]
    assert "offset -0.1 by the option is taken, not 3 by the file's tags" in both.notes
    assert "scale 0.5 is by the file's tags, offset -0.1 by the option" in both.notes
    assert scaling(opened(item, quantity="dn")) == [(1.0, 0.0)]
    assert opened(path, sensor="sentinel2-l2a").scene.quantity == "boa_reflectance"
    assert opened(path, sensor="sentinel2-l2a", quantity="reflectance").scene.quantity == "reflectance"


@pytest.mark.parametrize(
    ("properties", "scale_and_offset", "expected"),
    [
        ({}, {}, 0.0),
        ({"s2:processing_baseline": "03.01"}, {}, 0.0),
        ({"s2:processing_baseline": "05.09"}, {}, -0.1),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, {}, 0.0),
        ({"earthsearch:boa_offset_applied": True}, {"scale": 1e-4, "offset": -0.1}, 0.0),
        ({"earthsearch:boa_offset_applied": False}, {"scale": 1e-4, "offset": -0.1}, -0.1),
        ({"s2:processing_baseline": "05.09"}, {"scale": 1e-4}, -0.1),
    ],
)
def test_sentinel2_has_an_offset_when_the_item_says_so(
    tmp_path: Path, properties: dict[str, Any], scale_and_offset: dict[str, Any], expected: float
) -> None:
    make(tmp_path / "B02.tif")
    stac_item(tmp_path / "i.json", "x", properties, a=["B02.tif", "blue"], **scale_and_offset)
    assert scaling(opened(tmp_path / "i.json", sensor="sentinel2-l2a")) == [(1e-4, expected)]


def test_a_preset_on_values_of_another_type_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 1).astype("float32") / 10_000, ("B02",))
    with pytest.raises(
        SceneError, match=r"`sensor=sentinel2-l2a` describes uint16 or int16 values, but blue holds float32"
    ):
        opened(path, sensor="sentinel2-l2a")
    assert scaling(opened(path, sensor="sentinel2-l2a", scale=1.0)) == [(1.0, 0.0)]


def test_whole_numbers_cannot_be_reflectance_unscaled(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"whole numbers \(uint16\) cannot be that as they are.*`scale=0.0001`"):
        opened(make(tmp_path / "a.tif"), quantity="boa_reflectance")
    floats = write_scene(tmp_path / "b.tif", landscape(64, 64, 1).astype("float32") / 10_000)
    assert scaling(opened(floats, quantity="boa_reflectance")) == [(1.0, 0.0)]
    assert scaling(opened(tmp_path / "a.tif", quantity="unit")) == [(1 / 65535, 0.0)]


def test_landsat7_takes_the_sun_from_the_item_or_asks_for_it(tmp_path: Path) -> None:
    write_scene(tmp_path / "a_B1.tif", (landscape(64, 64, 1) >> 6).astype("uint8"), date=None)
    with pytest.raises(SceneError, match="a_B1: landsat7-etm-dn needs the sun's elevation"):
        opened(tmp_path / "a_B1.tif", sensor="landsat7-etm-dn")
    stac_item(tmp_path / "i.json", "x", {"view:sun_elevation": 40.0}, a=["a_B1.tif", "blue"])
    by_item = opened(tmp_path / "i.json", sensor="landsat7-etm-dn")
    by_hand = opened(tmp_path / "a_B1.tif", sensor="landsat7-etm-dn", sun_elevation=40, datetime="2024-05-01T10:00:00Z")
    assert scaling(by_item) == scaling(by_hand)
    no_date = opened(tmp_path / "a_B1.tif", sensor="landsat7-etm-dn", sun_elevation=40)
    assert any("taken to be 1 AU away, as the date is unknown" in note for note in no_date.notes)


def test_nodata_comes_from_the_option_then_the_file_then_stac(tmp_path: Path) -> None:
    make(tmp_path / "a.tif", nodata=7)
    make(tmp_path / "b.tif", nodata=None)
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "red"], b=["b.tif", "nir"], nodata=0)
    assert [band.nodata for band in opened(tmp_path / "i.json").scene.bands] == [7, 0]
    assert [band.nodata for band in opened(tmp_path / "i.json", nodata=9).scene.bands] == [9, 9]
    with pytest.raises(SceneError, match=r"`nodata=-9999` cannot occur in red, which holds uint16 values"):
        opened(tmp_path / "i.json", nodata=-9999)


def test_a_border_that_looks_like_fill_is_noted_until_nodata_is_given(tmp_path: Path) -> None:
    pixels = landscape(300, 300, 2)
    pixels[:, :100] = 0
    path = write_scene(tmp_path / "a.tif", pixels)
    assert any("33 % of the pixels looked at hold nothing but 0" in note for note in opened(path).notes)
    assert not any("corners" in note for note in opened(path, nodata=0).notes)


def test_quality_bands_are_categorical_and_unscaled(tmp_path: Path) -> None:
    for name in ("x_SR_B4.tif", "x_QA_PIXEL.tif"):
        make(tmp_path / name)
    scene = opened(f"{tmp_path}/x_SR_B4.tif,{tmp_path}/x_QA_PIXEL.tif", sensor="landsat8-c2l2").scene
    assert [(b.name, b.categorical, b.scale, b.offset) for b in scene.bands] == [
        ("red", False, 2.75e-5, -0.2),
        ("qa_pixel", True, 1.0, 0.0),
    ]


# ---- grids


def test_the_finest_file_gives_the_grid(tmp_path: Path) -> None:
    make(tmp_path / "x_B11.tif", transform=Affine(20, 0, 300000, 0, -20, 4500000))
    make(tmp_path / "x_B02.tif", side=128)
    scene = opened(f"{tmp_path}/x_B11.tif,{tmp_path}/x_B02.tif", sensor="sentinel2-l2a").scene
    assert (scene.grid.transform[0], scene.grid.shape) == (10, (128, 128))
    assert [band.name for band in scene.bands] == ["swir16", "blue"]
    assert len(pickle.dumps(scene)) < 1500


def test_of_two_files_for_one_band_the_finer_has_its_name(tmp_path: Path) -> None:
    make(tmp_path / "x_B02_20m.tif", transform=Affine(20, 0, 300000, 0, -20, 4500000))
    make(tmp_path / "x_B02_10m.tif", side=128)
    scene = opened(f"{tmp_path}/x_B02_20m.tif,{tmp_path}/x_B02_10m.tif", sensor="sentinel2-l2a").scene
    assert [band.name for band in scene.bands] == ["x_B02_20m", "blue"]


def test_several_crs_in_one_scene_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "x_B02.tif")
    make(tmp_path / "x_B03.tif", crs="EPSG:32618")
    with pytest.raises(
        SceneError, match=r"several CRSs \(x_B02 EPSG:32617, x_B03 EPSG:32618\); name the grid that all are read onto"
    ):
        opened(f"{tmp_path}/x_B02.tif,{tmp_path}/x_B03.tif")


def test_files_that_do_not_overlap_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "x_B02.tif")
    make(tmp_path / "x_B03.tif", transform=Affine(10, 0, 300640, 0, -10, 4500000))
    with pytest.raises(SceneError, match=r"x_B03 covers \(300640, .* does not overlap the scene's finest file"):
        opened(f"{tmp_path}/x_B02.tif,{tmp_path}/x_B03.tif")


# ---- dates


def test_the_date_comes_from_the_option_then_stac_then_the_file(tmp_path: Path) -> None:
    make(tmp_path / "a.tif")
    make(tmp_path / "b.tif", date=None)
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "red"])
    by_item = opened(tmp_path / "i.json")
    assert (by_item.scene.datetime, by_item.scene.dated_by) == ("2024-05-01T10:00:00Z", "item")
    assert any("by the STAC item is taken, not 2026-07-01T10:00:00Z by TIFFTAG_DATETIME" in n for n in by_item.notes)
    from_file = opened(tmp_path / "a.tif")
    assert (from_file.scene.datetime, from_file.scene.dated_by) == ("2026-07-01T10:00:00Z", "tag")
    assert any(
        "TIFFTAG_DATETIME 2026-07-01T10:00:00 has no time zone, taken as UTC" in note for note in from_file.notes
    )
    for reference in ("a.tif", "b.tif", "i.json"):
        said = opened(tmp_path / reference, datetime="2020-01-01")
        assert (said.scene.datetime, said.scene.dated_by) == ("2020-01-01T00:00:00Z", "option")
        others = [note for note in said.notes if "by `datetime` is taken, not" in note]
        assert len(others) == {"a.tif": 1, "b.tif": 0, "i.json": 2}[reference]


def test_an_unknown_date_is_a_note_and_never_made_up(tmp_path: Path) -> None:
    scene = opened(make(tmp_path / "a.tif", date=None))
    assert scene.scene.datetime is None
    assert "unknown date; give `datetime` if it matters" in scene.notes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-07-31", ("2020-07-31T00:00:00Z", True)),
        ("2020-07-31T18:04:00Z", ("2020-07-31T18:04:00Z", False)),
        ("2020-07-31T18:04:00.25+02:00", ("2020-07-31T16:04:00.250000Z", False)),
        ("2020-07-31 18:04", ("2020-07-31T18:04:00Z", True)),
    ],
)
def test_dates_are_kept_in_utc(text: str, expected: tuple[str, bool]) -> None:
    assert utc(text) == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "2020", "20200731", "2020-W31-5", "2020-13-01", "0001-01-01T00:00:00+01:00"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a date such as"):
        utc(text)


# ---- many scenes


def test_a_bad_scene_does_not_stop_the_others(tmp_path: Path) -> None:
    make(tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_bytes(b"nothing")
    make(tmp_path / "nowhere.tif", crs=None)
    requests = assign_ids(expand([str(tmp_path), str(tmp_path / "gone.tif")]))
    results = {result.id if isinstance(result, RefusedScene) else result.scene.id: result
               for result in open_all(requests, SceneOptions())}  # fmt: skip
    assert isinstance(results["good"], OpenedScene)
    refused = {name: result for name, result in results.items() if isinstance(result, RefusedScene)}
    assert {name: result.kind for name, result in refused.items()} == dict.fromkeys(
        ("bad", "nowhere", "gone"), "SceneError"
    )
    assert all(result.message.startswith(f"{name}: ") for name, result in refused.items())
    assert "is not a GeoTIFF" in refused["bad"].message
    assert "has no CRS" in refused["nowhere"].message
    assert "does not exist" in refused["gone"].message


def test_an_item_whose_id_leaves_its_folder_gets_a_safe_one_and_keeps_its_own(tmp_path: Path) -> None:
    make(tmp_path / "a.tif")
    stac_item(tmp_path / "i.json", "../../x", a=["a.tif", "red"])
    (result,) = open_all(expand([str(tmp_path / "i.json")]), SceneOptions())
    assert isinstance(result, OpenedScene)
    assert (result.scene.id, result.scene.source_id) == ("x-9cdf6a50", "../../x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sensor": "spot5"}, "no sensor preset 'spot5'"),
        ({"quantity": "albedo"}, "quantity: Input should be 'toa_reflectance'.*got 'albedo'"),
        ({"datetime": "soon"}, "is not a date"),
        ({"scale": 0.0}, "`scale=0`"),
    ],
)
def test_options_that_no_scene_could_make_right_stop_the_run(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(SceneOptions, options)


# ---- real scenes


def reflectance(path: Path, scene: OpenedScene, name: str) -> NDArray[np.float64]:
    (band,) = scene.scene.select((name,))
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read(band.index) * band.scale + band.offset, np.float64)


def test_a_real_sentinel2_scene_needs_only_its_preset() -> None:
    path = real("ships_s2/durban.tif")
    scene = opened(path, sensor="sentinel2-l2a")
    assert names(scene) == ["blue", "green", "red", "nir", "swir16"]
    assert scene.scene.quantity == "boa_reflectance"
    water = np.median(reflectance(path, scene, "nir")[:, -200:])  # the Indian Ocean
    assert -0.01 < water < 0.05


def test_a_real_landsat7_scene_gets_plausible_reflectance() -> None:
    path = shipped("salt_lake")
    scene = opened(path, sensor="landsat7-etm-dn", sun_elevation=60)
    assert names(scene) == ["blue", "green", "red", "nir", "swir16", "swir22"]
    for name in ("blue", "green", "red", "nir", "swir16", "swir22"):
        values = reflectance(path, scene, name)
        assert values.min() > -0.05
        assert values.max() < 1
        assert 0.02 < np.percentile(values, 90) < 0.6, "dry land; brine is darker"


def test_a_real_scene_without_band_names_is_named_by_hand() -> None:
    path = shipped("pacific")
    hand = (("nir", "1"), ("red", "2"), ("green", "3"))
    scene = opened(path, bands=hand, sensor="landsat7-etm-dn", sun_elevation=60)
    assert names(scene) == ["nir", "red", "green"]
    assert scaling(scene)[0] == pytest.approx((0.00223, -0.02), rel=0.02)
    assert names(opened(path)) == ["band1", "band2", "band3"]


def stac_item(
    path: Path, item_id: str, properties: dict[str, Any] | None = None, *, scale: float | None = None,
    offset: float | None = None, nodata: float | None = None, **assets: list[str | None],
) -> None:  # fmt: skip
    """Write an item; each asset is [href, common name of each band…]."""
    values = {"raster:scale": scale, "raster:offset": offset, "nodata": nodata}
    output = {name: value for name, value in values.items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            {
                "type": "Feature", "stac_version": "1.1.0", "id": item_id, "geometry": None, "links": [],
                "properties": {"datetime": "2024-05-01T10:00:00Z", **(properties or {})},
                "assets": {
                    key: {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"],
                          "bands": [{**output, **({"eo:common_name": name} if name else {})} for name in bands]}
                    for key, (href, *bands) in assets.items()
                },
            }
        )
    )  # fmt: skip
