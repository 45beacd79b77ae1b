"""`earthloom distil` from scenes without labels to a student that maps them like its teacher."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner

import earthloom
from earthloom.jobs.command import cli
from earthloom.jobs.learning.distil import Distilled, _teacher, block_px
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from tests.models.nets import card_of
from tests.scenes import write_scene

pytestmark = pytest.mark.usefixtures("unmeasured_memory")

RUN: dict[str, Any] = {"executor": "local", "shard": 512, "block": 512, "scale": 1e-4, "quantity": "reflectance"}
STUDENT: dict[str, Any] = {"student": "ukis-unet", "arguments": '{"base": 4}', "steps": 40, "chips": 4, "crop": 32,
                           "rate": 1e-2}  # fmt: skip


def lakes(path: Path, seed: int) -> Path:
    """Dark water in squares on brighter land: 300 x 200 px of green and swir16."""
    rng = np.random.default_rng(seed)
    pixels = np.stack([rng.integers(600, 900, (200, 300)), rng.integers(2000, 3000, (200, 300))]).astype(np.uint16)
    for row, col in zip(rng.integers(0, 160, 25), rng.integers(0, 260, 25), strict=True):
        pixels[0, row : row + 40, col : col + 40] = rng.integers(
            800, 1200, pixels[0, row : row + 40, col : col + 40].shape
        )
        pixels[1, row : row + 40, col : col + 40] = rng.integers(
            100, 400, pixels[1, row : row + 40, col : col + 40].shape
        )
    return write_scene(
        path, pixels, ("green", "swir16"), transform=Affine(10, 0, 300000, 0, -10, 4500000 - 30000 * seed)
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("distil")
    return [lakes(folder / f"{name}.tif", seed) for seed, name in enumerate(("north", "mid", "south"))]


@pytest.fixture(scope="module")
def made(scenes: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("earthloom.models.measuring.measure._bytes_per_px", lambda *_: 300.0)
        return earthloom.distil(scenes, model="water-index", out=tmp_path_factory.mktemp("out"), **(RUN | STUDENT))


def test_a_student_maps_a_scene_as_its_teacher_does(made: Distilled, tmp_path: Path) -> None:
    other = lakes(tmp_path / "other.tif", 9)
    maps = []
    for model in ("water-index", made.trained.out):
        result = earthloom.run(other, model=model, out=tmp_path / "maps", precision="fp32", **RUN)
        (summary,) = result.results.values()
        with rasterio.open(tmp_path / "maps" / summary.prefix / f"{summary.model}.tif") as dataset:
            maps.append(dataset.read(1))
    assert 0.2 < maps[0].mean() < 0.8
    assert (maps[0] == maps[1]).mean() > 0.9


def test_squares_of_one_scene_are_as_large_as_still_leaves_enough_of_them() -> None:
    def grid(side: int) -> Grid:
        return Grid(crs="EPSG:32617", transform=(10, 0, 0, 0, -10, 0), width=side, height=side)

    assert block_px([grid(10_000)], 128) == 16 * 128
    assert block_px([grid(1024)], 64) == 5 * 64
    assert block_px([grid(1024), grid(1024)], 64) == 7 * 64
    assert block_px([grid(100)], 64) == 2 * 64


def test_it_says_how_both_compare(made: Distilled) -> None:
    found = made.to_dict()
    assert (found["student"], found["teacher"]) == ("water-index-student", "water-index-mndwi")
    assert found["agreement"]["accuracy"]["mean"] > 0.85
    assert made.student.gives == ("land", "water")
    assert found["flop_per_px"]["student"] > 0
    assert made.trained.record["config"]["teacher"]["model"] == "water-index"
    assert "its scores are agreement" in made.student.description


def test_the_same_command_again_finds_what_is_there(made: Distilled, scenes: list[Path]) -> None:
    card = Path(made.trained.out, "card.json").read_bytes()
    again = earthloom.distil(scenes, model="water-index", out=made.trained.out, **(RUN | STUDENT))
    assert again.trained.was_there
    assert Path(made.trained.out, "card.json").read_bytes() == card
    with pytest.raises(ConfigError, match="which another training or program made"):
        earthloom.distil(scenes, model="water-index", out=made.trained.out, **(RUN | STUDENT | {"temperature": 3.0}))


def test_the_command_prints_what_the_student_costs(made: Distilled, scenes: list[Path]) -> None:
    arguments = ["distil", "water-index", "--out", made.trained.out]
    for scene in scenes:
        arguments += ["--scenes", str(scene)]
    for name, value in (RUN | STUDENT).items():
        arguments += [f"--{name}", str(value)]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 0, shown.output
    assert "operations per pixel" in shown.stdout
    told = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert told == json.loads(json.dumps(made.to_dict()))


def test_a_scene_that_cannot_be_mapped_stops_it(scenes: list[Path], tmp_path: Path) -> None:
    bare = write_scene(tmp_path / "bare.tif", np.ones((1, 64, 64), np.uint16), ("red",))
    with pytest.raises(SceneError, match="cannot map all scenes; leave out what it cannot: bare"):
        earthloom.distil([scenes[0], bare], model="water-index", out=tmp_path / "out", **(RUN | STUDENT))
    with pytest.raises(ConfigError, match="what is distilled is a segmentation"):
        earthloom.distil(scenes, model="destripe", out=tmp_path / "out", **(RUN | STUDENT))


def test_a_teacher_of_two_dates_is_refused_before_anything_is_mapped() -> None:
    card = replace(card_of("lite-unet", 2, 2, 16), bands=("red", "before_red"))
    plans: Any = SimpleNamespace(
        scenes=[SimpleNamespace(card=card, chain=SimpleNamespace(stages=[SimpleNamespace(cards=[card])]))]
    )
    with pytest.raises(ConfigError, match=r"compares two dates, .* write a training file"):
        _teacher(plans)
