"""What judging a map costs beside making it: time and memory of `earthloom evaluate` on maps that are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from tests.bench.command import SCENE_OPTIONS, command, large_scene

_MIB = 2**20


def evaluate(folder: Path) -> list[dict[str, Any]]:
    """Comparing published maps with labels: memory must not grow with pixels."""
    rows = []
    for side_px in (4096, 16384):
        scene = large_scene(folder / f"scene-{side_px}.tif", side_px, ("green", "swir16"))
        labels = _labels(folder / f"labels-{side_px}.tif", scene)
        arguments = (
            "earthloom", "evaluate", "water-index", "--scenes", str(scene), "--labels", str(labels), "--label-classes",
            "0=land,1=water", "--out", str(folder / f"out-{side_px}"), "--executor", "local", "--json", *SCENE_OPTIONS,
        )  # fmt: skip
        command(*arguments)  # makes the map
        again = command(*arguments)
        kept = again.printed["pixels"]["scored"]
        rows.append(
            {
                "scene": f"{side_px}²", "scored Mpx": f"{kept / 1e6:.0f}", "s": f"{again.wall_s:.1f}",
                "Mpx/s": f"{kept / 1e6 / again.wall_s:.1f}", "peak MiB": f"{again.peak_bytes / _MIB:.0f}",
            }
        )  # fmt: skip
        scene.unlink()
        labels.unlink()
    return rows


def _labels(path: Path, scene: Path) -> Path:
    """What the index says of the scene, but for one pixel in twenty."""
    rng = np.random.default_rng(1)
    with rasterio.open(scene) as source:
        profile = source.profile | {"count": 1, "dtype": "uint8", "predictor": 1}
        with rasterio.open(path, "w", **profile) as dataset:
            for _, window in source.block_windows(1):
                green, swir = source.read(window=window)
                labels = (green > swir) ^ (rng.random(green.shape) < 0.05)
                dataset.write(labels.astype(np.uint8), 1, window=window)
    return path
