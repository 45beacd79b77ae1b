"""What the bands of a scene are called, and on which grid they lie."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from affine import Affine

from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.rounding import ceil_div
from tests.jobs.sources import make, names, opened, scaling, stac_item
from tests.scenes import landscape, shipped, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")


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


def test_quality_bands_are_categorical_and_unscaled(tmp_path: Path) -> None:
    for name in ("x_SR_B4.tif", "x_QA_PIXEL.tif"):
        make(tmp_path / name)
    scene = opened(f"{tmp_path}/x_SR_B4.tif,{tmp_path}/x_QA_PIXEL.tif", sensor="landsat8-c2l2").scene
    assert [(b.name, b.categorical, b.scale, b.offset) for b in scene.bands] == [
        ("red", False, 2.75e-5, -0.2),
        ("qa_pixel", True, 1.0, 0.0),
    ]


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


def test_a_real_scene_without_band_names_is_named_by_hand() -> None:
    path = shipped("pacific")
    hand = (("nir", "1"), ("red", "2"), ("green", "3"))
    scene = opened(path, bands=hand, sensor="landsat7-etm-dn", sun_elevation=60)
    assert names(scene) == ["nir", "red", "green"]
    assert scaling(scene)[0] == pytest.approx((0.00223, -0.02), rel=0.02)
    assert names(opened(path)) == ["band1", "band2", "band3"]


@pytest.mark.parametrize(("side", "said"), [(64, ()), (30, ("b covers 22 % of the scene",))])
def test_files_that_do_not_end_at_the_same_place_are_told(tmp_path: Path, side: int, said: tuple[str, ...]) -> None:
    make(tmp_path / "a.tif", side=64)
    make(tmp_path / "b.tif", side=side)
    a, b = f"red={tmp_path}/a.tif", f"nir={tmp_path}/b.tif"
    first, second = opened(f"{a},{b}"), opened(f"{b},{a}")
    assert len([note for note in first.notes if "covers" in note]) == len(said)
    assert all(any(words in note for note in first.notes) for words in said)
    if said:
        assert second.scene.grid.shape == (side, side)
        assert any("finest file, b, which covers 22 % of a: the rest of that is not mapped" in n for n in second.notes)


@pytest.mark.parametrize(("side", "told"), [(100, False), (256, False), (90, True)])
def test_a_piece_of_coarse_pixels_that_ends_with_the_last_of_them_is_not_told(
    tmp_path: Path, side: int, told: bool
) -> None:
    """60 m beside 10 m: 100 pixels are 16.7 of the coarser, which are cut as 17. Three too many are told."""
    fine, coarse = Affine(10, 0, 300000, 0, -10, 4500000), Affine(60, 0, 300000, 0, -60, 4500000)
    make(tmp_path / "a.tif", side=side, transform=fine)
    make(tmp_path / "b.tif", side=ceil_div(side, 6) + 3 * told, transform=coarse)
    scene = opened(f"red={tmp_path}/a.tif,coastal={tmp_path}/b.tif")
    assert any("covers" in note for note in scene.notes) == told


def test_numbers_that_were_counted_wrong_are_told_by_the_descriptions(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tif", 4, ("blue", "green", "red", "nir"))
    counted = opened(path, bands=(("red", 1), ("nir", 4)))
    assert [note for note in counted.notes if "description" in note] == [
        "band 1 of a is red by `bands`, and blue by its description in the file"
    ]
    narrow = make(tmp_path / "b.tif", 1, ("nir08",))
    assert not any("description" in note for note in opened(f"nir={narrow}").notes)
    stac_item(tmp_path / "i.json", "x", a=["a.tif", "red", "green", "blue", "nir"])
    by_item = [note for note in opened(tmp_path / "i.json").notes if "description" in note]
    assert by_item == [
        "band 1 of a is red by the STAC item, and blue by its description in the file",
        "band 3 of a is blue by the STAC item, and red by its description in the file",
    ]
