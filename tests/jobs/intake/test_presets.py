"""Presets against their products' own specifications, and what they do to files."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.preset import sun_distance_au
from earthloom.jobs.intake.scenes import OpenedScene, expand, open_scene
from earthloom.jobs.intake.sensors import SENSORS, sensor
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.reading.sandbox import Disposables
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

_inspectors = Disposables()  # its child goes with this process


def opened(reference: str | Path, **options: Any) -> OpenedScene:
    (request,) = expand([str(reference)])
    return open_scene(request, SceneOptions(**options), _inspectors)


# (preset, source, name, scale, offset) as the specifications print them.
SPECIFIED = [
    ("sentinel2-l2a", "B8A", "nir08", 1e-4, 0.0), ("sentinel2-l2a-0400", "B8A", "nir08", 1e-4, -0.1),
    ("sentinel2-l1c", "B10", "cirrus", 1e-4, 0.0), ("sentinel2-l1c-0400", "B02", "blue", 1e-4, -0.1),
    ("sentinel2-l2a-0400", "AOT", "aot", 1e-3, 0.0), ("sentinel2-l2a", "WVP", "wvp", 1e-3, 0.0),
    ("landsat8-c2l2", "SR_B5", "nir", 2.75e-5, -0.2), ("landsat8-c2l2", "ST_B10", "lwir11", 0.00341802, 149.0),
    ("landsat7-c2l2", "SR_B4", "nir", 2.75e-5, -0.2), ("landsat7-c2l2", "ST_B6", "lwir", 0.00341802, 149.0),
    ("landsat5-c2l2", "SR_B7", "swir22", 2.75e-5, -0.2), ("landsat5-c2l2", "SR_B5", "swir16", 2.75e-5, -0.2),
    ("planetscope-4band-sr", "nir", "nir", 1e-4, 0.0), ("planetscope-8band-sr", "green_i", "green05", 1e-4, 0.0),
    ("planetscope-8band-sr", "coastal_blue", "coastal", 1e-4, 0.0), ("naip", "NIR", "nir", 1 / 255, 0.0),
    ("modis-sr", "sur_refl_b02", "nir", 1e-4, 0.0), ("modis-nbar", "Nadir_Reflectance_Band6", "swir16", 1e-4, 0.0),
    ("viirs-sr", "SurfReflect_I1_1", "red", 1e-4, 0.0), ("viirs-sr", "SurfReflect_M5_1", "m5", 1e-4, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("preset", "source", "name", "scale", "offset"), SPECIFIED)
def test_a_preset_names_and_scales_as_the_specification_does(
    preset: str, source: str, name: str, scale: float, offset: float
) -> None:
    band = sensor(preset).find(source)
    assert band is not None
    assert (band.name, band.offset) == (name, offset)
    assert band.scale == pytest.approx(scale)


FILL = {"naip": None, "sentinel1-grd-db": None, "modis-sr": -28672, "modis-nbar": 32767, "viirs-sr": -28672}


@pytest.mark.parametrize("preset", SENSORS)
def test_a_preset_carries_the_fill_of_its_product_and_says_where_its_figures_stand(preset: str) -> None:
    found = sensor(preset)
    assert found.fill == FILL.get(preset, 0)
    assert found.source
    assert found.title
    for order in found.orders:
        assert len(found.in_order(len(order)) or ()) == len(order)


# Radiance multipliers and additions of Landsat 4 and 5 as printed in Chander et al. (2009), table 3.
TM_GAIN = {
    ("landsat5-c2l1", "B1"): (0.765827, -2.29, 1983.0), ("landsat5-c2l1", "B2"): (1.448189, -4.29, 1796.0),
    ("landsat5-c2l1", "B3"): (1.043976, -2.21, 1536.0), ("landsat5-c2l1", "B4"): (0.876024, -2.39, 1031.0),
    ("landsat5-c2l1", "B5"): (0.120354, -0.49, 220.0), ("landsat5-c2l1", "B7"): (0.065551, -0.22, 83.44),
    ("landsat4-c2l1", "B1"): (0.679213, -2.20, 1983.0), ("landsat4-c2l1", "B3"): (1.004606, -2.17, 1539.0),
    ("landsat4-c2l1", "B7"): (0.065945, -0.22, 83.49),
}  # fmt: skip


@pytest.mark.parametrize(("preset", "source"), TM_GAIN)
def test_landsat_tm_reflectance_is_the_papers_formula_on_the_papers_table(preset: str, source: str) -> None:
    tm, day = sensor(preset), date(1993, 7, 31)
    band = tm.find(source)
    assert band is not None
    scale, offset = tm.scaling(band, sun_elevation_deg=58.4, acquired=day)
    gain, bias, esun = TM_GAIN[preset, source]
    factor = math.pi * sun_distance_au(day) ** 2 / (esun * math.sin(math.radians(58.4)))
    for dn in (1, 60, 255):
        assert dn * scale + offset == pytest.approx((gain * dn + bias) * factor, abs=0.01 * factor)


def test_landsat5_has_another_range_before_1992() -> None:
    tm = sensor("landsat5-c2l1")
    band = tm.find("B1")
    assert band is not None
    before, after = (tm.scaling(band, sun_elevation_deg=90, acquired=date(year, 1, 1))[0] for year in (1991, 1992))
    assert before / after == pytest.approx((169 + 1.52) / (193 + 1.52), rel=1e-3)


def test_landsat8_level1_is_divided_by_the_sine_of_the_sun_and_thermal_bands_are_not() -> None:
    oli = sensor("landsat8-c2l1")
    red, heat = oli.find("LC08_L1TP_x_B4"), oli.find("LC08_L1TP_x_B10")
    assert red
    assert heat
    assert list(oli.scaling(red, sun_elevation_deg=30, acquired=None)) == pytest.approx([4e-5, -0.2])
    assert oli.scaling(heat, sun_elevation_deg=None, acquired=None) == (1.0, 0.0)
    with pytest.raises(SceneError, match=r"give `sun_elevation=<degrees>`"):
        oli.scaling(red, sun_elevation_deg=None, acquired=None)


def test_an_unknown_preset_is_offered_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"no sensor preset 'sentinel-2-l2a' \(did you mean 'sentinel2-l2a'\?\)"):
        sensor("sentinel-2-l2a")
    with pytest.raises(ConfigError, match=r"\(did you mean 'landsat8-c2l2'\?\)"):
        sensor("landsat9-c2l2")


# ---- what a preset does to a file


def bands_of(scene: OpenedScene) -> dict[str, tuple[float, float, float | None]]:
    return {band.name: (band.scale, band.offset, band.nodata) for band in scene.scene.bands}


@pytest.mark.parametrize("preset", ["sentinel2-l2a", "sentinel2-l1c-0400", "landsat8-c2l2"])
def test_fill_is_the_presets_where_neither_option_nor_file_nor_item_says(tmp_path: Path, preset: str) -> None:
    names = {"landsat8-c2l2": ("SR_B3", "SR_B6", "QA_PIXEL")}.get(preset, ("B03", "B11", "SCL"))
    names = names if preset != "sentinel2-l1c-0400" else (*names[:2], "other")
    silent = write_scene(tmp_path / "a.tif", landscape(64, 64, 3), names, nodata=None)
    scene = opened(silent, sensor=preset)
    assert [band.nodata for band in scene.scene.bands] == [0, 0, None]  # 0 is no fill in masks and unknown bands
    declared = write_scene(tmp_path / "b.tif", landscape(64, 64, 3), names, nodata=9)
    assert {band.nodata for band in opened(declared, sensor=preset).scene.bands} == {9}
    assert [band.nodata for band in opened(silent, sensor=preset, nodata=7).scene.bands][:2] == [7, 7]
    assert [band.nodata for band in opened(silent).scene.bands] == [None, None, None]


@pytest.mark.parametrize(
    ("preset", "properties", "offset"),
    [
        ("sentinel2-l2a", {}, 0.0), ("sentinel2-l2a-0400", {}, -0.1),
        ("sentinel2-l2a", {"s2:processing_baseline": "05.10"}, -0.1),
        ("sentinel2-l2a-0400", {"s2:processing_baseline": "03.01"}, 0.0),
        ("sentinel2-l2a-0400", {"earthsearch:boa_offset_applied": True}, 0.0),
        ("sentinel2-l2a-0400", {"s2:processing_baseline": "04.00"}, -0.1),
    ],
)  # fmt: skip
def test_an_item_is_believed_before_the_preset_on_sentinel2s_offset(
    tmp_path: Path, preset: str, properties: dict[str, Any], offset: float
) -> None:
    write_scene(tmp_path / "B03.tif", landscape(64, 64, 1), nodata=0)
    item: dict[str, Any] = {
        "type": "Feature", "stac_version": "1.1.0", "id": "x", "geometry": None, "links": [],
        "properties": {"datetime": "2020-01-01T00:00:00Z", **properties},
        "assets": {"green": {"href": "./B03.tif", "type": "image/tiff", "roles": ["data"]}},
    }  # fmt: skip
    (tmp_path / "i.json").write_text(json.dumps(item))
    scene = opened(tmp_path / "i.json", sensor=preset)
    assert bands_of(scene)["green"][:2] == (1e-4, offset)
    preset_says = -0.1 if preset.endswith("0400") else 0.0
    assert any("and not the preset's" in note for note in scene.notes) == (offset != preset_says)


@pytest.mark.parametrize(
    ("stem", "date_tag", "preset", "doubt"),
    [
        ("S2B_MSIL2A_20240101T100319_N0510_R122_T32TQM_20240101T120000", None, "sentinel2-l2a", "baseline 05.10"),
        ("S2B_MSIL2A_20240101T100319_N0510_R122_T32TQM_20240101T120000", None, "sentinel2-l2a-0400", None),
        ("S2B_MSIL2A_20200101T100319_N0213_R122_T32TQM_20200101T120000", None, "sentinel2-l2a-0400", "baseline 02.13"),
        (
            "scene",
            "2024:05:01 10:00:00",
            "sentinel2-l2a",
            "taken on 2024-05-01, when ESA's files hold an offset of -0.1",
        ),
        ("scene", "2021:05:01 10:00:00", "sentinel2-l2a", None),
        ("scene", "2024:05:01 10:00:00", "sentinel2-l2a-0400", None),
    ],
)
def test_what_speaks_against_the_presets_offset_is_said(
    tmp_path: Path, stem: str, date_tag: str | None, preset: str, doubt: str | None
) -> None:
    path = write_scene(tmp_path / f"{stem}.tif", landscape(64, 64, 2), ("B03", "B11"), nodata=0, date=date_tag)
    notes = [note for note in opened(path, sensor=preset).notes if "take `sensor=" in note]
    assert len(notes) == (doubt is not None)
    assert doubt is None or doubt in notes[0]


def test_a_preset_for_another_satellite_is_refused_by_any_file_or_folder_that_says_so(tmp_path: Path) -> None:
    for name in ("LE07_L2SP_017039_20040101_20200110_02_T1_SR_B4", "x_SR_B5"):
        write_scene(tmp_path / f"{name}.tif", landscape(64, 64, 1), nodata=0)
    both = f"{tmp_path}/x_SR_B5.tif,{tmp_path}/LE07_L2SP_017039_20040101_20200110_02_T1_SR_B4.tif"
    with pytest.raises(SceneError, match=r"LE07_L2SP is Landsat 7 level 2, .*take `sensor=landsat7-c2l2`"):
        opened(both, sensor="landsat8-c2l2")
    folder = tmp_path / "LE07_L2SP_017039_20040101_20200110_02_T1"
    write_scene(folder / "B.tif", landscape(64, 64, 1), ("SR_B4",), nodata=0)
    with pytest.raises(SceneError, match="is Landsat 7"):
        opened(folder / "B.tif", sensor="landsat8-c2l2")
    assert list(bands_of(opened(folder / "B.tif", sensor="landsat7-c2l2"))) == ["nir"]


def test_a_file_that_names_its_product_lends_names_but_no_values(tmp_path: Path) -> None:
    path = write_scene(
        tmp_path / "LE07_L2SP_017039_20040101_20200110_02_T1.tif", landscape(64, 64, 2), ("SR_B4", "SR_B5")
    )
    scene = opened(path)
    assert [band.name for band in scene.scene.bands] == ["nir", "swir16"]
    assert not scene.scale_known
    assert scene.offers == ("landsat7-c2l2",)


@pytest.mark.parametrize(
    ("count", "dtype", "names", "low", "high", "first", "never"),
    [
        (2, "uint16", ("B03", "B11"), 100, 3000, "sentinel2-l2a", "naip"),
        (2, "uint16", ("SR_B3", "SR_B6"), 8000, 20_000, "landsat8-c2l2", "sentinel2-l2a"),
        (8, "uint16", None, 100, 3000, "planetscope-8band-sr", "naip"),
        (4, "uint8", None, 10, 200, "naip", "planetscope-4band-sr"),
        (2, "int16", ("sur_refl_b01", "sur_refl_b02"), 100, 3000, "modis-sr", "viirs-sr"),
        (3, "uint16", ("blue", "green", "red"), 9000, 20_000, "landsat8-c2l2", "naip"),
        (3, "uint16", ("blue", "green", "red"), 300, 4000, "sentinel2-l2a", "naip"),
    ],
)  # fmt: skip
def test_presets_are_offered_by_bands_type_and_range_of_values(
    tmp_path: Path, count: int, dtype: str, names: tuple[str, ...] | None, low: int, high: int, first: str, never: str
) -> None:
    rng = np.random.default_rng(0)
    path = write_scene(tmp_path / "a.tif", rng.integers(low, high, (count, 64, 64)).astype(dtype), names)
    offers = opened(path).offers
    assert offers[0] == first
    assert never not in offers


def test_nothing_is_offered_for_values_that_no_preset_describes(tmp_path: Path) -> None:
    assert opened(write_scene(tmp_path / "a.tif", landscape(64, 64, 2).astype("float32"), ("B03", "B11"))).offers == ()
    assert opened(write_scene(tmp_path / "b.tif", landscape(64, 64, 2), ("vv", "vh"))).offers == ()


def test_an_offset_in_stored_numbers_is_refused_with_the_right_one(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 2), ("B03", "B11"), nodata=0)
    with pytest.raises(SceneError, match=r"`offset=-1000` would be added to scaled values.*: `offset=-0.1`"):
        opened(path, sensor="sentinel2-l2a", offset=-1000)
    assert bands_of(opened(path, sensor="sentinel2-l2a", offset=-0.1))["green"][1] == -0.1
    assert bands_of(opened(path, quantity="dn", scale=1.0, offset=-1000))["B03"] == (1.0, -1000.0, 0.0)


@settings(deadline=None, max_examples=25)
@given(
    tags=st.one_of(st.none(), st.tuples(st.sampled_from([1e-4, 0.5]), st.sampled_from([0.0, -0.1]))),
    said=st.one_of(st.none(), st.tuples(st.sampled_from([1e-4, 0.25]), st.sampled_from([None, -0.1, 0.2]))),
    scale=st.sampled_from([None, 1e-4, 2.0]),
    offset=st.sampled_from([None, 0.0, -0.1, 0.3]),
    preset=st.sampled_from([None, "sentinel2-l2a", "sentinel2-l2a-0400"]),
)
def test_every_disagreement_on_scale_or_offset_is_said_with_both_numbers(
    tmp_path_factory: pytest.TempPathFactory, tags: Any, said: Any, scale: Any, offset: Any, preset: Any
) -> None:
    folder = tmp_path_factory.mktemp("x")
    path = write_scene(folder / "B03.tif", 0 * landscape(32, 32, 1), ("B03",), nodata=0)  # no value is judged
    if tags:
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (tags[0],), (tags[1],)
    raster = {"raster:scale": said[0], **({} if said[1] is None else {"raster:offset": said[1]})} if said else {}
    asset = {"href": "./B03.tif", "type": "image/tiff", "roles": ["data"], "bands": [{"name": "B03", **raster}]}
    item: dict[str, Any] = {"type": "Feature", "stac_version": "1.1.0", "id": "x", "geometry": None, "links": [],
            "properties": {"datetime": "2020-01-01T00:00:00Z"}, "assets": {"green": asset}}  # fmt: skip
    (folder / "i.json").write_text(json.dumps(item))
    given_options = {
        "sensor": preset,
        "scale": scale,
        "offset": offset,
        "quantity": "boa_reflectance" if scale else None,
    }
    scene = opened(folder / "i.json", **{name: value for name, value in given_options.items() if value is not None})
    (band,) = scene.scene.bands
    tagged = tags or (None, None)
    by_preset = {None: (None, None), "sentinel2-l2a": (1e-4, 0.0), "sentinel2-l2a-0400": (1e-4, -0.1)}[preset]
    scales = [one for one in (scale, said[0] if said else None, tagged[0], by_preset[0]) if one is not None]
    own = None if said else tagged[1]  # the tags' offset belongs to the tags' scale
    claims = [one for one in (offset, said[1] if said else None, own, by_preset[1]) if one is not None]
    offsets = (claims or ([0.0] if said else [])) + ([tagged[1]] if tags else [])
    assert band.scale == pytest.approx(scales[0] if scales else 1.0)
    assert band.offset == (offsets[0] if offsets else 0.0)
    text = " | ".join(scene.notes)
    for word, values in (("scale", scales), ("offset", offsets)):
        for other in values[1:]:
            if scales and offsets and other != values[0]:
                assert f"{word} {values[0]:g} by " in text
                assert f"not {other:g} by " in text


@pytest.mark.parametrize(
    ("numbers", "preset", "told"),
    [
        ((1, 2, 3, 4, 5, 7), "landsat8-c2l2", True),
        ((1, 2, 3, 4, 5, 7), "landsat7-c2l2", False),
        ((1, 2, 3, 4, 5, 6, 7), "landsat8-c2l2", False),
        ((2, 3, 4, 5), "landsat8-c2l2", False),
    ],
)
def test_a_stack_that_holds_exactly_the_bands_of_another_sensor_is_told(
    tmp_path: Path, numbers: tuple[int, ...], preset: str, told: bool
) -> None:
    """As exports without the product's name are: what is red on Landsat 8 is near infrared on Landsat 7."""
    names = tuple(f"SR_B{number}" for number in numbers)
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, len(numbers)), names, nodata=0)
    notes = [note for note in opened(path, sensor=preset).notes if "exactly the bands" in note]
    assert bool(notes) == told
    assert all("`sensor=landsat7-c2l2` and `sensor=landsat5-c2l2`" in note for note in notes)
