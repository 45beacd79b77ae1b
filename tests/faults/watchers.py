"""Watchers as processes, whose leases become stale after some seconds, so that tests need not wait a minute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_WATCH = (
    "import sys; from earthloom.jobs.records import lease; lease.EXPIRES_S, lease.BEAT_S = 6.0, 0.5; "
    "from earthloom.jobs.command import main; main(sys.argv[1:])"
)


def start_watcher(
    file: Path, log: Path, *, at_once: int, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """`earthloom watch FILE`, looking every second; what it prints on stderr goes to `log`."""
    options = ["--interval", "1s", "--settle", "0", "--at-once", str(at_once)]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", _WATCH, "watch", str(file), *options], cwd=ROOT,
            env={**(env or os.environ), "PYTHONPATH": str(ROOT)}, stderr=stream, stdout=stream, start_new_session=True,
        )  # fmt: skip
