"""Names that say the year or the month only: a day of it stands for the scene, and nobody is told that it is known."""

from __future__ import annotations

import pytest

from earthloom.jobs.intake.dates import scene_date
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.products.stac_item import dated
from earthloom.tiling.errors import ConfigError

ITEM = {"properties": {"datetime": "2000-01-01T00:00:00Z", "title": "lake"}}


@pytest.mark.parametrize(
    ("name", "pattern", "day", "moment", "first", "last"),
    [
        ("1985", "%Y", "07-01", "1985-07-01T00:00:00Z", "1985-01-01T00:00:00Z", "1985-12-31T23:59:59Z"),
        ("lake_2020-02_b", "%Y-%m", "15", "2020-02-15T00:00:00Z", "2020-02-01T00:00:00Z", "2020-02-29T23:59:59Z"),
    ],
)
def test_a_day_is_assumed_and_the_item_tells_what_is_known(
    name: str, pattern: str, day: str, moment: str, first: str, last: str
) -> None:
    found = scene_date(None, [], [name], SceneOptions(date_pattern=pattern, assumed_day=day))
    assert found.datetime == moment
    assert found.day is None, "no factor that depends on the day may be made from it"
    assert any("is assumed" in note for note in found.notes)
    properties = dated(ITEM, "lake", found.datetime, found.by)["properties"]
    assert properties == {"title": "lake", "datetime": moment, "start_datetime": first, "end_datetime": last}
    known = dated({"properties": properties}, "lake", moment, "option")["properties"]
    assert known == {"title": "lake", "datetime": moment}, "once the day is known, the interval goes"


def test_a_known_day_is_a_day() -> None:
    found = scene_date(None, [], ["19850713"], SceneOptions(date_pattern="%Y%m%d"))
    assert str(found.day) == "1985-07-13"


@pytest.mark.parametrize(
    ("pattern", "day", "said"),
    [
        ("%Y", None, "assumed_day=07-01"), ("%Y_%m", None, "assumed_day=15"), ("%Y", "15", "MM-DD|%m-%d"),
        ("%Y", "02-29", "no day that every year has"), ("%Y%m", "30", "no day that every month has"),
        ("%Y%m%d", "01", "gives the day; leave it out"), (None, "07-01", "date_pattern=%Y"), ("%m", "07-01", "gives no day"),
        ("%Y", " 7-1 ", "no day"), ("%Y%d", None, "gives no day"),
    ],
)  # fmt: skip
def test_what_does_not_make_a_day_is_refused(pattern: str | None, day: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SceneOptions(date_pattern=pattern, assumed_day=day)


def test_options_of_an_aoi_file_are_spelled_as_its_keys() -> None:
    from earthloom.jobs.command.terminal import in_a_file, with_flags

    text = "give `datetime`, or `shard=512`; more than `memory_per_worker`"
    with in_a_file({"datetime", "shard"}):
        assert with_flags(text) == "give 'datetime', or 'shard = 512'; more than --memory-per-worker"
    assert with_flags(text) == "give --datetime, or --shard 512; more than --memory-per-worker"
