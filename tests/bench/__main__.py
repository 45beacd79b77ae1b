"""Measures what the README states: `python -m tests.bench [memory] [efficiency] [planning] [ledger]`; all when none is named.

Figures that are compared come from one call, side by side.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.command import Measured, command, large_scene, table

_GIB = 2**30
_MIB = 2**20
_OPTIONS = ("--scale", "0.0001", "--quantity", "toa_reflectance", "--json", "--workers", "1")
_LANDWATER = ("blue", "green", "red", "nir", "swir16", "swir22")


def _run(scene: Path, out: Path, model: str, *options: str) -> Measured:
    return command("jobs", "run", str(scene), "--out", str(out), "--model", model, *_OPTIONS, *options)


def memory(folder: Path) -> list[dict[str, Any]]:
    """Peak of a worker against its prediction, on scenes far larger than memory would hold."""
    rows = []
    cases = (
        ("water-index", 4096, ("green", "swir16")), ("water-index", 20000, ("green", "swir16")),
        ("landwater", 4096, _LANDWATER), ("landwater", 8192, _LANDWATER),
    )  # fmt: skip
    for model, side_px, names in cases:
        scene = large_scene(folder / f"{model}-{side_px}.tif", side_px, names)
        done = _run(scene, folder / f"out-{model}-{side_px}", model, "--memory-per-worker", "2GiB")
        scene.unlink()
        told = done.told["telemetry"]
        predicted, peak = told["predicted_worker_bytes"], told["peak_worker_bytes"]
        rows.append(
            {
                "model": model, "scene": f"{side_px}²", "predicted GiB": f"{predicted / _GIB:.2f}",
                "peak GiB": f"{peak / _GIB:.2f}", "predicted over peak": f"{100 * (predicted / peak - 1):+.0f} %",
                "driver MiB": f"{done.peak_bytes / _MIB:.0f}", "Mpx/s": f"{told['mpx_per_s']:.2f}",
            }
        )  # fmt: skip
    return rows


def efficiency(folder: Path) -> list[dict[str, Any]]:
    """End to end, publishing included, against the bare forward pass over as many chips before and after it."""
    rows = []
    for side_px in (2048, 6144):
        scene = large_scene(folder / f"efficiency-{side_px}.tif", side_px, _LANDWATER)
        n_chips = (side_px // 1024) ** 2
        before = command("tests.bench.bare", "landwater", str(n_chips)).told["chip_mpx_per_s"]
        done = _run(scene, folder / f"out-{side_px}", "landwater")
        after = command("tests.bench.bare", "landwater", str(n_chips)).told["chip_mpx_per_s"]
        scene.unlink()
        told, bare = done.told["telemetry"], (before + after) / 2
        rate = told["chip_px"] / told["elapsed_s"] / 1e6
        rows.append(
            {
                "scene": f"{side_px}²", "bare chip-Mpx/s": f"{bare:.2f}",
                "end-to-end chip-Mpx/s": f"{rate:.2f}", "ratio": f"{rate / bare:.2f}",
                "halo overhead": f"{told['chip_px'] / told['computed_px']:.2f}", "Mpx/s": f"{told['mpx_per_s']:.2f}",
                "engine start s": f"{told['start_s']:.1f}", "whole command s": f"{done.wall_s:.1f}",
            }
        )  # fmt: skip
    return rows


def planning(folder: Path) -> list[dict[str, Any]]:
    """Time and memory of a plan must not grow with pixels."""
    rows = []
    for side_px in (1024, 20000):
        scene = large_scene(folder / f"plan-{side_px}.tif", side_px, ("green", "swir16"))
        time.sleep(3)  # a file that has just been written may still change, so its digest is not kept
        arguments = ("jobs", "plan", str(scene), "--out", str(folder), "--model", "water-index", *_OPTIONS)
        first, again = command(*arguments), command(*arguments)
        rows.append(
            {
                "scene": f"{side_px}²", "file MiB": f"{scene.stat().st_size / _MIB:.0f}",
                "first plan s (hashes the file)": f"{first.wall_s:.2f}", "plan s": f"{again.wall_s:.2f}",
                "peak MiB": f"{again.peak_bytes / _MIB:.0f}",
            }
        )  # fmt: skip
        scene.unlink()
    return rows


def ledger(folder: Path) -> list[dict[str, Any]]:
    """Markers, records, checks, commit and catalogue against the same run without them; a model that costs nothing."""
    rows = []
    for side_px, rounds in ((4096, 15), (8192, 5)):
        scene = large_scene(folder / f"ledger-{side_px}.tif", side_px, ("green", "swir16"))
        time.sleep(3)  # a file that has just been written may still change, so its digest is not kept
        times = command("tests.bench.ledger", str(scene), str(rounds)).told
        scene.unlink()
        row = {"scene": f"{side_px}²", "blocks": (-(-side_px // 2048)) ** 2, "runs of each": rounds}
        for what, title in (("s", "wall"), ("cpu_s", "processor")):
            without, with_it = times[f"without_{what}"], times[f"with_{what}"]
            ratio = median(b / a for a, b in zip(without, with_it, strict=True))  # of neighbours: loads come and go
            row |= {
                f"without, {title} s": f"{median(without):.2f}", f"with, {title} s": f"{median(with_it):.2f}",
                f"overhead, {title}": f"{100 * (ratio - 1):+.1f} %",
            }  # fmt: skip
        rows.append(row)
    return rows


CASES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "memory": memory, "efficiency": efficiency, "planning": planning, "ledger": ledger,
}  # fmt: skip


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in CASES]
    if unknown:
        sys.exit(f"unknown case {unknown[0]!r}; there are {', '.join(CASES)}")
    for name in names or CASES:
        with tempfile.TemporaryDirectory(prefix="earthloom-bench-") as folder:
            print(f"\n### {name}: {CASES[name].__doc__}\n\n{table(CASES[name](Path(folder)))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
