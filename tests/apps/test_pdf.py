"""The page about an area on paper: `earthloom report … --output FILE.pdf`, printed by Chromium and read back by poppler."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from earthloom.jobs.analysis.pdf import BROWSERS, find_browser, print_pdf
from earthloom.jobs.command.analysis import report
from earthloom.jobs.learning.report_page import STYLE
from tests.integration import test_alerts as lake

pytestmark = pytest.mark.apps

A4_MM = (210, 297)
DPI = 60


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not any(map(shutil.which, BROWSERS)):
        pytest.skip("no Chromium here: apt-get install chromium")
    if shutil.which("pdftoppm") is None:
        pytest.skip("no poppler here: apt-get install poppler-utils")
    base = tmp_path_factory.mktemp("pdf")
    for number in range(len(lake.DATES)):
        lake.write(base / "in", number)
    assert lake.go(base).exit_code == 0
    asked = [str(base / "out"), "--product", "water-index", "--aoi", "lake", "--output", str(base / "lake.pdf")]
    done = CliRunner().invoke(report, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return base / "lake.pdf"


@pytest.fixture(scope="module")
def sheets(pdf: Path) -> list[NDArray[np.uint8]]:
    """Each sheet as it comes out of a printer, (rows, columns, 3)."""
    subprocess.run(["pdftoppm", "-r", str(DPI), "-png", pdf, pdf.with_suffix("")], check=True)
    files = sorted(pdf.parent.glob("lake-*.png"))
    return [np.asarray(Image.open(io.BytesIO(file.read_bytes())).convert("RGB")) for file in files]


def test_sheets_are_a4_with_margins_and_none_is_empty(sheets: list[NDArray[np.uint8]]) -> None:
    assert 2 <= len(sheets) <= 5
    margin_px = int(4 / 25.4 * DPI)  # no printer reaches the edge; the number of the sheet stands in the margin
    for sheet in sheets:
        height_px, width_px = sheet.shape[:2]
        assert abs(width_px - A4_MM[0] / 25.4 * DPI) <= 1
        assert abs(height_px - A4_MM[1] / 25.4 * DPI) <= 1
        inked: NDArray[np.bool_] = np.any(sheet < 250, axis=2)
        assert inked.mean() > 0.01
        frame = inked.copy()
        frame[margin_px:-margin_px, margin_px:-margin_px] = False
        assert not frame.any()


def test_the_words_of_the_page_are_words_in_the_file(pdf: Path) -> None:
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    for heading in ("lake: water-index", "Maps", "Alerts", "Over time", "Numbers", "2 confirmed."):
        assert heading in text
    sheets = [sheet.split() for sheet in text.rstrip("\f").split("\f")]
    assert [f"{number}/{len(sheets)}" for number in range(1, len(sheets) + 1)] == [
        "".join(words[-1:]) for words in sheets
    ]
    assert "file://" not in text


def test_a_table_that_goes_on_has_its_headings_on_every_sheet(pdf: Path, tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>{number}</td><td>x</td></tr>" for number in range(90))
    page = f"<style>{STYLE}</style><table><thead><tr><th>number</th><th>what</th></tr></thead>{rows}</table>"
    (tmp_path / "long.pdf").write_bytes(print_pdf(page, find_browser()))
    text = subprocess.run(["pdftotext", tmp_path / "long.pdf", "-"], capture_output=True, text=True, check=True).stdout
    sheets = text.rstrip("\f").split("\f")
    assert len(sheets) > 1
    assert all("number" in sheet for sheet in sheets)


def test_the_map_has_its_colours_and_the_outlines_of_alerts(sheets: list[NDArray[np.uint8]]) -> None:
    def near(sheet: NDArray[np.uint8], color: tuple[int, int, int]) -> int:
        return int((np.abs(sheet.astype(int) - color).max(axis=2) < 40).sum())

    for color in ((181, 159, 107), (31, 120, 180), (213, 94, 0)):  # land, water, an alert
        assert near(sheets[0], color) > 20
