"""Runs a command of the project in a process of its own and measures that process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

ROOT = Path(__file__).resolve().parents[2]
LANDWATER_BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
SCENE_OPTIONS = ("--scale", "0.0001", "--quantity", "toa_reflectance")
"""What the command has to be told of a `large_scene`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One finished process."""

    printed: dict[str, Any]
    """What it printed on stdout, as JSON."""
    wall_s: float
    peak_bytes: int
    """Largest resident set of the process itself, without its children."""


def command(*arguments: str, env: Mapping[str, str] | None = None, python: str = sys.executable) -> Measured:
    """`python -m …` with `arguments`; stdout must be JSON.

    Args:
        arguments: the module and its own.
        env: variables beside those of this process.
        python: the interpreter.

    Raises:
        RuntimeError: with its stderr, if it fails.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [python, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    out = process.stdout.read()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(arguments)} ended with {status}:\n{errors[-2000:]}")
    return Measured(json.loads(out), time.perf_counter() - started, usage.ru_maxrss * 1024)


def large_scene(path: Path, side_px: int, names: tuple[str, ...]) -> Path:
    """A square uint16 GeoTIFF of any size, written tile by tile: smooth reflectance * 10000 with noise."""
    rng = np.random.default_rng(0)
    base = np.clip(rng.normal(2500, 700, (len(names), 512, 512)), 1, 9000).astype(np.uint16)
    profile = {
        "driver": "GTiff", "width": side_px, "height": side_px, "count": len(names), "dtype": "uint16", "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "zstd", "predictor": 2, "interleave": "band",
        "crs": "EPSG:32617", "transform": Affine(10, 0, 300000, 0, -10, 4500000), "num_threads": 2,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, side_px, 512):
            for col in range(0, side_px, 512):
                height, width = min(512, side_px - row), min(512, side_px - col)
                window = rasterio.windows.Window(col, row, width, height)
                dataset.write(np.roll(base, (row // 7, col // 11), (1, 2))[:, :height, :width], window=window)
        dataset.descriptions = names
    return path


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows)])
