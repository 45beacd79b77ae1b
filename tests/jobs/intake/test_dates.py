from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earthloom.jobs.intake.dates import SceneDate, scene_date
from earthloom.jobs.intake.name_dates import agreed, date_by_rule, pattern_reader
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.pairs import open_pairs
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.models.zoo.disaster import FLOOD
from earthloom.tiling.errors import ConfigError
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")

RULES = {
    "landsat-c2": ("LC08_L2SP_017039_{0:%Y%m%d}_20300110_02_T1_SR_B4", False),
    "landsat-c2-item": ("LE07_L1TP_044034_{0:%Y%m%d}_20300110_02_T1", False),
    "landsat-ard": ("LT05_CU_010009_{0:%Y%m%d}_20300512_02_SR", False),
    "landsat-old": ("LC8017039{0:%Y%j}LGN00_B4", False),
    "sentinel2": ("S2B_MSIL2A_{0:%Y%m%dT%H%M%S}_N0213_R022_T32TQM_20300101T120000.SAFE", True),
    "sentinel2-old": ("S2A_OPER_PRD_MSIL1C_PDMC_20300101T120000_R022_V{0:%Y%m%dT%H%M%S}_20300101T120000", True),
    "sentinel2-band": ("T32TQM_{0:%Y%m%dT%H%M%S}_B02_10m", True),
    "sentinel2-old-band": ("L2A_T32TQM_{0:%Y%m%dT%H%M%S}_B02_10m", True),
    "earth-search": ("S2A_32TQM_{0:%Y%m%d}_0_L2A", False),
    "planet": ("{0:%Y%m%d_%H%M%S}_1034_3B_AnalyticMS_SR", True),
    "superdove": ("{0:%Y%m%d_%H%M%S}_55_24b9_3B_AnalyticMS_SR_8b", True),
    "modis": ("MOD09GA.A{0:%Y%j}.h08v05.061.2030010032425", False),
    "viirs": ("VNP09GA.A{0:%Y%j}.h08v05.001.2030010032425", False),
    "hls": ("HLS.S30.T32TQM.{0:%Y%jT%H%M%S}.v2.0.B04", True),
    "naip": ("m_3710001_ne_14_060_{0:%Y%m%d}", False),
}
MOMENTS = st.datetimes(datetime(1973, 1, 1), datetime(2029, 12, 31)).map(lambda moment: moment.replace(microsecond=0))


def result(*names: str, item: None = None, **options: str) -> SceneDate:
    return scene_date(item, [], names, SceneOptions.model_validate(options))


@settings(deadline=None, max_examples=40)
@given(MOMENTS, st.sampled_from(sorted(RULES)))
def test_a_name_by_its_providers_rule_says_when_the_scene_was_taken(moment: datetime, rule: str) -> None:
    form, exact = RULES[rule]
    found = date_by_rule(form.format(moment))
    assert found is not None
    assert found.moment == (moment if exact else datetime.combine(moment.date(), datetime.min.time()))


@pytest.mark.parametrize(
    "name",
    [
        "scene", "20200101", "lake_20200101_small", "image_20200131T101010", "LC08_L2SP_017039_20201301_20200110_02_T1",
        "S2A_MSIL2A_20200231T101010_N0213", "XT32TQM_20200101T101010_B02", "12345678_123456_1034_3B_AnalyticMS",
        "m_3710001_ne_14_060", "DJI_20200101_101010", "MOD09GA.A2020367.h08v05",
    ],
)  # fmt: skip
def test_digits_in_any_other_name_are_no_date(name: str) -> None:
    assert date_by_rule(name) is None


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=40))
def test_any_text_is_read_without_an_error(text: str) -> None:
    date_by_rule(text)
    with suppress(ConfigError):
        pattern_reader(text)(text)


@settings(deadline=None, max_examples=60)
@given(MOMENTS, st.permutations(("%Y", "%m", "%d", "%H", "%M")), st.sampled_from(("-", "_", ".", "x", "(")))
def test_a_pattern_finds_what_strftime_writes(moment: datetime, words: list[str], between: str) -> None:
    pattern = f"scene{between}{between.join(words)}"
    found = pattern_reader(pattern)(f"a_{moment.strftime(pattern)}_b")
    assert found is not None
    assert found.moment == moment.replace(second=0)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("%Y%m%d", "lake_20200102_20210102", "2020-01-02"),
        ("*_%Y%j", "a_b_2020002", "2020-01-02"),
        ("%Y%m%d", "lake_120200102", None),
        ("%Y%m%d", "lake_20209902_x_20200103", "2020-01-03"),
        ("run%%_%Y-%m-%d", "run%_2020-01-02", "2020-01-02"),
        ("%d.%m.%Y", "02.01.2020", "2020-01-02"),
    ],
)
def test_the_first_date_of_the_pattern_counts(pattern: str, name: str, expected: str | None) -> None:
    found = pattern_reader(pattern)(name)
    assert (str(found.moment.date()) if found else None) == expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("%y%m%d", "%y is no word"),
        ("%Y%m", "gives the month only"),
        ("", "gives no day"),
        ("%Y%Y%j", "said twice"),
        ("%Y%j%", "% is"),
    ],
)
def test_a_pattern_that_gives_no_day_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        pattern_reader(pattern)
    with pytest.raises(ConfigError, match="date_pattern"):
        SceneOptions(date_pattern=pattern)


