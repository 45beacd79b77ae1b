"""Acquisitions as delivered, against what their products' own books say of them, and against rasterio's pixels."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from earthloom.jobs.command.terminal import with_flags
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.references import SceneRequest
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.intake.wanted import Wanted
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.reading.read import read_pixels
from tests import acquisitions
from tests.acquisitions import L1_NAME, L2_BANDS, L2_NAME, PLANET_ID, S2_L1C_NAME, S2_NAME, S2_OLD_NAME, SUN, read_band

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def landsat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return acquisitions.landsat(tmp_path_factory.mktemp("l2"))


@pytest.fixture(scope="module")
def level1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return acquisitions.landsat(tmp_path_factory.mktemp("l1"), L1_NAME, written=("txt",))


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return acquisitions.sentinel2(tmp_path_factory.mktemp("s2"))


def asking(*names: str) -> Wanted:
    return Wanted(models=((frozenset(names),),))


def opened(reference: object, models: Wanted | None = None, **options: Any) -> OpenedScene:
    (found,) = attempt(reference, models, **options)
    assert isinstance(found, OpenedScene), found
    return found


def refused(reference: object, models: Wanted | None = None, **options: Any) -> str:
    (found,) = attempt(reference, models, **options)
    assert isinstance(found, RefusedScene)
    return found.message


def attempt(reference: object, models: Wanted | None = None, **options: Any) -> list[OpenedScene | RefusedScene]:
    return open_all(expand([str(reference)]), SceneOptions(**options), models=models)


def band(scene: OpenedScene, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Physical values and validity of a band on the scene's grid."""
    (one,) = scene.scene.select((name,))
    pixels = read_pixels(scene.scene, (one,), scene.scene.grid.window, 0)
    return pixels.values[0] * one.scale + one.offset, pixels.valid


# ---- Landsat


def test_a_landsat_folder_is_one_scene_with_the_scaling_of_its_mtl(landsat: Path) -> None:
    for reference in (landsat, f"{landsat}/", landsat / f"{L2_NAME}_MTL.json", landsat / f"{L2_NAME}_MTL.txt"):
        scene = opened(reference, asking("blue", "red", "nir")).scene
        assert (scene.id, scene.datetime) == (L2_NAME, "2021-05-08T18:39:27.123456Z")
        assert (scene.quantity, scene.source_item) == ("boa_reflectance", None)
        assert {(one.name, one.scale, one.offset, one.nodata) for one in scene.bands} == {
            (name, 2.75e-5, -0.2, 0.0) for name in ("blue", "red", "nir")
        }
    values, valid = band(opened(landsat, asking("red")), "red")
    stored = read_band(landsat / f"{L2_NAME}_SR_B4.TIF")
    assert (valid == (stored != 0)).all()
    np.testing.assert_allclose(values[valid], stored[valid] * 2.75e-5 - 0.2)


def test_all_bands_of_a_landsat_folder_have_their_names_and_none_of_its_masks_is_an_image(landsat: Path) -> None:
    scene = opened(landsat).scene
    names = ["coastal", "blue", "green", "red", "nir", "swir16", "swir22", "lwir11"]
    assert [one.name for one in scene.bands if not one.categorical and one.name in names] == names
    assert {one.name for one in scene.bands if one.categorical} == {"qa_pixel", "qa_radsat", "sr_qa_aerosol"}
    (kelvin,) = scene.select(("lwir11",))
    assert (kelvin.scale, kelvin.offset) == (0.00341802, 149.0)


def test_level_1_becomes_reflectance_by_the_mtls_sun_and_by_the_users_where_given(level1: Path) -> None:
    scene = opened(level1, asking("green"))
    stored, sine = read_band(level1 / f"{L1_NAME}_B3.TIF"), np.sin(np.radians(SUN))
    values, valid = band(scene, "green")
    np.testing.assert_allclose(values[valid], ((stored * 2e-5 - 0.1) / sine)[valid])
    assert scene.scene.quantity == "toa_reflectance"
    other = opened(level1, asking("green"), sun_elevation=40)
    assert f"sun elevation 40 by the option is taken, not {SUN:g} by {L1_NAME}_MTL.txt" in other.notes
    np.testing.assert_allclose(band(other, "green")[0][valid], ((stored * 2e-5 - 0.1) / np.sin(np.radians(40)))[valid])


