from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.intake.common_names import COMMON_NAMES, centre_um, common_name, is_mask, is_no_image

# (declared, centre, width, right): figures as the catalogues' items hold them, in micrometres.
SENTINEL2_OF_PLANETARY_COMPUTER = [
    ("coastal", 0.443, 0.027, "coastal"), ("blue", 0.49, 0.098, "blue"), ("green", 0.56, 0.045, "green"),
    ("red", 0.665, 0.038, "red"), ("rededge", 0.704, 0.019, "rededge071"), ("rededge", 0.74, 0.018, "rededge075"),
    ("rededge", 0.783, 0.028, "rededge078"), ("nir", 0.842, 0.145, "nir"), ("rededge", 0.865, 0.033, "nir08"),
    (None, 0.945, 0.026, "nir09"), ("swir16", 1.61, 0.143, "swir16"), ("swir22", 2.19, 0.242, "swir22"),
]  # fmt: skip
LANDSAT8 = [
    (None, 0.44, 0.02, "coastal"), (None, 0.48, 0.06, "blue"), (None, 0.56, 0.06, "green"), (None, 0.65, 0.04, "red"),
    (None, 0.86, 0.03, "nir08"), (None, 1.6, 0.08, "swir16"), (None, 2.2, 0.2, "swir22"), (None, 0.59, 0.18, "pan"),
    (None, 1.37, 0.02, "cirrus"), (None, 10.9, 0.8, "lwir11"), (None, 12.0, 1.0, "lwir12"),
]  # fmt: skip
LANDSAT5 = [(None, 0.83, 0.14, "nir"), ("nir08", 0.83, 0.14, "nir08"), (None, 11.45, 2.1, "lwir")]
PLANETSCOPE8 = [
    (None, 0.443, 0.02, "coastal"), (None, 0.49, 0.05, "blue"), (None, 0.531, 0.036, "green05"),
    (None, 0.565, 0.036, "green"), (None, 0.61, 0.02, "yellow"), (None, 0.665, 0.031, "red"),
    (None, 0.705, 0.015, "rededge071"), (None, 0.865, 0.04, "nir08"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("declared", "centre", "width", "right"), [*SENTINEL2_OF_PLANETARY_COMPUTER, *LANDSAT8, *LANDSAT5, *PLANETSCOPE8]
)
def test_a_band_has_the_common_name_of_its_wavelength(
    declared: str | None, centre: float, width: float, right: str
) -> None:
    assert common_name(declared, centre, width) == right
    assert common_name(declared, centre * 1000, width * 1000) == right  # some catalogues write nanometres


@pytest.mark.parametrize(
    ("centre", "name"), [(row[1], row[3]) for row in (*SENTINEL2_OF_PLANETARY_COMPUTER, *LANDSAT8)]
)
def test_a_common_name_tells_the_wavelength_of_its_bands(centre: float, name: str) -> None:
    assert centre_um(name) == pytest.approx(centre, rel=0.07)
    assert centre_um("vv") is None


@pytest.mark.parametrize(
    ("declared", "centre", "right"),
    [
        ("rededge", None, "rededge"), ("RED", None, "red"), ("red", 0.9, "red"), ("nir", 0.865, "nir"),
        (None, 5.0, None), (None, -1.0, None), ("", None, None), ("rededge", 0.0, "rededge"), ("vv", 0.55, "vv"),
    ],
)  # fmt: skip
def test_a_name_that_says_enough_is_left_as_it_is(
    declared: str | None, centre: float | None, right: str | None
) -> None:
    assert common_name(declared, centre) == right


@settings(deadline=None)
@given(
    declared=st.sampled_from([None, "rededge", "nir", *sorted(COMMON_NAMES)]),
    centre=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    width=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
)
def test_whatever_wavelength_stands_there_a_name_is_a_common_name_or_none(
    declared: str | None, centre: float | None, width: float | None
) -> None:
    name = common_name(declared, centre, width)
    assert name is None or name in COMMON_NAMES
    if declared and declared not in ("rededge", "nir"):
        assert name == declared


@pytest.mark.parametrize(
    ("name", "mask", "no_image"),
    [
        ("SCL", True, True), ("T32TQM_20200101T100319_SCL_20m", True, True), ("scl-jp2", True, True),
        ("LC08_L2SP_017039_20240101_20240110_02_T1_QA_PIXEL", True, True), ("SR_CLOUD_QA", True, True),
        ("20240810_102132_44_2416_3B_udm2_clip", True, True), ("dataMask", True, True), ("MSK_CLDPRB_20m", True, True),
        ("AOT", False, True), ("T32TQM_WVP_10m", False, True), ("sun_zenith", False, True), ("VAA", False, True),
        ("dem", False, True), ("ST_EMIS", False, True),
        ("B02", False, False), ("cloudy_lake_B03", False, False), ("demo", False, False), ("snow_B02", False, False),
        ("QAmara_B04", False, False), ("visual", False, False),
    ],
)  # fmt: skip
def test_masks_and_states_of_the_air_are_known_by_how_their_names_end(name: str, mask: bool, no_image: bool) -> None:
    assert (is_mask(name), is_no_image(name)) == (mask, no_image)
