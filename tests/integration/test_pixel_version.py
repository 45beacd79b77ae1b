"""A golden map: our own arithmetic may not move a pixel unless PIXEL_VERSION says so."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import rasterio

from earthloom.jobs.config import load
from earthloom.jobs.execution.driver import run
from earthloom.jobs.planning.key import PIXEL_VERSION
from tests.scenes import write_scene

GOLDEN = {3: "0b04327cb2278f22c3d80410fec70bea9a56c06275a633830237475c603ae526"}
"""sha256 of the class map. Not of the confidence, whose last step may differ between processors' exponentials."""


def test_a_known_scene_gives_the_known_map(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:700, 0:600].astype(np.uint32)
    pixels = np.stack([(rows * 37 + cols * 101) % 9973, (rows * 59 + cols * 17) % 9973]).astype(
        np.uint16
    )  # exact on every machine
    pixels[:, 40:90, 200:300] = 0
    scene = write_scene(tmp_path / "known.tif", pixels, ("green", "swir16"), nodata=0)
    options = {
        "model": "water-index", "scale": 1e-4, "quantity": "toa_reflectance", "shard": 512, "block": 512, "core": 256,
        "precision": "fp32", "device": "cpu", "executor": "local",
    }  # fmt: skip
    result = run(load({"scenes": (str(scene),), "out": str(tmp_path / "out"), **options}))
    folder = tmp_path / "out" / result.results["known"].prefix
    with rasterio.open(folder / "water-index.tif") as cog:
        assert hashlib.sha256(cog.read(1).tobytes()).hexdigest() == GOLDEN[PIXEL_VERSION]
