"""The bands of STAC items as catalogues really write them, against pystac where it has an opinion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.extensions.eo import EOExtension

from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.jobs.intake.wanted import pick
from tests.jobs.intake.stac_items import band, files, names, opened, save
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

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
        asset |= {"eo:bands": sensor, "raster:bands": [{"scale": s, "nodata": 0} for s in (1e-4, 2e-4, 3e-4, 4e-4)]}
    scene = opened(save(tmp_path, assets))
    assert names(scene) == ["green", "nir"]
    assert [b.scale for b in scene.scene.bands] == [2e-4, 4e-4]


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


def test_of_narrow_bands_that_are_one_colour_alike_the_first_is_taken_and_all_are_named(tmp_path: Path) -> None:
    """As hyperspectral items give them, which have wavelengths and no common names."""
    write_scene(tmp_path / "cube.tif", landscape(64, 64, 5), nodata=0)
    narrow = [
        band(f"w{centre}", center_wavelength=centre / 1000, full_width_half_max=0.01)
        for centre in (560, 640, 655, 670, 860)
    ]
    path = save(
        tmp_path, {"cube": {"href": "./cube.tif", "eo:bands": narrow, "raster:bands": [{"scale": 1e-4}] * 5}}, "cube"
    )
    scene = opened(path, "ndvi")
    assert "3 bands are red alike (w640, w655, w670): w640 is taken; `bands` takes another" in scene.notes
    assert not any("green alike" in note or ("nir" in note and "alike" in note) for note in scene.notes)
    assert not any("alike" in note for note in opened(path, "ndvi", bands=(("red", 3),)).notes)
