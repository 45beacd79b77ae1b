"""Decides how an image is stored: order of bands, dtype, nodata, and what stored values mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthloom.models.cards.card import ModelCard
from earthloom.tiling.encoding import INDEX_NODATA, INDEX_SCALE
from earthloom.tiling.scene import Scene

_RGB = ("red", "green", "blue")
_STORED = {
    "uint8": (0.0, 1 / 254, -1 / 254),
    "int16": (float(INDEX_NODATA), INDEX_SCALE, 0.0),
    "float32": (float("nan"), 1.0, 0.0),
}
"""Nodata, gain and bias of images whose dtype is the model's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """An image that a run publishes: how the stage's physical values are stored."""

    stage: int
    name: str
    """Stem of its file."""
    bands: tuple[str, ...]
    layers: tuple[str, ...]
    """Name of each band in the Zarr."""
    dtype: str
    nodata: float
    gain: tuple[float, ...]
    """Factor for each band: physical value = stored * gain + bias."""
    bias: tuple[float, ...]
    quantity: str = ""
    """What physical values are (`tiling.quantity`); empty where they are no longer what the scene's were."""

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of one pixel."""
        return len(self.bands) * np.dtype(self.dtype).itemsize


def colors_first(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Red, green and blue before all others where all three are there: viewers take the first three bands of a file for
    these, and some whatever its colour interpretation says."""
    return (*_RGB, *(band for band in bands if band not in _RGB)) if set(_RGB) <= set(bands) else bands


def image_plan(
    scene: Scene, card: ModelCard, number: int, name: str, names: tuple[str, ...], layers: tuple[str, ...]
) -> ImagePlan:
    """How an image of these bands is stored.

    Args:
        scene: whose storage an image keeps that is of the scene's own bands.
        card: card of the model that makes it.
        number: number of the stage.
        name: stem of its file.
        names: its bands.
        layers: what each is called in the Zarr.
    """
    if card.output_dtype:
        n, (nodata, gain, bias) = len(names), _STORED[card.output_dtype]
        return ImagePlan(
            stage=number, name=name, bands=names, layers=layers, dtype=card.output_dtype, nodata=nodata,
            gain=(gain,) * n, bias=(bias,) * n,
        )  # fmt: skip
    bands = scene.select(names)
    dtype = np.result_type(*(band.dtype for band in bands))
    declared = {band.nodata for band in bands}
    only = declared.pop() if len(declared) == 1 else None
    nodata = only if only is not None else float("nan") if dtype.kind == "f" else float(np.iinfo(dtype).min)
    return ImagePlan(
        stage=number, name=name, bands=names, layers=layers, dtype=dtype.name, nodata=nodata,
        gain=tuple(band.scale for band in bands), bias=tuple(band.offset for band in bands), quantity=scene.quantity,
    )  # fmt: skip
