"""Labelled scenes made by code, and the tables of small trainings on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tests.scenes import write_scene

BANDS = ("red", "green", "nir")
ORIGIN = (300000, 4500000)


def meadow(
    folder: Path, name: str, *, width: int = 192, height: int = 160, seed: int = 0, at_px: tuple[int, int] = (0, 0),
    nodata: bool = False,
) -> Path:  # fmt: skip
    """`<name>.tif`, three bands of reflectance * 10000 in pixels of 10 m, with `<name>_labels.tif` beside it.

    Class 1 is bright in green, in squares of 24 px; 255 where nobody looked.
    """
    rng = np.random.default_rng(seed)
    pixels = rng.integers(400, 1800, (3, height, width)).astype(np.uint16)
    labels = np.zeros((height, width), np.uint8)
    for _ in range(max(4, width * height // 4000)):
        row, col = int(rng.integers(height - 24)), int(rng.integers(width - 24))
        labels[row : row + 24, col : col + 24] = 1
    pixels[1][labels == 1] += 2500
    labels[:, :5] = 255
    if nodata:
        pixels[:, : height // 4, : width // 4] = 0
    transform = Affine(10, 0, ORIGIN[0] + 10 * at_px[0], 0, -10, ORIGIN[1] - 10 * at_px[1])
    write_scene(folder / f"{name}.tif", pixels, transform=transform, nodata=0)
    write_labels(folder / f"{name}_labels.tif", labels, transform)
    return folder / f"{name}.tif"


def write_labels(path: Path, labels: NDArray[np.uint8], transform: Affine) -> None:
    write_scene(path, labels[None], transform=transform, nodata=255, date=None)


def tables(folder: Path, *names: str, **changes: Any) -> dict[str, Any]:
    """A training of a network of a few thousand weights on scenes of `meadow`, for `load_training`.

    Args:
        changes: by name, tables whose keys are to differ, or values of the top level.
    """
    made: dict[str, Any] = {
        "name": "meadows",
        "out": str(folder / "model"),
        "scenes": [
            {
                "scene": str(folder / f"{name}.tif"), "labels": str(folder / "{id}_labels.tif"), "scale": 1e-4,
                "quantity": "reflectance", "bands": {"red": 1, "green": 2, "nir": 3},
            }
            for name in names
        ],
        "labels": {"classes": [{"value": 0, "name": "soil"}, {"value": 1, "name": "grass", "color": "#00aa00"}]},
        "split": {"by": "block", "block_px": 64},
        "model": {"architecture": "ukis-unet", "arguments": {"base": 4}, "bands": list(BANDS), "crop_px": 32},
        "schedule": {"steps": 8, "batch": 2, "precision": "fp32", "memory_steps": 5, "rate": 1e-2},
        "compute": {"threads": 1, "readers": 2, "checkpoint_s": 0, "window_px": 160},
    }  # fmt: skip
    for key, value in changes.items():
        made[key] = made.get(key, {}) | value if isinstance(value, dict) else value
    return made
