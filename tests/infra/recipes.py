"""Blocks of code in pages and notebooks, and what runs them as a reader would."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from earthloom.jobs.command import main

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) of a page's blocks, in order."""
    found = re.findall(r"```(\w+)\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert found, f"{page} has no blocks"
    return [(str(language), str(code)) for language, code in found]


def blocks_of(page: str, language: str) -> list[str]:
    """Those of one language."""
    found = [code for name, code in blocks(page) if name == language]
    assert found, f"{page} has no {language}"
    return found


def cells(notebook: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    document = json.loads(notebook.read_text())
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def run_python(code: str, names: dict[str, Any], place: str) -> None:
    """Run a block or a cell in a namespace that lasts over several."""
    exec(compile(code, place, "exec"), names)


def run_commands(code: str) -> None:
    """Run the lines of a block of shell that begin with `earthloom`, in this process.

    Raises:
        AssertionError: if one of them fails.
    """
    for line in re.sub(r"\\\n *", "", code).splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["earthloom"]:
            assert _exit_code(words[1:]) == 0, line


def _exit_code(words: list[str]) -> int:
    try:
        main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
