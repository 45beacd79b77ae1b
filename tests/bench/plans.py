"""What a plan promises: the peak memory of a worker, and that planning itself does not grow with pixels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_GIB, _MIB = 2**30, 2**20
_RGB = ("red", "green", "blue")


def memory(folder: Path) -> list[dict[str, Any]]:
    """Peak of a worker on Ray against its prediction, on scenes of any size.

    Raises:
        RuntimeError: if `sr-x2` is not in the cache; the message says how it gets there.
    """
    rows = []
    cases = (  # first what has to be in the cache
        ("sr-x2", 1500, _RGB, 4), ("sr-x2", 1500, _RGB, 2),
        ("water-index", 4096, ("green", "swir16"), 4), ("water-index", 20000, ("green", "swir16"), 4),
        ("landwater", 4096, LANDWATER_BANDS, 4), ("landwater", 8192, LANDWATER_BANDS, 4),
        ("landwater", 8192, LANDWATER_BANDS, 2),
    )  # fmt: skip
    for model, side_px, names, limit_gib in cases:
        scene = large_scene(folder / f"{model}-{side_px}.tif", side_px, names)
        done = command(
            "earthloom", "run", str(scene), "--out", str(folder / f"out-{model}-{side_px}-{limit_gib}"), "--model", model,
            "--json", "--executor", "ray", "--workers", "1", *SCENE_OPTIONS, "--memory-per-worker", f"{limit_gib}GiB",
        )  # fmt: skip
        scene.unlink()
        found = done.printed["telemetry"]
        predicted, peak = found["predicted_worker_bytes"], found["peak_worker_bytes"]
        rows.append(
            {
                "model": model, "scene": f"{side_px}²", "limit GiB": limit_gib, "predicted GiB": f"{predicted / _GIB:.2f}",
                "peak GiB": f"{peak / _GIB:.2f}", "predicted over peak": f"{100 * (predicted / peak - 1):+.0f} %",
                "driver MiB": f"{done.peak_bytes / _MIB:.0f}", "Mpx/s": f"{found['mpx_per_s']:.2f}",
            }
        )  # fmt: skip
    return rows


def planning(folder: Path) -> list[dict[str, Any]]:
    """Time and memory of a plan must not grow with pixels."""
    rows = []
    for side_px in (1024, 20000):
        scene = large_scene(folder / f"plan-{side_px}.tif", side_px, ("green", "swir16"))
        time.sleep(3)  # a file that has just been written may still change, so its digest is not kept
        arguments = ("earthloom", "plan", str(scene), "--out", str(folder), "--model", "water-index", *SCENE_OPTIONS)
        first, again = command(*arguments, "--json"), command(*arguments, "--json")
        rows.append(
            {
                "scene": f"{side_px}²", "file MiB": f"{scene.stat().st_size / _MIB:.0f}",
                "first plan s (hashes the file)": f"{first.wall_s:.2f}", "plan s": f"{again.wall_s:.2f}",
                "peak MiB": f"{again.peak_bytes / _MIB:.0f}",
            }
        )  # fmt: skip
        scene.unlink()
    return rows
