from __future__ import annotations

import pytest

from earthloom.jobs.intake.recognise import Facts, preset_of, recognise, refuse_contradiction
from earthloom.jobs.intake.sensors import SENSORS, sensor
from earthloom.tiling.errors import SceneError


@pytest.mark.parametrize(
    ("text", "says", "fitting"),
    [
        ("LE07_L2SP_017039_20040101_20200110_02_T1_SR_B4", "Landsat 7 level 2", ["landsat7-c2l2"]),
        ("LC09_L1TP_044034_20220128_20220128_02_T1_B5", "Landsat 9 level 1", ["landsat8-c2l1"]),
        ("LT05_L2SP_044034_19900508_20210518_02_T1", "Landsat 5 level 2", ["landsat5-c2l2"]),
        ("LT04_L1TP_121034_19890128_20170204_01_T1_B1", "Landsat 4 level 1", ["landsat4-c2l1"]),
        ("LC80440342014077LGN00_B4", "Landsat 8 level 1", ["landsat8-c2l1"]),
        ("LE07_clip", "Landsat 7", ["landsat7-c2l2", "landsat7-etm-dn"]),
        ("S2B_MSIL2A_20240101T100319_N0510_R122_T32TQM_20240101T120000", "Sentinel-2 level 2",
         ["sentinel2-l2a", "sentinel2-l2a-0400"]),
        ("S2A_32TQM_20200101_0_L2A", "Sentinel-2 level 2", ["sentinel2-l2a", "sentinel2-l2a-0400"]),
        ("S2A_MSIL1C_20200101", "Sentinel-2 level 1", ["sentinel2-l1c", "sentinel2-l1c-0400"]),
        ("20240810_102132_44_2416_3B_AnalyticMS_SR_8b_clip", "PlanetScope level 2",
         ["planetscope-4band-sr", "planetscope-8band-sr"]),
        ("20240810_102132_44_2416_3B_AnalyticMS_clip", "PlanetScope level 1", []),
        ("m_3812211_ne_10_060_20200525", "NAIP", ["naip"]),
        ("MOD09GA.A2024001.h08v05.061", "MODIS surface", ["modis-sr"]),
        ("MCD43A4.A2024001.h08v05.061", "MODIS nadir", ["modis-nbar"]),
        ("VNP09GA.A2024001.h08v05.002", "VIIRS", ["viirs-sr"]),
        ("HLS.L30.T32TQM.2024001T100000.v2.0.B04", "HLS", []),
    ],
)  # fmt: skip
def test_products_are_known_by_their_providers_naming_rules(text: str, says: str | None, fitting: list[str]) -> None:
    found = recognise([text])
    assert [one.describe() for one in found] == ([says] if says else [])
    for name, preset in SENSORS.items():
        if found and name not in fitting:
            with pytest.raises(SceneError, match=f"`sensor={name}` describes"):
                refuse_contradiction(preset, found)
        else:
            refuse_contradiction(preset, found)


@pytest.mark.parametrize("text", ["landsat8_scene", "sentinel2", "my_LC08 notes", "B04", "", "S2 harbour", "LC08"])
def test_a_name_that_no_rule_makes_says_nothing(text: str) -> None:
    assert recognise([text]) == ()


def test_a_refusal_names_the_evidence_both_products_and_the_preset_that_fits() -> None:
    found = recognise(["LE07_L2SP_017039_20040101_20200110_02_T1_SR_B4"])
    with pytest.raises(SceneError) as caught:
        refuse_contradiction(sensor("landsat8-c2l2"), found)
    assert str(caught.value) == (
        "LE07_L2SP is Landsat 7 level 2, and `sensor=landsat8-c2l2` describes Landsat 8 or 9 Collection 2 level 2; take "
        "`sensor=landsat7-c2l2`, or say what bands and values are by `bands`, `scale`, `offset` and `quantity`"
    )


@pytest.mark.parametrize(
    ("platform", "level", "says", "preset"),
    [
        ("landsat-7", "L2SP", "Landsat 7 level 2", "landsat7-c2l2"),
        ("LANDSAT_8", "", "Landsat 8", None),
        ("sentinel-2b", "S2MSI2A", "Sentinel-2 level 2", "sentinel2-l2a"),
        ("Sentinel-2A", "L1C", "Sentinel-2 level 1", "sentinel2-l1c"),
    ],
)
def test_an_item_says_its_product_by_fields_of_its_own(
    platform: str, level: str, says: str, preset: str | None
) -> None:
    found = recognise([], Facts(platform=platform, level=level))
    assert [one.describe() for one in found] == [says]
    lent = preset_of(found)
    assert (lent.name if lent else None) == preset


def test_bands_of_two_products_are_named_by_neither() -> None:
    assert preset_of(recognise(["LE07_L2SP_x", "LC08_L2SP_x"])) is None


def test_the_baseline_of_sentinel2_stands_in_its_name() -> None:
    (found,) = recognise(["S2B_MSIL2A_20240101T100319_N0510_R122_T32TQM_20240101T120000"])
    assert found.baseline == 5.10