def test_the_users_word_comes_first_then_the_pattern_then_the_name() -> None:
    name = "LC08_L2SP_017039_20200102_20200110_02_T1"
    assert result(name, datetime="2021-05-05", date_pattern="%Y%m%d").datetime == "2021-05-05T00:00:00Z"
    assert result(f"{name}-2019-01-01", date_pattern="%Y-%m-%d").datetime == "2019-01-01T00:00:00Z"
    by_name = result(name)
    assert (by_name.datetime, by_name.by) == ("2020-01-02T00:00:00Z", "name")
    assert by_name.notes == ("taken on 2020-01-02 by the name LC08_L2SP_017039_20200102",)


def test_every_source_that_says_another_day_is_named() -> None:
    notes = result("LC08_L2SP_017039_20200102_20200110_02_T1", datetime="2021-05-05T10:00:00Z").notes
    assert notes == (
        "the date 2021-05-05T10:00:00Z by `datetime` is taken, not 2020-01-02T00:00:00Z by the name "
        "LC08_L2SP_017039_20200102",
    )


def test_a_pattern_that_a_name_does_not_follow_is_said() -> None:
    date = result("lake", date_pattern="%Y%m%d")
    assert date.datetime is None
    assert "`date_pattern=%Y%m%d` finds no such date in the name lake" in date.notes


def test_names_that_say_several_days_say_none() -> None:
    names = [f"T32TQM_{day}T101010_B02" for day in ("20200101", "20200103")]
    assert agreed(names, date_by_rule)[0] is None
    assert result(*names).datetime is None
    assert any("several dates" in note and "2020-01-03" in note for note in result(*names).notes)


def test_the_most_exact_of_several_names_is_taken() -> None:
    date = result("S2A_32TQM_20200101_0_L2A", "T32TQM_20200101T101010_B02")
    assert date.datetime == "2020-01-01T10:10:10Z"


# ---- scenes


def opened(folder: Path, **options: object) -> list[OpenedScene]:
    given = SceneOptions.model_validate({"scale": 1e-4, "quantity": "reflectance", **options})
    found = open_all(expand([f"{folder}/*.tif"]), given)
    assert all(isinstance(one, OpenedScene) for one in found), found
    return [one for one in found if isinstance(one, OpenedScene)]


def test_each_of_many_scenes_has_the_date_of_its_own_name(tmp_path: Path) -> None:
    days = [date(2020, 1, 1) + timedelta(days=16 * n) for n in range(3)]
    for n, day in enumerate(days):
        write_scene(
            tmp_path / f"LC08_L2SP_017039_{day:%Y%m%d}_20300110_02_T1.tif", landscape(16, 16, 2, n), ("green", "nir")
        )
    assert [one.scene.datetime for one in opened(tmp_path)] == [f"{day}T00:00:00Z" for day in days]


def test_one_date_for_many_scenes_is_said_of_each(tmp_path: Path) -> None:
    for n, name in enumerate("ab"):
        write_scene(tmp_path / f"{name}.tif", landscape(16, 16, 2, n), ("green", "nir"))
    for one in opened(tmp_path, datetime="2020-01-01T00:00:00Z"):
        assert one.scene.datetime == "2020-01-01T00:00:00Z"
        assert any("is taken for all 2 scenes; `date_pattern` reads it from each name" in note for note in one.notes)


def pair_of(folder: Path, before: str | None, after: str | None, **options: object) -> OpenedScene | RefusedScene:
    for n, (name, tag) in enumerate((("before", before), ("after", after))):
        write_scene(folder / name / f"{name}.tif", landscape(64, 64, 2, n), ("green", "nir"), date=tag)
    (later,) = opened(folder / "after", **options)
    given = SceneOptions.model_validate({"scale": 1e-4, "quantity": "reflectance", **options})
    (made,) = open_pairs([later], [str(folder / "before" / "before.tif")], given, FLOOD)
    return made


LATE, EARLY = "2026:05:01 00:00:00", "2025:09:01 00:00:00"


def test_a_pair_is_in_the_order_that_the_user_says_whatever_files_say_of_themselves(tmp_path: Path) -> None:
    made = pair_of(tmp_path, before=LATE, after=EARLY, datetime="2026-01-01T10:00:00Z")
    assert isinstance(made, OpenedScene)
    assert made.scene.datetime == "2026-01-01T10:00:00Z"
    assert any(
        "TIFFTAG_DATETIME 2026-05-01T00:00:00Z of before would put before after after" in note for note in made.notes
    )


def test_a_pair_of_file_dates_in_the_wrong_order_is_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    refused = pair_of(tmp_path / "a", before=LATE, after=EARLY)
    assert isinstance(refused, RefusedScene)
    assert (
        "swap them. If TIFFTAG_DATETIME is when a file was written, say when after was taken: `datetime`"
        in refused.message
    )
    assert isinstance(pair_of(tmp_path / "b", before=LATE, after=EARLY, datetime="2025-09-01"), OpenedScene)


def test_the_pattern_holds_for_both_dates_of_a_pair(tmp_path: Path) -> None:
    for n, name in enumerate(("x_20250101", "x_20260101")):
        write_scene(tmp_path / name / f"{name}.tif", landscape(64, 64, 2, n), ("green", "nir"), date=None)
    given = SceneOptions(scale=1e-4, quantity="reflectance", date_pattern="x_%Y%m%d")

    def paired(later: str, earlier: str) -> OpenedScene | RefusedScene:
        (one,) = open_all(expand([f"{tmp_path}/{later}/{later}.tif"]), given)
        (made,) = open_pairs([one], [f"{tmp_path}/{earlier}/{earlier}.tif"], given, FLOOD)
        return made

    assert isinstance(paired("x_20260101", "x_20250101"), OpenedScene)
    swapped = paired("x_20250101", "x_20260101")
    assert isinstance(swapped, RefusedScene)
    assert swapped.message.endswith("which `before` names: swap them")
