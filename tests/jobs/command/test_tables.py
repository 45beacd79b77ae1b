"""What people read: the tables that the commands print hold the facts, each in the line of its scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from earthloom.jobs.command import main
from earthloom.jobs.command.train import score_table
from earthloom.jobs.learning.train import Trained
from tests.maps import go_until_commit, lake
from tests.scenes import landscape, write_scene

Call = Callable[..., tuple[int, list[str]]]
OPTIONS = ["--model", "water-index", "--scale", "0.0001", "--quantity", "reflectance", "--shard", "512", "--block", "512",
           "--precision", "fp32", "--device", "cpu", "--executor", "local"]  # fmt: skip


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process: its exit code, and the lines that it printed anywhere."""

    def called(*arguments: str | Path) -> tuple[int, list[str]]:
        capfd.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(str(stop.code or 0))
        printed = capfd.readouterr()
        return code, (printed.out + printed.err).splitlines()

    return called


def line_of(lines: list[str], *words: str) -> str:
    """The one line that holds all these words."""
    found = [line for line in lines if all(word in line for word in words)]
    assert len(found) == 1, (words, lines)
    return found[0]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A lake of 3 x 2 blocks, a pond of one, and a scene that lacks a band."""
    lake(tmp_path / "in")
    lake(tmp_path / "in", "pond", width=300, height=200)
    write_scene(tmp_path / "in" / "poor.tif", landscape(64, 64, 1), ("green",))
    return tmp_path / "in"


@pytest.mark.parametrize("command", ["plan", "run"])
def test_scenes_that_are_refused_for_one_reason_share_a_line(command: str, call: Call, tmp_path: Path) -> None:
    for number in range(12):
        write_scene(tmp_path / "in" / f"poor{number:02}.tif", landscape(64, 64, 1), ("green",))
    code, lines = call(command, tmp_path / "in", "--out", tmp_path / "out", *OPTIONS)
    assert code == 2
    assert "poor07 and 4 more" in line_of(lines, "missing swir16")


def test_the_plan_has_a_row_for_each_scene_and_says_why_one_is_refused(
    call: Call, scenes: Path, tmp_path: Path
) -> None:
    code, lines = call("plan", scenes, "--out", tmp_path / "out", *OPTIONS)
    assert code == 3
    row = line_of(lines, "lake", "ready").split()
    assert "1300 x 700 px" in line_of(lines, "lake", "ready")
    assert {"6", "1.30"} <= set(row), "blocks, and what chips beyond the scene's edges cost"
    assert "water-index-mndwi" in row
    assert "300 x 200 px" in line_of(lines, "pond", "ready")
    assert "swir16" in line_of(lines, "refused", "poor")
    assert "GiB per worker" in line_of(lines, "device cpu", "fp32")
    assert not (tmp_path / "out").exists()


def test_a_long_plan_is_cut_and_says_how_much_is_left_out(call: Call, tmp_path: Path) -> None:
    for number in range(43):
        write_scene(tmp_path / "in" / f"s{number:02}.tif", landscape(16, 16, 2, number), ("green", "swir16"), date=None)
    code, lines = call("plan", tmp_path / "in", "--out", tmp_path / "out", *OPTIONS)
    assert code == 0
    assert len([line for line in lines if " ready " in line]) == 40
    assert line_of(lines, "and 3 more scenes that are ready")
    assert "and 42 more" in line_of(lines, "note", "date"), "a note that holds for many scenes is said once"


def test_a_run_prints_progress_areas_files_and_figures(call: Call, scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, lines = call("run", scenes, "--out", out, *OPTIONS)
    assert code == 3
    start = lines.index(line_of(lines, "lake: published"))
    table = lines[start : start + 9]
    total = line_of(table, "valid area")
    assert "91.0 km²" in total, "1300 x 700 pixels of 10 m"
    assert "100.0 %" in total
    water, land = (line_of(table, "■", name) for name in ("water", "land"))
    shares = [float(line.split("%")[0].split()[-1]) for line in (water, land)]
    assert sum(shares) == pytest.approx(100, abs=0.11)
    (cog,) = out.glob("scenes/lake/*/water-index.tif")
    assert str(cog) in lines
    assert line_of(lines, "lake running 6/6 blocks", "Mpx/s")
    assert line_of(lines, "Mpx in", "km²/h", "halo cost 1.")
    assert "predicted" in line_of(lines, "worker peak")

    code, lines = call("status", out)
    assert code == 0
    assert "water-index · incomplete: 2 published (2 new), 1 refused, 0 failed" in line_of(lines, "run ", "attempt 1")
    assert "6/6" in line_of(lines, "lake", "published")
    assert "swir16" in " ".join(lines[lines.index(line_of(lines, "poor", "refused")) :])

    code, lines = call("verify", out)
    assert code == 0
    assert line_of(lines, "2 scenes", "all is as it was published")
    cog.write_bytes(cog.read_bytes()[:-1])
    code, lines = call("verify", out)
    assert code == 1
    assert "lake" in line_of(lines, "wrong", "water-index.tif")
    assert line_of(lines, "1 problem")


def test_a_sweep_lists_what_may_go_and_says_how_to_remove_it(call: Call, tmp_path: Path) -> None:
    scene, out = lake(tmp_path / "in"), tmp_path / "out"
    go_until_commit(scene, out=out)  # nothing is in flight any more that would still write
    code, lines = call("gc", out, "--older-than", "0s")
    assert code == 0
    assert line_of(lines, "scene", "scenes/lake/")
    assert line_of(lines, "can be removed", "--delete")


def test_the_zoo_is_listed_and_a_card_is_shown(call: Call) -> None:
    code, lines = call("models", "list")
    assert code == 0
    assert line_of(lines, "water-index", "mndwi", "green swir16", "land, water", "yes")
    code, lines = call("models", "show", "water-index")
    assert code == 0
    assert len([line for line in lines if "threshold" in line and "architecture" in line]) == 2
    assert "exact: core 1024 px, halo 0 px, stride 1 px" in " ".join(line_of(lines[:20], "tiling").split())
    code, lines = call("models", "show", "no-such-model")
    assert code == 2
    assert "the zoo has" in line_of(lines, "error: unknown model")


def test_a_map_of_another_file_of_the_same_name_takes_its_row_with_a_word(
    call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    for number, folder in enumerate(("monday", "tuesday")):
        scene = write_scene(tmp_path / folder / "t12.tif", landscape(64, 64, 2, number), ("green", "swir16"))
        code, lines = call("plan", scene, "--out", out, *OPTIONS)
        warned = [line for line in lines if "note" in line and "monday/t12.tif" in line]
        assert (code, len(warned)) == (0, number), "it is told before the work is done"
        assert call("run", scene, "--out", out, *OPTIONS)[0] == 0
        told = [text for text in caplog.messages if "a result of another file is published as t12 too" in text]
        assert len(told) == number
    assert "monday/t12.tif" in told[0]
    caplog.clear()
    assert call("run", scene, "--out", out, *OPTIONS)[0] == 0
    assert not [text for text in caplog.messages if "another file" in text], "it is news once"

    table = tmp_path / "areas.csv"
    assert call("areas", out, "--product", "water-index", "--output", table)[0] == 0
    assert table.read_text().count("\nt12,") == 2, "each scene once, a row for each class"


def test_one_scene_with_another_earlier_one_is_no_other_file(
    call: Call, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names, options = ("green", "nir"), ["--model", "flood", "--scale", 1e-4, "--quantity", "reflectance"]
    late = write_scene(tmp_path / "late.tif", landscape(64, 64, 2, 0), names, date="2026:07:11 10:00:00")
    for day in (1, 2):
        early = write_scene(tmp_path / f"{day}.tif", landscape(64, 64, 2, day), names, date=f"2026:06:0{day} 10:00:00")
        code, lines = call("run", late, "--before", early, "--out", tmp_path / "out", *options)
        assert code == 0, lines
    assert not [text for text in caplog.messages if "another file" in text]
    other = write_scene(tmp_path / "other" / "late.tif", landscape(64, 64, 2, 3), names, date="2026:07:11 10:00:00")
    assert call("run", other, "--before", early, "--out", tmp_path / "out", *options)[0] == 0
    told = [text for text in caplog.messages if "another file" in text]
    assert len(told) == 1, "the earlier file that both have does not make them one scene"
    assert f"{tmp_path.name}/late.tif" in told[0]


def test_a_class_that_nothing_judged_shows_no_score() -> None:
    names = [SimpleNamespace(name=name, value=value) for value, name in enumerate(("soil", "rock"))]
    means = {"iou": 0.8, "iou_soil": 0.8, "iou_rock": 0.0}
    record = {
        "test": {name: {"mean": mean} for name, mean in means.items()},
        "seeds": [{"test": {"confusion": [[4, 1], [0, 0]]}}],
    }
    table = score_table(
        cast(Trained, SimpleNamespace(card=SimpleNamespace(objects=None, classes=names), record=record))
    )
    assert table is not None
    assert list(table.columns[1].cells) == ["0.8000", "", "0.8000"]
