"""The pages that people read first: what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_QUOTED = re.compile(r"`((?:tests|jobs|tiling|models|cluster|infra|docs)/[\w./-]*)`")
_LINKED = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/format.md"])
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    named = [ROOT / name for name in _QUOTED.findall(text)]
    linked = [(ROOT / page).parent / name for name in _LINKED.findall(text)]
    assert [str(path) for path in (*named, *linked) if not path.exists()] == []
