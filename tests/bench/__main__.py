"""Measures what the README and docs/benchmarks.md state: `python -m tests.bench [NAME …] [--keep]`; all when none is named.

Figures that are compared come from one call, side by side. With `--keep` the rows of each case go into
docs/benchmarks.json, in place of those it had, with the command, the date, the machine and the versions that made them;
`python -m infra.benchmarks_page` then makes docs/benchmarks.md anew.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.command import table

KEPT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.json"
Case = Callable[[Path], list[dict[str, Any]]]
"""Measures in a folder that is removed afterwards; rows of a table. Its docstring's first line is the table's title."""

CASES = {
    "memory": "tests.bench.plans:memory",
    "planning": "tests.bench.plans:planning",
    "ledger": "tests.bench.ledger:ledger",
    "limit": "tests.bench.limit:limit",
    "host": "tests.bench.host:host",
    "start": "tests.bench.start:start",
    "latency": "tests.bench.latency:latency",
    "train": "tests.bench.training:train",
    "writers": "tests.bench.writers:writers",
    "gpu": "tests.bench.gpu:gpu",
    "driver": "tests.bench.driver:driver",
    "scaling": "tests.bench.scaling:scaling",
    "cluster": "tests.bench.scaling:cluster",
    "scenes": "tests.bench.scenes:scenes",
    "linear": "tests.bench.scaling:linear",
    "composite": "tests.bench.composite:composite",
    "monitors": "tests.bench.monitors:monitors",
    "breaks": "tests.bench.monitors:breaks",
    "alerts": "tests.bench.alerts:alerts",
    "watching": "tests.bench.watching:watching",
    "peers": "tests.bench.peers:peers",
    "overhead": "tests.bench.peers:overhead",
    "evaluate": "tests.bench.evaluation:evaluate",
    "detection": "tests.bench.detection:detection",
}
"""Where each case is; it is imported only when it runs, because some of them need what the others do not."""


def case(name: str) -> Case:
    module, _, function = CASES[name].partition(":")
    found: Case = getattr(import_module(module), function)
    return found


def title_of(measure: Case) -> str:
    return (measure.__doc__ or "").strip().splitlines()[0]


def machine() -> dict[str, Any]:
    """What this machine is, and what else it was doing."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    total = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(total / 2**20, 1), "gpu": _gpu(),
        "load": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def versions() -> dict[str, str]:
    import rasterio

    found = {name: version(name) for name in ("earthloom", "torch", "ray", "rasterio", "zarr")}
    return found | {"gdal": rasterio.__gdal_version__, "python": platform.python_version()}


def keep(name: str, rows: list[dict[str, Any]], seconds: float, on: dict[str, Any], path: Path = KEPT) -> None:
    """Put the rows of a case into the file; what else is there stays, but for cases that there are no more."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept.setdefault("cases", {})[name] = {
        "title": title_of(case(name)), "command": f"python -m tests.bench {name}",
        "date": datetime.now(UTC).date().isoformat(), "seconds": round(seconds), "machine": on, "versions": versions(),
        "rows": rows,
    }  # fmt: skip
    kept["cases"] = {known: kept["cases"][known] for known in CASES if known in kept["cases"]}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if argument != "--keep"]
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}, and --keep")
    for name in names or CASES:
        measure, on, begun = case(name), machine(), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="earthloom-bench-") as folder:
            rows = measure(Path(folder))
        seconds = time.monotonic() - begun
        print(f"\n### {name}: {title_of(measure)}\n\n{table(rows)}", flush=True)
        if "--keep" in arguments:
            keep(name, rows, seconds, on)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _gpu() -> str:
    """Names of the GPUs, as their driver tells them."""
    try:
        result = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "none"
    return "; ".join(line.strip() for line in result.stdout.splitlines() if line.strip()) or "none"


if __name__ == "__main__":
    main(sys.argv[1:])