def test_json_text_and_xml_say_the_same(landsat: Path) -> None:
    found = [expand([str(landsat / f"{L2_NAME}_MTL.{ending}")])[0].item for ending in ("json", "txt", "xml")]
    of_json, *others = [replace(item, url="", metadata="") for item in found if item]
    assert others == [of_json, of_json]
    assert len(of_json.assets) > 7


def test_numbers_that_are_no_text_in_the_json_are_numbers(landsat: Path, tmp_path: Path) -> None:
    copy = tmp_path / landsat.name
    shutil.copytree(landsat, copy)
    path = copy / f"{L2_NAME}_MTL.json"
    document = json.loads(path.read_text())
    fields = document["LANDSAT_METADATA_FILE"]["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"]
    fields |= {name: float(value) for name, value in fields.items()}
    path.write_text(json.dumps(document))
    (one,) = opened(copy, asking("red")).scene.select(("red",))
    assert (one.scale, one.offset) == (2.75e-5, -0.2)


def test_the_option_wins_over_the_metadata_and_both_numbers_are_said(landsat: Path) -> None:
    scene = opened(landsat, asking("red"), scale=1e-4, offset=0.0)
    assert (scene.scene.bands[0].scale, scene.scene.bands[0].offset) == (1e-4, 0.0)
    assert f"scale 0.0001 by the option is taken, not 2.75e-05 by {L2_NAME}_MTL.json" in scene.notes
    assert f"offset 0 by the option is taken, not -0.2 by {L2_NAME}_MTL.json" in scene.notes


def test_the_preset_of_another_satellite_is_refused(landsat: Path) -> None:
    message = refused(landsat, asking("red"), sensor="landsat7-c2l2")
    assert "Landsat 8 level 2" in message
    assert "landsat8-c2l2" in message


def test_a_file_that_is_missing_stops_only_who_wants_it(landsat: Path, tmp_path: Path) -> None:
    copy = tmp_path / L2_NAME
    shutil.copytree(landsat, copy)
    (copy / f"{L2_NAME}_SR_B4.TIF").unlink()
    assert opened(copy, asking("blue")).scene.bands[0].name == "blue"
    message = refused(copy, asking("red"))
    assert message.startswith(
        f"{L2_NAME}: SR_B4: {L2_NAME}_MTL.json names the file {L2_NAME}_SR_B4.TIF, which is not there"
    )


@pytest.mark.parametrize(
    ("group", "field", "value", "words"),
    [
        ("PRODUCT_CONTENTS", "COLLECTION_NUMBER", "01", "of Landsat Collection '01'; only Collection 2 is read"),
        ("PRODUCT_CONTENTS", "LANDSAT_PRODUCT_ID", "", "lacks LANDSAT_PRODUCT_ID"),
        ("IMAGE_ATTRIBUTES", "SENSOR_ID", "MSS", "of the sensor 'MSS'; those that are read: ETM"),
        ("IMAGE_ATTRIBUTES", "SPACECRAFT_ID", "TERRA", "of the platform 'TERRA', whose bands are not known"),
        ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "REFLECTANCE_MULT_BAND_4", "x", "does not say how SR_B4 is scaled"),
        ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "REFLECTANCE_MULT_BAND_4", "2.75e+05", "REFLECTANCE_MULT_BAND_4 is 275000"),
        ("PRODUCT_CONTENTS", "FILE_NAME_BAND_4", "../../bait.TIF", "which is no name of a file"),
        ("PRODUCT_CONTENTS", "FILE_NAME_BAND_4", "/etc/bait.TIF", "which is no name of a file"),
        ("PRODUCT_CONTENTS", "FILE_NAME_BAND_4", "s3://a/bait.TIF", "which is no name of a file"),
        ("PRODUCT_CONTENTS", "FILE_NAME_BAND_4", "GTIFF_DIR:1:bait.TIF", "which is no name of a file"),
    ],
)  # fmt: skip
def test_metadata_that_do_not_say_enough_are_refused_by_name(
    group: str, field: str, value: str, words: str, landsat: Path, tmp_path: Path
) -> None:
    copy = tmp_path / L2_NAME
    shutil.copytree(landsat, copy)
    groups = acquisitions.landsat_metadata()
    groups[group][field] = value
    (copy / f"{L2_NAME}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": groups}))
    message = refused(copy, asking("red"))
    assert words in message
    assert f"{L2_NAME}_MTL.json" in message


