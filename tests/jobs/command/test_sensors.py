from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from earthloom.jobs.command import cli, main
from earthloom.jobs.intake.sensors import SENSORS
from earthloom.models.zoo import variants
from earthloom.tiling.errors import CardError
from earthloom.tiling.suggest import did_you_mean
from tests.scenes import landscape, write_scene

pytestmark = pytest.mark.usefixtures("own_cache")


def test_every_preset_is_listed_with_what_it_assumes_and_no_option_in_pythons_spelling() -> None:
    text = CliRunner().invoke(cli, ["sensors"]).output
    for name in SENSORS:
        assert name in text
    words = " ".join(text.replace("│", " ").split())
    assert "reflectance = DN / 10000, and 0 is no data" in words
    assert "--sun-elevation <degrees>" in words
    assert "`" not in text


def test_a_preset_is_shown_with_its_bands_and_the_source_of_its_figures() -> None:
    text = CliRunner().invoke(cli, ["sensors", "landsat7-c2l2"]).output
    for words in ("SR_B4", "nir08", "2.75e-05", "QA_PIXEL", "LSDS-1618", "0.0000275"):
        assert words in text


def test_presets_are_plain_data_for_machines() -> None:
    listed = json.loads(CliRunner().invoke(cli, ["sensors", "--json"]).output)
    assert [one["name"] for one in listed] == list(SENSORS)
    (one,) = json.loads(CliRunner().invoke(cli, ["sensors", "modis-sr", "--json"]).output)
    assert (one["fill"], one["valid"], one["bands"][0]["name"]) == (-28672, [-100, 16000], "red")


def test_a_wrong_preset_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sensors", "landsat-8-c2l2"])
    assert stop.value.code == 2
    assert "did you mean 'landsat8-c2l2'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "near"), [("landwatr", "landwater"), ("Cloudmask", "cloudmask"), ("waterindex", "water-index")]
)
def test_a_wrong_model_is_answered_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(CardError, match=rf"unknown model '{word}' \(did you mean '{near}'\?\): the zoo has"):
        variants(word)


@pytest.mark.parametrize(("word", "known"), [("zzz", ["red"]), ("red", ["red"]), ("", ["red"]), ("red", [])])
def test_nothing_is_proposed_where_nothing_is_near(word: str, known: list[str]) -> None:
    assert did_you_mean(word, known) == ""


def test_a_wrong_band_and_an_unknown_scale_are_answered_with_what_would_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(64, 64, 2), ("B03", "B11"), nodata=0)
    plan = ["plan", str(path), "--model", "water-index", "--out", str(tmp_path / "out"), "--json"]
    with pytest.raises(SystemExit):
        main([*plan, "--bands", "green=1,swir1=2", "--scale", "0.0001", "--quantity", "boa_reflectance"])
    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    assert "no model asks for a band swir1 (did you mean 'swir16'?)" in refused["message"]
    with pytest.raises(SystemExit):
        main([*plan, "--bands", "green=1,swir16=2"])
    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    assert "--sensor sentinel2-l2a fits its bands and values" in refused["message"]
