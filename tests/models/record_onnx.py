"""Records what onnxruntime answers with the published landwater graphs on a real chip: `python -m tests.models.record_onnx`.

The test that reads the record then needs neither the network nor the published wheel.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from tests.scenes import real

RECORD = Path(__file__).parent / "data" / "landwater_onnx.npz"
STEP_PX = 8
"""Every eighth pixel of every eighth row is kept."""


def port_chip() -> NDArray[np.uint16]:
    """(6, 256, 256): blue, green, red, nir, swir16 of the port of Durban, swir16 again in the place of swir22."""
    with rasterio.open(real("ships_s2/durban.tif")) as dataset:
        bands: NDArray[np.uint16] = dataset.read([1, 2, 3, 4, 5], window=((300, 556), (500, 756)))
    return bands[[0, 1, 2, 3, 4, 4]]


def main() -> None:
    import onnxruntime

    from earthloom.models.zoo.entry import download
    from earthloom.models.zoo.landwater import ENTRY, LANDWATER

    answers = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(download(ENTRY.wheel_of(LANDWATER[0]), Path(folder))) as wheel,
    ):
        for card in LANDWATER:
            session = onnxruntime.InferenceSession(wheel.read(f"ukis_csmask/model_{card.variant}.onnx"))
            pixels = port_chip()[: len(card.bands)].transpose(1, 2, 0) * 1e-4
            chip = ((pixels - card.mean) / card.std).astype(np.float32)[None]
            (answer,) = session.run(None, {session.get_inputs()[0].name: chip})
            answers[card.variant] = answer[0, ::STEP_PX, ::STEP_PX].transpose(2, 0, 1)
    RECORD.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORD, **answers)


if __name__ == "__main__":
    main()
