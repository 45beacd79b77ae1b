"""Bad scenes are refused by name, with both values and the remedy, and the good scene of the same run is mapped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio import Affine

from earthloom.jobs.command import main
from tests.scenes import landscape, write_scene

BANDS = ("green", "swir16")
SCALED = ("--scale", "0.0001", "--quantity", "toa_reflectance")


def invoke(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def run(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    small = ("--executor", "local", "--shard", "512", "--block", "512")
    code = invoke("run", *arguments, "--model", "water-index", "--out", str(out), *small, "--json")
    return code, json.loads(capsys.readouterr().out)


def missing_band(path: Path) -> None:
    write_scene(path, landscape(40, 40, 2), ("green", "red"))


def no_crs(path: Path) -> None:
    write_scene(path, landscape(40, 40, 2), BANDS, crs=None)


def complex_dtype(path: Path) -> None:
    write_scene(path, landscape(40, 40, 2).astype(np.complex64), BANDS)


def rotated(path: Path) -> None:
    write_scene(path, landscape(40, 40, 2), BANDS, transform=Affine(10, 3, 0, 3, -10, 0))


def not_a_tiff(path: Path) -> None:
    path.write_bytes(b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")


def truncated(path: Path) -> None:
    write_scene(path, landscape(600, 600, 2), BANDS)
    path.write_bytes(path.read_bytes()[:200_000])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing_band, r"bad: the model needs green, swir16 but the scene has green, red; missing swir16.*--bands"),
        (no_crs, r"bad.*CRS"),
        (complex_dtype, r"bad.*complex"),
        (rotated, r"bad.*rotated"),
        (not_a_tiff, r"bad.*TIFF"),
        (truncated, r"bad.*cannot decode.*cut short: fetch it again"),
    ],
)
def test_a_bad_scene_is_refused_and_the_good_one_is_mapped(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_scene(tmp_path / "good.tif", landscape(60, 50, 2), BANDS)
    spoil(tmp_path / "bad.tif")
    code, found = run(capsys, tmp_path / "out", str(good), str(tmp_path / "bad.tif"), *SCALED)
    assert code == 3
    assert found["scenes"]["good"]["status"] == "published"
    assert found["scenes"]["bad"]["status"] == "refused"
    assert_matches(message, found["scenes"]["bad"]["error"])


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text, re.DOTALL), text


def test_values_of_unknown_scale_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "raw.tif", landscape(60, 50, 2), BANDS)
    code, found = run(capsys, tmp_path / "out", str(scene))
    assert code == 2
    assert_matches(
        "water-index-mndwi wants toa_reflectance .* unknown scale; .*--sensor", found["scenes"]["raw"]["error"]
    )


def test_values_that_are_known_to_be_something_else_are_refused_with_a_remedy_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photograph = write_scene(tmp_path / "air.tif", (landscape(60, 50, 4) >> 6).astype(np.uint8), nodata=0)
    words = [str(photograph), "--model", "ndvi", "--sensor", "naip"]
    assert invoke("plan", *words, "--out", str(tmp_path), "--json") == 2
    (refused,) = json.loads(capsys.readouterr().out)["refused"]
    told = "wants toa_reflectance or boa_reflectance or reflectance but the scene's values are unit; "
    assert told in refused["message"]
    remedy = refused["message"].partition("say ")[2].split()
    assert remedy == ["--quantity", "reflectance"]
    assert invoke("plan", *words, *remedy, "--out", str(tmp_path), "--json") == 0


NUMBERS = "green=<number>,nir=<number>,swir16=<number>"


@pytest.mark.parametrize(
    ("dtype", "gsd_m", "names", "model", "line"),
    [
        ("uint8", 0.3, None, "buildings", "--bands red=1,green=2,blue=3 --quantity unit"),
        ("uint16", 10, None, "water-indices", f"--bands {NUMBERS} --scale <factor> --quantity toa_reflectance. Nothing says "
         "which of the 4 bands is green or nir or swir16"),
        ("float32", 10, ("B12", "B11", "x", "B03"), "water-index", "--bands green=4,swir16=2 --quantity toa_reflectance"),
        ("float32", 10, ("x", "y", "B8", "B12"), "burn-nbr", "--bands nir=3,swir22=4 --quantity toa_reflectance"),
        ("uint16", 10, ("x", "green", "y", "z"), "water-index", "--bands green=2,swir16=<number> --scale <factor>"),
    ],
)  # fmt: skip
def test_all_that_is_missing_is_said_at_once_with_a_line_that_works(
    dtype: str, gsd_m: float, names: tuple[str, ...] | None, model: str, line: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    scene = write_scene(
        tmp_path / "raw.tif", (landscape(60, 50, 4) % 250 / (1 if dtype[0] == "u" else 250)).astype(dtype), names,
        transform=Affine(gsd_m, 0, 300000, 0, -gsd_m, 4500000),
    )  # fmt: skip
    command = ("plan", str(scene), "--model", model, "--out", str(tmp_path / "out"), "--device", "cpu")
    assert invoke(*command) == 2
    captured = capsys.readouterr()
    printed = " ".join((captured.out + captured.err).split())
    assert line in printed
    assert "missing" in printed
    words = printed.partition("Both in one line: ")[2].partition(". Nothing")[0].partition(". --sensor")[0].split()
    if any("<" in word for word in words):
        assert invoke(*command, *words) == 2, "what is pasted by mistake is refused"
    number = iter(one for one in "1234" if f"={one}" not in " ".join(words))
    filled = [re.sub("<number>", lambda _: next(number), word.replace("<factor>", "0.0001")) for word in words]
    assert invoke(*command, *filled) == 0


def test_the_line_names_the_bands_of_both_dates_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("B12", "x", "B8")
    after = write_scene(tmp_path / "after.tif", landscape(60, 50, 3), names, date="2026:07:01 10:00:00")
    before = write_scene(tmp_path / "before.tif", landscape(60, 50, 3, 1), names, date="2026:06:01 10:00:00")
    command = ("plan", str(after), "--before", str(before), "--model", "burn-severity", "--out", str(tmp_path / "out"))
    assert invoke(*command) == 2
    captured = capsys.readouterr()
    printed = " ".join((captured.out + captured.err).split())
    line = "--bands nir=3,swir22=1 --scale <factor> --quantity toa_reflectance"
    assert line in printed
    assert "before_nir=" not in printed
    assert invoke(*command, *line.replace("<factor>", "0.0001").split()) == 0
    write_scene(tmp_path / "before.tif", landscape(60, 50, 3, 1), names[::-1], date="2026:06:01 10:00:00")
    assert invoke(*command) == 2
    captured = capsys.readouterr()
    assert "--bands nir=<number>,swir22=<number>" in " ".join((captured.out + captured.err).split()), (
        "no line fits both"
    )


def test_a_band_number_that_the_file_does_not_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "raw.tif", landscape(60, 50, 2))
    options = ("--bands", "green=1,swir16=3", "--scale", "0.0001", "--quantity", "toa_reflectance")
    code, found = run(capsys, tmp_path / "out", str(scene), *options)
    assert code == 2
    assert_matches("swir16.*3.*2", found["scenes"]["raw"]["error"])


def test_colliding_scene_ids_are_told_apart_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_scene(tmp_path / "a" / "scene.tif", landscape(60, 50, 2, 1), BANDS)
    two = write_scene(tmp_path / "b" / "scene.tif", landscape(60, 50, 2, 2), BANDS)
    options = ("--scale", "0.0001", "--quantity", "toa_reflectance")
    code, found = run(capsys, tmp_path / "out", str(one), str(two), *options)
    assert code == 0
    assert len(found["scenes"]) == 2
    assert all(name.startswith("scene") for name in found["scenes"])
    assert invoke("plan", str(one), str(two), "--scene-id", "x", "--model", "water-index", "--out", str(tmp_path)) == 2
    assert "scene-id" in capsys.readouterr().err


def test_an_unknown_date_is_a_warning_and_an_open_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "old.tif", landscape(60, 50, 2), BANDS, date=None)
    options = ("--scale", "0.0001", "--quantity", "toa_reflectance")
    assert invoke("plan", str(scene), *options, "--model", "water-index", "--out", str(tmp_path), "--json") == 0
    assert "date" in " ".join(json.loads(capsys.readouterr().out)["notes"])
    _, found = run(capsys, tmp_path / "out", str(scene), *options)
    item = json.loads(Path(found["scenes"]["old"]["files"]["item.json"]).read_bytes())
    assert item["properties"]["datetime"] is None
    assert item["properties"]["start_datetime"].startswith("1957-10-04")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--block", "700"), "block 700 px is not a multiple of the shard 2048 px.*--block"),
        (("--shard", "700", "--block", "700"), "--shard must be a multiple of 512, got .700"),
        (("--core", "1000"), "shard 2048 px is not a multiple of the chip core 1000 px"),
        (("--memory-per-worker", "1MiB"), "more than --memory-per-worker"),
        (("--memory-per-worker", "much"), "--memory-per-worker: .*not a size"),
        (("--memory-per-worker", "9" * 400), "--memory-per-worker: .*more than a number can hold"),
        (("--max-runtime", "soon"), "--max-runtime: .*not a size such as 90s, 45m"),
        (("--scale", "nan"), "scale.*finite number"),
        (("--offset", "inf"), "offset.*finite number"),
        (("--price-per-hour", "inf"), "--price-per-hour must .*finite number"),
        (("--bands", "green"), "bands.*red=3,nir=4"),
        (("--sensor", "no-such"), "sensor.*no-such"),
        (("--datetime", "yesterday"), "yesterday.*not a date such as"),
        (("--out", "https://example.com/x"), "folder or s3://"),
        (("--model", "no-such"), "unknown model 'no-such'.*landwater"),
    ],
)
def test_bad_options_are_one_sentence_and_exit_code_2(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(60, 50, 2), BANDS)
    options = (*SCALED, "--model", "water-index", "--out", str(tmp_path / "out"))
    assert invoke("plan", str(scene), *options, *arguments) == 2
    found = capsys.readouterr()
    assert_matches(message, " ".join(found.err.split()))
    assert "Traceback" not in found.err
    assert not (tmp_path / "out").exists(), "a plan must touch nothing"


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--max-runtime", "45m"), ("--max-runtime", "1.5h"), ("--max-runtime", "90"), ("--memory-per-worker", "3GiB"),
        ("--memory-per-worker", "3000000000"),
    ],
)  # fmt: skip
def test_times_and_sizes_are_given_as_the_help_says(option: str, text: str, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(60, 50, 2), BANDS)
    arguments = ("--scale", "0.0001", "--quantity", "toa_reflectance", "--model", "water-index", "--out", "out")
    assert invoke("plan", str(scene), *arguments, option, text) == 0


def test_nothing_found_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("plan", str(tmp_path / "*.tif"), "--model", "water-index", "--out", str(tmp_path)) == 2
    assert "*.tif" in capsys.readouterr().err


def test_an_unknown_key_of_the_config_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "run.toml"
    config.write_text('scenes = ["a.tif"]\nmodel = "water-index"\nout = "out"\nblok = 512\n')
    assert invoke("plan", "--config", str(config)) == 2
    assert "blok" in capsys.readouterr().err


def test_options_of_the_command_line_win_over_the_config_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_scene(tmp_path / "a.tif", landscape(60, 50, 2), BANDS)
    config = tmp_path / "run.toml"
    config.write_text(
        f'scenes = ["{scene}"]\nmodel = "water-index"\nout = "{tmp_path}"\nscale = 0.0002\nshard = 512\nblock = 512\n'
        'quantity = "toa_reflectance"\n'
    )
    assert invoke("plan", "--config", str(config), "--block", "1024", "--json") == 0
    assert json.loads(capsys.readouterr().out)["scenes"][0]["id"] == "a"
