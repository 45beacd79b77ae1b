from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio

from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.preset import sun_distance_au
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.jobs.intake.sensors import SENSORS, sensor
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.quantity import QUANTITIES
from tests.scenes import write_scene

# Rescaling gain and bias as printed in Chander et al. (2009), table 4; high gain, band 8 in low gain.
CHANDER = {
    "B1": (0.778740, -6.98), "B2": (0.798819, -7.20), "B3": (0.621654, -5.62), "B4": (0.639764, -5.74),
    "B5": (0.126220, -1.13), "B7": (0.043898, -0.39), "B8": (0.975591, -5.68),
}  # fmt: skip
ESUN = {"B1": 1997.0, "B2": 1812.0, "B3": 1533.0, "B4": 1039.0, "B5": 230.8, "B7": 84.90, "B8": 1362.0}


@pytest.mark.parametrize("source", CHANDER)
def test_landsat7_reflectance_is_the_papers_formula_on_the_papers_table(source: str) -> None:
    etm = sensor("landsat7-etm-dn")
    band = etm.find(source)
    assert band is not None
    day = date(2000, 7, 31)
    scale, offset = etm.scaling(band, sun_elevation_deg=58.4, acquired=day)
    gain, bias = CHANDER[source]
    factor = math.pi * sun_distance_au(day) ** 2 / (ESUN[source] * math.sin(math.radians(58.4)))
    for dn in (1, 60, 255):
        assert dn * scale + offset == pytest.approx((gain * dn + bias) * factor, abs=0.006 * factor)


# Day of year and distance, from the table of Earth-Sun distances in the same paper (table 6) and its neighbours.
@pytest.mark.parametrize(
    ("day_of_year", "au"), [(1, 0.98331), (4, 0.98330), (185, 1.01671), (91, 0.99926), (274, 1.00119)]
)
def test_the_sun_is_as_far_as_the_almanac_says(day_of_year: int, au: float) -> None:
    day = date.fromordinal(date(2003, 1, 1).toordinal() + day_of_year - 1)
    assert sun_distance_au(day) == pytest.approx(au, abs=4e-4)


def test_landsat7_without_sun_elevation_says_what_is_missing_and_where_it_stands() -> None:
    etm = sensor("landsat7-etm-dn")
    with pytest.raises(SceneError, match=r"needs the sun's elevation.*give `sun_elevation=<degrees>`.*MTL file"):
        etm.scaling(etm.bands[0], sun_elevation_deg=None, acquired=None)
    for wrong in (-3.0, 0.0, 91.0, math.nan):
        with pytest.raises(ConfigError, match="outside 0 to 90 degrees"):
            etm.scaling(etm.bands[0], sun_elevation_deg=wrong, acquired=None)


@pytest.mark.parametrize(
    "name", [name for name, preset in SENSORS.items() if "landsat" in name and preset.level == "L1"]
)
def test_landsat_level_1_is_refused_without_the_sun_even_if_the_file_has_a_scale_of_its_own(
    name: str, tmp_path: Path
) -> None:
    preset = sensor(name)
    pixels = np.full((6, 20, 20), 100, preset.dtypes[0])
    path = write_scene(tmp_path / "x.tif", pixels, ("blue", "green", "red", "nir", "swir16", "swir22"))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (2e-5,) * 6, (-0.1,) * 6

    def opened(**options: float) -> OpenedScene | RefusedScene:
        chosen = {"sensor": name, "bands": "blue=1,green=2,red=3,nir=4,swir16=5,swir22=6", **options}
        return open_all(expand([str(path)]), SceneOptions.model_validate(chosen))[0]

    refused = opened()
    assert isinstance(refused, RefusedScene)
    assert "give `sun_elevation=<degrees>`" in refused.message
    high, low = opened(sun_elevation=60.0), opened(sun_elevation=20.0)
    assert isinstance(high, OpenedScene)
    assert isinstance(low, OpenedScene)
    ratio = low.scene.bands[0].scale / high.scene.bands[0].scale
    assert ratio == pytest.approx(math.sin(math.radians(60)) / math.sin(math.radians(20)))


