"""How long the command takes for a scene that is computed in two seconds: what is left is its start and its end."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from tests.bench.command import LANDWATER_BANDS, SCENE_OPTIONS, command, large_scene

_SIDE_PX = 1500
_TURNS = 5


def start(folder: Path) -> list[dict[str, Any]]:
    """Whole command for one scene of 1500², `landwater`, by executor, in turns; the median and the best of five."""
    scene = large_scene(folder / "start.tif", _SIDE_PX, LANDWATER_BANDS)
    walls: dict[str, list[float]] = {executor: [] for executor in ("auto", "local", "ray")}
    cpus: dict[str, list[float]] = {executor: [] for executor in walls}
    for turn in range(_TURNS):
        for executor in walls:
            before = os.times()
            done = command(
                "earthloom", "run", str(scene), "--model", "landwater", *SCENE_OPTIONS, "--executor", executor, "--json",
                "--out", str(folder / f"out-{executor}-{turn}"),
            )  # fmt: skip
            after = os.times()
            walls[executor].append(done.wall_s)
            cpus[executor].append(sum(after[2:4]) - sum(before[2:4]))
    return [
        {"executor": executor, "scene": f"{_SIDE_PX}²", "median s": f"{statistics.median(walls[executor]):.1f}",
         "best s": f"{min(walls[executor]):.1f}", "CPU s, without Ray's processes": f"{statistics.median(cpus[executor]):.1f}"}
        for executor in walls
    ]  # fmt: skip
