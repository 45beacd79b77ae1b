"""One acquisition under several names."""

from __future__ import annotations

import pytest

from earthloom.jobs.intake.deliveries import delivery

LANDSAT = "LC08_L2SP_017039_20200101_{processed}_02_{category}"
SENTINEL2 = "S2A_MSIL2A_20200101T105441_N{baseline}_R051_T31TCJ_{written}"


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (LANDSAT.format(processed="20200101", category="RT"), LANDSAT.format(processed="20200113", category="T1")),
        (LANDSAT.format(processed="20200113", category="T2"), LANDSAT.format(processed="20210113", category="T1")),
        ("LE07_L1GT_017039_20200101_20200102_02_RT", "LE07_L1TP_017039_20200101_20200128_02_T1"),
        (SENTINEL2.format(baseline="0213", written="20200101T140303"),
         SENTINEL2.format(baseline="0500", written="20230603T101010")),
        (SENTINEL2.format(baseline="0500", written="20230603T101010") + ".SAFE-0a1b2c3d",
         SENTINEL2.format(baseline="0510", written="20240603T101010")),
    ],
)  # fmt: skip
def test_a_later_processing_of_one_acquisition_is_told(older: str, newer: str) -> None:
    before, after = delivery(older), delivery(newer)
    assert before
    assert after
    assert before.acquisition == after.acquisition
    assert before.processing < after.processing


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LANDSAT.format(processed="20200113", category="T1"), "LC08_L2SP_017040_20200101_20200114_02_T1"),
        (LANDSAT.format(processed="20200113", category="T1"), "LC09_L2SP_017039_20200101_20200114_02_T1"),
        (LANDSAT.format(processed="20200113", category="T1"), "LC08_L1TP_017039_20200101_20200114_02_T1"),
        (SENTINEL2.format(baseline="0213", written="20200101T140303"),
         "S2A_MSIL2A_20200101T105441_N0500_R051_T31TCK_20230603T101010"),
        ("S2A_31TCJ_20200101_0_L2A", "S2A_31TCJ_20200101_1_L2A"),
    ],
)  # fmt: skip
def test_what_is_not_known_to_be_one_acquisition_stays_two(one: str, other: str) -> None:
    first, second = delivery(one), delivery(other)
    assert first is None or second is None or first.acquisition != second.acquisition


def test_pieces_of_a_tile_are_one_processing_and_copies_one_piece() -> None:
    one, other = (SENTINEL2.format(baseline="0213", written=f"20200101T{hour}0303") for hour in (14, 15))
    first, second = delivery(one), delivery(other)
    assert first
    assert second
    assert first[:2] == second[:2]
    assert first.piece != second.piece
    assert delivery(f"{one}.SAFE-0a1b2c3d") == first


def test_a_name_by_no_rule_says_nothing() -> None:
    assert delivery("lake_20200101") is None
    assert delivery("XLC08_L2SP_017039_20200101_20200110_02_T1") is None