def test_a_folder_of_acquisitions_is_read_whole_and_a_bad_one_stops_no_other(landsat: Path, tmp_path: Path) -> None:
    shutil.copytree(landsat, tmp_path / "in" / L2_NAME)
    other = tmp_path / "in" / "LC09"
    shutil.copytree(landsat, other)
    (other / f"{L2_NAME}_MTL.json").write_text("{")
    bad, good = sorted(attempt(tmp_path / "in"), key=lambda one: isinstance(one, OpenedScene))
    assert isinstance(good, OpenedScene)
    assert isinstance(bad, RefusedScene)
    assert "_MTL.json is not JSON" in bad.message


def test_hidden_files_and_names_that_cannot_be_keys_hide_no_acquisition(landsat: Path, tmp_path: Path) -> None:
    shutil.copytree(landsat, tmp_path / "in" / L2_NAME)
    (tmp_path / "in" / L2_NAME / f"._{L2_NAME}_MTL.json").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "in" / "a\nb").mkdir()
    (tmp_path / "in" / "a\nb" / "LC08_MTL.txt").write_text("GROUP = LANDSAT_METADATA_FILE")
    good = [one for one in attempt(tmp_path / "in") if isinstance(one, OpenedScene)]
    assert [one.scene.id for one in good] == [L2_NAME]


# ---- Sentinel-2


@pytest.mark.parametrize(
    ("name", "quantity", "offset"),
    [(S2_NAME, "boa_reflectance", -0.1), (S2_OLD_NAME, "boa_reflectance", 0.0), (S2_L1C_NAME, "toa_reflectance", -0.1)],
)
def test_a_safe_folder_is_one_scene_with_quantification_and_offset(
    name: str, quantity: str, offset: float, tmp_path: Path
) -> None:
    folder = acquisitions.sentinel2(tmp_path, name)
    for reference in (folder, f"{folder}/", next(folder.glob("MTD_*.xml"))):
        scene = opened(reference, asking("green", "swir16"))
        assert scene.scene.id == name
        assert (scene.scene.quantity, scene.scene.datetime) == (quantity, f"{name[11:15]}-05-08T10:16:09.024000Z")
        for one in scene.scene.bands:
            assert (one.scale, one.nodata) == (1e-4, 0)
            assert one.offset == pytest.approx(offset)
    (image,) = folder.glob("GRANULE/*/IMG_DATA/**/*_B03*10m.jp2" if "L2A" in name else "GRANULE/*/IMG_DATA/*_B03.jp2")
    stored = read_band(image)
    values, valid = band(scene, "green")
    assert (valid == (stored != 0)).all()
    np.testing.assert_allclose(values[valid], (stored * 1e-4 + offset)[valid])
    assert scene.scene.grid.transform[0] == 10


def test_of_each_band_the_finest_image_is_taken(safe: Path) -> None:
    scene = opened(safe)
    sizes = {one.name: scene.grids[one.asset].transform[0] for one in scene.scene.bands}
    assert sizes["green"] == sizes["nir"] == 10
    assert sizes["rededge071"] == sizes["nir08"] == sizes["swir22"] == sizes["scl"] == 20
    assert sizes["coastal"] == sizes["nir09"] == 60
    assert [one.name for one in scene.scene.bands if one.categorical] == ["scl"]


