"""A scene that cannot be used is news once: with the same bytes and for the same reason it is known from then on."""

from __future__ import annotations

from pathlib import Path

import pytest

from earthloom.jobs.execution.driver import RunResult
from earthloom.jobs.records.known import KNOWN
from earthloom.tiling.errors import SceneError, StorageError
from tests.maps import faults, go, lake
from tests.scenes import landscape, write_scene


def poor(folder: Path, name: str = "poor", *, seed: int = 0, band: str = "green") -> Path:
    """A scene that lacks a band."""
    return write_scene(folder / f"{name}.tif", landscape(48, 48, 1, seed), (band,))


def night(folder: Path, **options: object) -> RunResult:
    return go(folder / "in", out=folder / "out", allow_failures="known", **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good scene and a poor one, of which a run has told."""
    lake(tmp_path / "in", width=64, height=64)
    poor(tmp_path / "in")
    first = night(tmp_path)
    assert (first.exit_code, str(first.counts)) == (3, "1 published (1 new), 1 refused, 0 failed")
    return tmp_path


def test_refusal_of_the_same_bytes_for_the_same_reason_is_known(folder: Path) -> None:
    again = night(folder)
    assert (again.exit_code, str(again.counts)) == (0, "1 published (0 new), 1 refused (1 known), 0 failed")
    assert go(folder / "in", out=folder / "out").exit_code == 3, "it is excused only where that is asked for"
    assert (folder / "out" / "runs" / again.run_id / "commit.json").is_file(), "the run has all that it can have"


def test_other_bytes_another_reason_another_model_or_another_scene_is_news(folder: Path) -> None:
    poor(folder / "in", seed=1)
    assert night(folder).exit_code == 3
    assert night(folder).exit_code == 0
    poor(folder / "in", seed=1, band="swir16")
    assert night(folder).exit_code == 3
    assert night(folder).exit_code == 0
    assert night(folder, model="index:(swir16-green)/(swir16+green)").exit_code == 3
    poor(folder / "in", "other")
    assert night(folder).exit_code == 3


def test_a_trouble_that_is_over_is_forgotten(folder: Path) -> None:
    bad = (folder / "in" / "poor.tif").read_bytes()
    lake(folder / "in", "poor", width=64, height=64)
    assert night(folder).exit_code == 0
    assert b"poor" not in (folder / "out" / KNOWN).read_bytes()
    (folder / "in" / "poor.tif").write_bytes(bad)
    assert night(folder).exit_code == 3


def test_a_night_of_nothing_but_known_scenes_is_a_quiet_one(tmp_path: Path) -> None:
    poor(tmp_path / "in")
    assert [night(tmp_path).exit_code for _ in range(3)] == [2, 0, 0]
    assert go(tmp_path / "in", out=tmp_path / "out").exit_code == 2


def test_damaged_pixels_are_known_and_an_outage_never_is(folder: Path) -> None:
    lake(folder / "in", "torn", width=600, height=64)
    for code in (3, 0):
        with faults({f"torn/0_{col}": [SceneError("torn: a tile is damaged")] * 9 for col in range(2)}):
            assert night(folder).exit_code == code
    lake(folder / "in", "far", width=64, height=64)
    for _ in range(2):
        with faults({"far/0_0": [StorageError("the bucket is away")] * 9}):
            assert night(folder).exit_code == 3


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"format":1}', b'{"format":1,"troubles":{"a":[]}}', b'{"format":99}'])
def test_a_damaged_list_costs_a_reminder_and_is_made_again(folder: Path, damage: bytes) -> None:
    (folder / "out" / KNOWN).write_bytes(damage)
    assert [night(folder).exit_code for _ in range(2)] == [3, 0]
