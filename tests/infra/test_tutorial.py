"""The tutorial and the notebooks, block by block as they stand there, on the demo's scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot
import pytest

from earthloom.jobs.command import demo_dates
from tests.infra.recipes import DOCS, blocks, cells, run_commands, run_python
from tests.maps import fetched
from tests.scenes import real

NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
matplotlib.use("agg")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, and the demo's scene without a download."""
    scene = real("scenes/landsat7_great_salt_lake_7band.tif")
    monkeypatch.setattr(demo_dates, "demo_scene", lambda: scene)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    matplotlib.pyplot.close("all")


def test_every_block_of_the_tutorial_runs_in_its_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched("landwater")
    names: dict[str, Any] = {}
    for language, code in blocks("tutorial.md"):
        if language == "bash" and code.startswith("mkdir tutorial\ncd tutorial"):
            Path("tutorial").mkdir()
            monkeypatch.chdir(folder / "tutorial")
        elif language == "bash":
            run_commands(code)
        elif language == "toml":
            Path("shore.toml").write_text(code)
        else:
            run_python(code, names, "docs/tutorial.md")
    first, second, third = (int(px) for px in names["water"].values)
    assert first > second > third
    assert (names["confirmed"]["count"] >= 2).all()
    assert 900e4 < names["confirmed"]["area_m2"].sum() < 1000e4  # strips of 570 m along some 17 km of shore
    assert Path("shore.png").stat().st_size > 5000
    assert Path("shore.html").read_text().count("data:image/png") == 3


@pytest.mark.long
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs_in_its_order(notebook: Path) -> None:
    names: dict[str, Any] = {}
    for code in cells(notebook):
        run_python(code, names, notebook.name)
    if notebook.stem == "zonal-statistics":
        assert names["by_zone"].iloc[0].sum() == pytest.approx(names["published"], rel=1e-4)
        assert names["by_zone"].sum(axis=1).is_monotonic_decreasing
    if notebook.stem == "own-model":
        assert names["agreement"] > 0.8
    if notebook.stem == "time-series":
        assert names["water"].is_monotonic_decreasing
        assert "confirmed" in set(names["alerts"]["state"])


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_what_a_run_leaves_in_it(notebook: Path) -> None:
    document = json.loads(notebook.read_text())
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert document["nbformat"] == 4
    assert {cell["execution_count"] for cell in code} == {None}
    assert [cell["outputs"] for cell in code if cell["outputs"]] == []
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