def test_a_preset_without_offset_does_not_win_over_the_metadata(safe: Path) -> None:
    scene = opened(safe, asking("green"), sensor="sentinel2-l2a")
    assert scene.scene.bands[0].offset == pytest.approx(-0.1)
    assert any("-0.1" in note and "MTD_MSIL2A.xml" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('BOA_QUANTIFICATION_VALUE unit="none">1', 'BOA_QUANTIFICATION_VALUE unit="none">x', "does not say how B03 is scaled"),
        ("BOA_ADD_OFFSET band_id=\"2\"", "BOA_ADD_OFFSET band_id=\"x\"", "BOA_ADD_OFFSET None in processing baseline 05.09"),
        ("<PROCESSING_BASELINE>05.09", "<PROCESSING_BASELINE>new", "lacks PRODUCT_URI or PROCESSING_BASELINE"),
        ("B03_10m</IMAGE_FILE>", "B03_10m</IMAGE_FILE><IMAGE_FILE>GRANULE/other/IMG_DATA/R10m/T_B03_10m</IMAGE_FILE>",
         "names images of 2 tiles"),
        ("GRANULE/L2A", "../L2A", "names images of 0 tiles"),
        ("</n1:General_Info>", "", "is not XML"),
    ],
)  # fmt: skip
def test_a_product_whose_metadata_do_not_say_enough_is_refused_by_name(
    old: str, new: str, words: str, safe: Path, tmp_path: Path
) -> None:
    copy = tmp_path / safe.name
    shutil.copytree(safe, copy)
    text = (copy / "MTD_MSIL2A.xml").read_text()
    assert old in text
    (copy / "MTD_MSIL2A.xml").write_text(text.replace(old, new))
    message = refused(copy, asking("green"))
    assert words in message
    assert "MTD_MSIL2A.xml" in message


def test_a_safe_folder_of_another_mission_is_named(tmp_path: Path) -> None:
    (tmp_path / "S1A_IW_GRDH.SAFE").mkdir()
    (tmp_path / "S1A_IW_GRDH.SAFE" / "manifest.safe").touch()
    with pytest.raises(ConfigError, match=r"no product of Sentinel-2 .* MTD_MSIL1C.xml or MTD_MSIL2A.xml"):
        expand([str(tmp_path / "S1A_IW_GRDH.SAFE")])


# ---- PlanetScope


@pytest.mark.parametrize("n_bands", [4, 8])
@pytest.mark.parametrize("surface", [True, False])
def test_a_planetscope_order_is_one_scene(n_bands: int, surface: bool, tmp_path: Path) -> None:
    folder = acquisitions.planet(tmp_path, n_bands=n_bands, surface=surface)
    scene = opened(folder, asking("red", "nir"))
    assert scene.scene.id == PLANET_ID
    assert scene.scene.datetime == "2023-05-08T10:16:09.123456Z", "the metadata's, not the file's"
    assert scene.scene.quantity == ("boa_reflectance" if surface else "toa_reflectance")
    red, nir = scene.scene.select(("red", "nir"))
    assert (red.index, nir.index) == ((3, 4) if n_bands == 4 else (6, 8))
    assert red.scale == pytest.approx(1e-4 if surface else acquisitions.COEFFICIENT * red.index)
    assert (red.offset, red.nodata) == (0, 0)


def test_radiance_without_its_coefficients_is_refused(tmp_path: Path) -> None:
    folder = acquisitions.planet(tmp_path, surface=False, metadata=("json",))
    assert "holds radiance, and nothing beside it gives the reflectanceCoefficient of band 1" in refused(folder)


# ---- quality bands as masks


def test_a_quality_band_is_a_mask_only_where_asked(landsat: Path, safe: Path, tmp_path: Path) -> None:
    planet = acquisitions.planet(tmp_path)
    cases = (
        (landsat, "qa_pixel", read_band(landsat / f"{L2_NAME}_QA_PIXEL.TIF") == acquisitions.CLEAR_QA),
        (safe, "scl", np.kron(read_band(next(safe.glob("GRANULE/*/IMG_DATA/R20m/*_SCL_20m.jp2"))) == 4, np.ones((2, 2), bool))),
        (planet, "udm2_clear", read_band(planet / f"{PLANET_ID}_3B_udm2.tif") == 1),
    )  # fmt: skip
    for folder, name, clear in cases:
        plain, masked = opened(folder, asking("green")), opened(folder, asking("green"), mask="qa")
        assert (plain.scene.clear, [one.band.name for one in masked.scene.clear]) == ((), [name])
        (_, every), (values, valid) = band(plain, "green"), band(masked, "green")
        assert every.sum() > clear.sum()
        assert (valid == clear & every).all()
        assert np.isfinite(values).all()
        assert any(f"no data where {name} says" in note for note in masked.notes)


