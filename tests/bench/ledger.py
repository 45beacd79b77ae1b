"""What ledger and commit cost a run without faults: the same run with and without them, in turns, in one process.

python -m tests.bench.ledger scene.tif 5

Without them no marker, record, probe, check of completeness or catalogue is made, and the commit is a plain write. Processor
time is told beside wall time: it hardly depends on what else the machine does.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from earthloom.jobs.config import RunConfig, load
from earthloom.jobs.execution.driver import run
from earthloom.jobs.records.canonical import canonical
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.storage.local import LocalObjects
from tests.bench.command import command, large_scene


@contextmanager
def no_ledger() -> Iterator[None]:
    """Runs leave nothing behind but their products."""
    real = LocalObjects.put

    def put(self: LocalObjects, key: str, data: bytes) -> None:
        if not ("/blocks/" in key and key.endswith(".json")) and "/attempts/" not in key:
            real(self, key, data)

    def commit(store: Any, key: str, document: Any) -> bool:
        real(store, key, canonical(document))
        return True

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(LocalObjects, "put", put))
        stack.enter_context(mock.patch("earthloom.jobs.publish.files.commit", commit))
        for name in (
            "earthloom.jobs.publish.entering.link",
            "earthloom.jobs.publish.linker.link",
            "earthloom.jobs.publish.entering.tabulate",
            "earthloom.jobs.execution.driver.commit_run",
            "earthloom.jobs.execution.driver.probe_conditional_writes",
            "earthloom.jobs.publish.files._check_complete",
        ):
            stack.enter_context(mock.patch(name))
        yield


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Markers, records, checks, commit and catalogue against the same run without them; a model that costs nothing."""
    rows = []
    for side_px, rounds in ((4096, 15), (8192, 5)):
        scene = large_scene(folder / f"ledger-{side_px}.tif", side_px, ("green", "swir16"))
        time.sleep(3)  # a file that has just been written may still change, so its digest is not kept
        times = command("tests.bench.ledger", str(scene), str(rounds)).printed
        scene.unlink()
        row: dict[str, Any] = {"scene": f"{side_px}²", "blocks": ceil_div(side_px, 2048) ** 2, "runs of each": rounds}
        for what, title in (("s", "wall"), ("cpu_s", "processor")):
            without, with_it = times[f"without_{what}"], times[f"with_{what}"]
            ratio = median(b / a for a, b in zip(without, with_it, strict=True))  # of neighbours: loads come and go
            row |= {
                f"without, {title} s": f"{median(without):.2f}", f"with, {title} s": f"{median(with_it):.2f}",
                f"overhead, {title}": f"{100 * (ratio - 1):+.1f} %",
            }  # fmt: skip
        rows.append(row)
    return rows


def main(scene: str, rounds: int) -> None:
    times: dict[str, list[float]] = {f"{kind}_{what}": [] for kind in ("with", "without") for what in ("s", "cpu_s")}
    with tempfile.TemporaryDirectory(prefix="earthloom-ledger-", dir=Path(scene).parent) as folder:

        def once(name: str) -> tuple[float, float]:
            started, cpu = time.perf_counter(), _cpu_s()
            assert run(_config(scene, Path(folder) / name)).exit_code == 0
            return time.perf_counter() - started, _cpu_s() - cpu

        once("warm")
        for number in range(rounds):
            for kind in ("with", "without") if number % 2 else ("without", "with"):
                with no_ledger() if kind == "without" else ExitStack():
                    wall_s, cpu_s = once(f"{kind}-{number}")
                times[f"{kind}_s"].append(wall_s)
                times[f"{kind}_cpu_s"].append(cpu_s)
    print(json.dumps(times))


def _cpu_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def _config(scene: str, out: Path) -> RunConfig:
    return load(
        {"scenes": (scene,), "out": str(out), "model": "water-index", "scale": 1e-4, "quantity": "toa_reflectance",
         "executor": "local"}
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
