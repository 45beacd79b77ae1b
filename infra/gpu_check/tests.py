"""The tests that are marked `gpu`."""

from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree

from infra.gpu_check.sections import ROOT, Task, Write


def rows(task: Task, write: Write) -> None:
    """One row for each test, and why it failed or was skipped."""
    report = task.work / "tests.xml"
    marked = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *marked,
    ]
    done = subprocess.run(command, cwd=ROOT, check=False)
    cases = list(ElementTree.parse(report).iter("testcase"))
    for case in cases:
        parts = [part for part in case if part.tag in ("failure", "error", "skipped")]
        row = {
            "test": case.get("name"),
            "seconds": float(case.get("time", 0)),
            "outcome": parts[0].tag if parts else "passed",
        }
        write(row | ({"why": (parts[0].get("message") or "")[:500]} if parts else {}))
    if done.returncode or not cases:
        raise SystemExit(f"{len(cases)} tests; pytest ended with {done.returncode}")