def test_a_quality_band_that_is_not_there_is_asked_for_by_name(level1: Path, tmp_path: Path) -> None:
    copy = tmp_path / level1.name
    shutil.copytree(level1, copy)
    (copy / f"{L1_NAME}_QA_PIXEL.TIF").unlink()
    assert "`mask=qa` needs a quality band, QA_PIXEL of Landsat" in refused(copy, asking("green"), mask="qa") or (
        "QA_PIXEL.TIF, which is not there" in refused(copy, asking("green"), mask="qa")
    )


# ---- files without metadata, archives


def test_bands_without_metadata_are_refused_together_with_a_command_that_works(landsat: Path, tmp_path: Path) -> None:
    copy = tmp_path / "loose"
    shutil.copytree(landsat, copy, ignore=shutil.ignore_patterns("*_MTL.*"))
    for references in ([str(copy)], [f"{copy}/*.TIF"], [str(path) for path in sorted(copy.iterdir())]):
        (request,) = expand(references)
        assert (
            "13 files called LC08_L2SP_044034_20210508_20210518_02_T1… are bands of one acquisition" in request.problem
        )
        words = with_flags(request.problem).partition("earthloom run ")[2].partition(". If each")[0].split(" ")
        assert words[1:] == ["--sensor", "landsat8-c2l2"]
        scene = opened(words[0], sensor=words[2])
        assert [one.name for one in scene.scene.bands] == ["coastal", "blue", "green", "red", "nir", "swir16", "swir22"]
        assert scene.scene.bands[0].scale == 2.75e-5


def test_bands_beside_their_metadata_are_led_to_them(landsat: Path) -> None:
    (request,) = expand([str(path) for path in sorted(landsat.glob("*.TIF"))])
    metadata = landsat / f"{L2_NAME}_MTL.json"
    assert request.problem.endswith(f"which {metadata.name} describes: give that, earthloom run {metadata}")


def test_a_shells_wildcard_over_an_acquisition_is_one_scene(landsat: Path) -> None:
    requests: list[SceneRequest] = expand([str(path) for path in sorted(landsat.iterdir())])
    assert [request.id for request in requests] == [L2_NAME]
    assert [request.id for request in expand([f"{landsat}/*"])] == [L2_NAME]


@pytest.mark.parametrize(
    ("names", "scenes"),
    [
        (("red.tif", "green.tif"), 1),
        (("a_B02.tif", "a_B03_10m.tif", "a_B11_20m.tif"), 1),
        (("a_B2.tif", "a_B3.tif", "b_B2.tif", "b_B3.tif"), 2),
        (("tile_A1.tif", "tile_A2.tif", "tile_B1.tif", "tile_B2.tif"), 4),
        (("lake.tif", "river.tif"), 2),
        (("2020_B04.tif", "2021_B04.tif"), 2),
    ],
)
def test_only_names_of_bands_bring_files_together(names: tuple[str, ...], scenes: int, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert len(expand([str(tmp_path)])) == scenes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (f"{L2_NAME}.tar", f"mkdir {L2_NAME} && tar -xf {L2_NAME}.tar -C {L2_NAME}; then give the folder: "
         f"earthloom run {L2_NAME}/"),
        (f"{S2_NAME}.zip", f"unzip -q {S2_NAME}.zip; then give the folder: earthloom run {S2_NAME}.SAFE/"),
        (f"{S2_NAME}.SAFE.zip", f"unzip -q {S2_NAME}.SAFE.zip; then give the folder: earthloom run {S2_NAME}.SAFE/"),
        ("order.zip", "unzip -q order.zip -d order; then give the folder: earthloom run order/"),
    ],
)  # fmt: skip
def test_an_archive_is_refused_with_the_command_that_unpacks_it(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PK")
    (request,) = expand([str(tmp_path / name)])
    assert request.problem.endswith(words)
    if name != "order.zip":
        (request,) = expand([str(tmp_path)])
        assert request.problem.endswith(words)


def test_all_bands_of_a_level_2_product_are_said_to_be_where_they_are(landsat: Path) -> None:
    scene = opened(landsat).scene
    for number, name in enumerate(("coastal", "blue", "green", "red", "nir", "swir16", "swir22"), 1):
        (one,) = scene.select((name,))
        assert scene.assets[one.asset].ref.name == f"{L2_NAME}_{L2_BANDS[number - 1]}.TIF"
