"""How the demo ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.command import demo_scene, main
from earthloom.jobs.command.models import models
from earthloom.jobs.command.run import run


@pytest.mark.parametrize("code", [0, 1])
def test_it_names_the_command_that_shows_the_map_if_there_is_one(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(*_: Any, **__: Any) -> None:
        sys.exit(code)

    monkeypatch.setattr(demo_scene, "demo_scene", lambda: tmp_path / "scene.tif")
    monkeypatch.setattr(models, "main", lambda *_, **__: None)
    monkeypatch.setattr(run, "main", ended)
    with pytest.raises(SystemExit) as stop:
        main(["demo", "--out", "maps here", "--executor", "local"])
    assert stop.value.code == code
    assert ("earthloom view 'maps here'" in capsys.readouterr().err) == (code == 0)


def test_it_names_the_program_itself_where_its_folder_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_scene, "demo_scene", lambda: tmp_path / "scene.tif")
    monkeypatch.setattr(models, "main", lambda *_, **__: None)
    monkeypatch.setattr(run, "main", lambda *_, **__: sys.exit(0))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/earthloom", "demo"])
    with pytest.raises(SystemExit):
        main(["demo", "--executor", "local"])
    assert capsys.readouterr().err.endswith(": .venv/bin/earthloom view demo-output\n")
