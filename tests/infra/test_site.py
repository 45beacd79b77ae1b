"""The docs as a site: every page has its place, errors are quoted as the code says them, and the reference is current."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.report.flags import with_flags
from infra import api_page
from tests.infra.recipes import DOCS, blocks_of

ROOT = DOCS.parent


def test_every_page_has_its_place_in_the_navigation() -> None:
    def pages(entries: list[dict[str, Any]]) -> Iterator[str]:
        for entry in entries:
            for place in entry.values():
                yield from [place] if isinstance(place, str) else pages(place)

    named = list(pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert sorted(named) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_the_reference_of_python_is_that_of_the_docstrings() -> None:
    assert api_page.PAGE.read_text() == api_page.page(), "run python -m infra.api_page"


def templates() -> set[str]:
    """Every text in the code as a user would read it, with … for what is filled in."""
    found = set()
    for top in ("jobs", "models", "tiling", "cluster"):
        for file in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                    found.add(with_flags("".join(map(str, parts))))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(with_flags(node.value))
    return {re.sub("…+", "…", text) for text in found}


def test_every_error_that_the_questions_quote_is_still_said() -> None:
    quoted = [" ".join(block.split()) for block in blocks_of("faq.md", "text")]
    assert len(quoted) >= 15
    said = templates()
    assert [quote for quote in quoted if quote not in said] == []


@pytest.mark.apps
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("no Zensical here: pip install 'earthloom[docs]'")
    shutil.copytree(DOCS, tmp_path / "docs")  # Zensical reads nothing beside its configuration
    (tmp_path / "zensical.toml").write_text((ROOT / "zensical.toml").read_text().replace("build/site", "site"))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(tmp_path / "zensical.toml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "tutorial.html").is_file()
