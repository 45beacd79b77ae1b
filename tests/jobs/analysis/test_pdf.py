"""PDFs are printed by a browser that is looked for first; what it says when it fails is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from earthloom.jobs.analysis.pdf import BROWSERS, find_browser, print_pdf
from earthloom.jobs.command.analysis import report
from earthloom.tiling.errors import ConfigError


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_a_browser_a_report_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    asked = [str(tmp_path / "no-out"), "--product", "water-index", "--aoi", "lake", "--output"]
    done = CliRunner().invoke(report, [*asked, str(tmp_path / "lake.pdf")])
    assert isinstance(done.exception, ConfigError)
    assert "apt-get install chromium" in str(done.exception)
    as_html = CliRunner().invoke(report, [*asked, str(tmp_path / "lake.html")])
    assert "Chromium" not in str(as_html.exception)


@pytest.mark.parametrize("name", BROWSERS)
def test_each_known_browser_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = program(tmp_path, name, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() == str(path)


def test_the_browser_prints_the_page_that_it_is_given(tmp_path: Path) -> None:
    browser = program(
        tmp_path, "chromium",
        'for one in "$@"; do case $one in --print-to-pdf=*) to=${one#*=};; file://*) from=${one#file://};; esac; done\n'
        '{ printf "%%PDF-1.4\\n"; cat "$from"; } > "$to"',
    )  # fmt: skip
    assert print_pdf("<p>5 km²</p>", str(browser)) == "%PDF-1.4\n<p>5 km²</p>".encode()


def test_what_a_failing_browser_says_is_passed_on(tmp_path: Path) -> None:
    browser = program(tmp_path, "chromium", "echo 'no usable sandbox' >&2; exit 1")
    with pytest.raises(ConfigError, match=r"has printed no PDF: no usable sandbox; write the page as \.html"):
        print_pdf("<p></p>", str(browser))
