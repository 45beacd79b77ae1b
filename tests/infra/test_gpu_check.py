"""The check for a GPU machine: what fails or hangs in one section is said and costs no other section its rows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.gpu_check import sections
from infra.gpu_check.large import jump
from infra.gpu_check.networks import NETWORKS
from infra.gpu_check.sections import Section
from infra.gpu_check.trace import covered

_WRITES = "import sys; open(sys.argv[1], 'a').write('{\"found\": 1}\\n{\"cut')\n"
_CODE = {
    "prepare": "pass",
    "good": _WRITES,
    "broken": f"{_WRITES}raise ValueError('no such kernel')",
    "hung": f"{_WRITES}import time; sys.stdout.flush(); time.sleep(600)",
}


def test_every_section_is_a_module_and_every_subject_a_network() -> None:
    for section in sections.SECTIONS:
        module, _, subject = section.name.partition(":")
        assert importlib.util.find_spec(f"infra.gpu_check.{module}"), section.name
        assert not subject or subject.removesuffix("-large") in NETWORKS
    assert {section.name.partition(":")[2] for section in sections.SECTIONS} >= set(NETWORKS)
    assert [section.name for section in sections.SECTIONS][:4] == ["tests", "limits", "identity", "large"]


def test_sections_that_break_or_hang_leave_their_rows_and_the_others_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(name: str, device: str, work: Path, rows: Path, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", _CODE[name], str(rows)], stdout=output, stderr=output, start_new_session=True
            )

    monkeypatch.setattr(sections, "_start", start)
    limits = {"broken": 60.0, "hung": 9.0, "good": 60.0}
    monkeypatch.setattr(sections, "SECTIONS", tuple(Section(name=name, limit_s=limits[name]) for name in limits))
    assert sections.measure(tmp_path, "cuda", time.time() + 600) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert {name: section["ended"] for name, section in found.items()} == {
        "broken": "failed with 1: ValueError: no such kernel", "hung": "cut off after 9 s", "good": "done",
    }  # fmt: skip
    assert all(section["rows"] == [{"found": 1}] for section in found.values()), "a line that is cut is no row"
    assert sections.measure(tmp_path, "cuda", time.time() + 1) == 1
    late = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert {section["ended"] for section in late.values()} == {"left out: no time"}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9))))
@settings(deadline=None)
def test_time_that_is_covered_counts_once(found: list[tuple[int, int]]) -> None:
    seconds = {second for begin, length in found for second in range(begin, begin + length)}
    assert covered([(begin, begin + length) for begin, length in found]) == len(seconds)


def test_a_seam_is_seen_where_cores_meet_and_nowhere_else() -> None:
    smooth = np.tile(np.arange(48, dtype=np.uint8), (4, 1))
    stepped = smooth + 10 * (np.arange(48) // 16).astype(np.uint8)
    assert jump(smooth, 16) == 1
    assert jump(stepped, 16) == 11
    assert jump(stepped, 12) < 2
