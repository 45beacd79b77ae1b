"""The demo of monitoring finds what it has planted, and says what is made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from earthloom.jobs.command import demo_dates
from earthloom.jobs.command.demo_dates import GREEN, STEP_PX, SWIR, recede
from infra import demo_monitor
from tests.scenes import real


def test_a_shore_recedes_by_its_step_and_water_far_from_land_stays() -> None:
    pixels = np.zeros((7, 4, 200), np.uint8)
    pixels[GREEN], pixels[SWIR] = 60, 90  # land
    pixels[SWIR, :, 40:] = 10  # a lake to the east
    pixels[0] = np.arange(200, dtype=np.uint8)
    moved = recede(recede(pixels))
    water = moved[GREEN] > moved[SWIR]
    assert (~water[:, : 40 + 2 * STEP_PX]).all()
    assert water[:, 40 + 2 * STEP_PX :].all()
    assert (moved[0, :, 40 : 40 + STEP_PX] == np.arange(40 - STEP_PX, 40)).all()  # land with its own texture


def test_the_demo_finds_what_it_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = real("scenes/landsat7_great_salt_lake_7band.tif")
    monkeypatch.setattr(demo_dates, "demo_scene", lambda: scene)
    monkeypatch.chdir(tmp_path)
    demo_monitor.main()
    told = capsys.readouterr().out
    assert "SYNTHETIC" in told
    assert "water → land: 978 ha" in told
    assert told.count("confirmed") >= 5
    plot = next(Path(line.split()[1]) for line in told.splitlines() if line.startswith("plot"))
    assert plot.read_bytes().startswith(b"\x89PNG")