def test_the_factor_of_landsat_level_1_without_the_sun_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "x.tif", np.full((1, 20, 20), 9000, np.uint16), ("red",))

    def opened(**options: float) -> OpenedScene | RefusedScene:
        given = {"sensor": "landsat8-c2l1", "bands": "red=1", **options}
        return open_all(expand([str(path)]), SceneOptions.model_validate(given))[0]

    refused = opened(scale=2e-5, offset=-0.1)
    assert isinstance(refused, RefusedScene)
    assert "`scale=2e-05` is the factor of landsat8-c2l1 before it is divided by the sine" in refused.message
    assert isinstance(opened(sun_elevation=20.0), OpenedScene), "the remedy works"
    assert isinstance(opened(scale=5e-5, offset=-0.3), OpenedScene), "a factor of the user's own counts"


def test_a_preset_that_fits_no_band_says_that_the_sun_is_missing_too(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "x.tif", np.ones((5, 20, 20), np.uint16))
    options = SceneOptions.model_validate({"sensor": "landsat8-c2l1"})
    (refused,) = open_all(expand([str(path)]), options)
    assert isinstance(refused, RefusedScene)
    assert refused.message.endswith("`bands=red=<number>,…` and `sun_elevation=<degrees>`")


def test_an_unknown_date_puts_the_sun_at_one_au() -> None:
    etm = sensor("landsat7-etm-dn")
    scale, _ = etm.scaling(etm.bands[0], sun_elevation_deg=90, acquired=None)
    assert scale == pytest.approx(math.pi * 0.778740 / 1997, rel=1e-5)


@pytest.mark.parametrize(
    ("preset", "text", "name"),
    [
        ("sentinel2-l2a", "B02", "blue"),
        ("sentinel2-l2a", "B2", "blue"),
        ("sentinel2-l2a", "b8a", "nir08"),
        ("sentinel2-l2a", "T32TQM_20200101T100319_B8A_20m", "nir08"),
        ("sentinel2-l2a", "S2B_MSIL2A_20200101_B11", "swir16"),
        ("sentinel2-l2a", "SCL_20m", "scl"),
        ("sentinel2-l2a", "B10", None),
        ("sentinel2-l1c", "B10", "cirrus"),
        ("sentinel2-l2a", "AB02C", None),
        ("landsat8-c2l2", "LC08_L2SP_044034_20210508_20210518_02_T1_SR_B5", "nir"),
        ("landsat8-c2l2", "LC08_L2SP_044034_20210508_20210518_02_T1_QA_PIXEL", "qa_pixel"),
        ("landsat8-c2l2", "B5", None),
        ("landsat7-etm-dn", "B6_VCID_1", "lwir"),
        ("landsat7-etm-dn", "LE07_L1TP_B6_VCID_2", "lwir"),
        ("landsat7-etm-dn", "L71_B10", "blue"),
        ("naip", "NIR", "nir"),
    ],
)
def test_bands_are_known_by_the_names_that_providers_use(preset: str, text: str, name: str | None) -> None:
    found = sensor(preset).find(text)
    assert (found.name if found else None) == name


def test_files_without_names_are_read_in_the_products_order() -> None:
    def order(preset: str, count: int) -> str | None:
        bands = sensor(preset).in_order(count)
        return None if bands is None else " ".join(band.name for band in bands)

    assert order("naip", 4) == "red green blue nir"
    assert order("landsat7-etm-dn", 6) == "blue green red nir swir16 swir22"
    assert order("landsat7-etm-dn", 7) == "blue green red nir swir16 lwir swir22"
    assert order("sentinel2-l1c", 13) is not None
    assert order("sentinel2-l2a", 4) is None


@pytest.mark.parametrize("preset", SENSORS)
def test_every_preset_states_what_it_assumes(preset: str) -> None:
    found = sensor(preset)
    assert found.name == preset
    assert found.assumes
    assert found.quantity in QUANTITIES
    names = [band.name for band in found.bands]
    assert len(set(names)) == len(names)
    known = {source for band in found.bands for source in band.source}
    assert all(set(order) <= known for order in found.orders)


def test_published_scales_are_the_providers() -> None:
    oli, msi, naip = sensor("landsat8-c2l2"), sensor("sentinel2-l2a"), sensor("naip")
    assert (oli.bands[0].scale, oli.bands[0].offset) == (2.75e-5, -0.2)
    assert {band.scale for band in msi.bands if band.reflects} == {1e-4}
    assert naip.bands[0].scale == 1 / 255


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"no sensor preset 'spot5'; presets are sentinel2-l2a, .*naip"):
        sensor("spot5")
