"""Records what onnxruntime answers with the published cloudmask graphs: `python -m tests.models.record_cloudmask`.

The test that reads the record then needs neither the network nor the published wheel.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from earthloom.jobs.intake.sensors import SENSORS
from earthloom.models.zoo.cloudmask import CLOUDMASK, ENTRY
from earthloom.models.zoo.entry import download
from tests.scenes import real

RECORD = Path(__file__).parent / "data" / "cloudmask_onnx.npz"
STEP_PX = 8
"""Every eighth pixel of every eighth row is kept."""


def cloudy_scene(bands: tuple[str, ...]) -> NDArray[np.uint16]:
    """(C, 856, 512): cloud, shadow, land and muddy water, top-of-atmosphere reflectance * 10000 of Sentinel-2."""
    names = [band.name for band in SENSORS["sentinel2-l1c"].bands]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the file has no CRS
        with rasterio.open(real("clouds_s2/s2_l1c_13band.tif")) as dataset:
            pixels: NDArray[np.uint16] = dataset.read([names.index(name) + 1 for name in bands])
    return pixels


def cloud_chip(bands: tuple[str, ...]) -> NDArray[np.uint16]:
    """(C, 256, 256) of it."""
    return cloudy_scene(bands)[:, 240:496, :256]


def main() -> None:
    import onnxruntime

    assert ENTRY.wheel is not None
    answers = {}
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download(ENTRY.wheel, Path(folder))) as wheel:
        for card in CLOUDMASK[1:]:
            graph = wheel.read(f"ukis_csmask/model_{card.variant.replace('-', '_')}.onnx")
            session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            mean, std = (np.array(values)[:, None, None] for values in (card.mean, card.std))
            chip = ((cloud_chip(card.bands) * 1e-4 - mean) / std).astype(np.float32)[None]
            (answer,) = session.run(None, {session.get_inputs()[0].name: chip})
            answers[card.variant] = answer[0, :, ::STEP_PX, ::STEP_PX].astype(np.float16)
    np.savez_compressed(RECORD, **answers)


if __name__ == "__main__":
    main()
