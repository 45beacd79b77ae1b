"""Names made from content: the key of a scene's result, and the id of a run.

All that can change one of the scene's pixels is in its key and nothing else is, so equal keys mean equal pixels: a
finished scene is never computed again, and old and new results never mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import metadata
from typing import Any

from earthloom.jobs.planning.footprints import FootprintFile
from earthloom.jobs.planning.image_plan import ImagePlan
from earthloom.jobs.records.canonical import digest
from earthloom.models.inference.chain import Stage
from earthloom.tiling.scene import Band, Clear, Scene

PIXEL_VERSION = 7
"""Raised whenever Earthloom's own arithmetic may change a pixel; a golden-hash test guards it."""

version = cache(metadata.version)
"""Version of an installed package; read once, because reading it for every scene takes longer than the rest of planning."""

_RUNTIMES = {"onnx": "onnxruntime"}
"""Package that computes an architecture in the place of torch; its arithmetic may change with any release."""

_USUAL = {"resampling": None, "alpha": None, "nodata_in": "any", "shift_px": (0, 0)}
"""Values of bands that lie where they say on the scene's grid, and whose file says by itself where they are valid; left out
of keys, which are older than these fields."""

CODECS = {"zarr": "zstd3-crc", "tiff": "libdeflate5"}


def scene_key(
    scene: Scene,
    bands: Sequence[Band],
    stages: Sequence[Stage],
    images: Sequence[ImagePlan] = (),
    footprints: FootprintFile | None = None,
    *,
    shard_px: int,
    device_class: str,
) -> str:
    """Key of the scene's result: 64 hex digits.

    Args:
        bands: those that the stages read, in the order of the source's channels.
        stages: with their precision as it was resolved (`fp32`, `bf16`, `fp16`).
        images: how images are stored, if the result has any.
        footprints: the polygons that get a class each, if the run names some.
        device_class: within which bytes are identical (`models.device.resolve.Device`).
    """
    quality = [clear.band for clear in scene.clear]
    used = list(
        dict.fromkeys(band.asset for band in (*bands, *quality))
    )  # which other files lie beside them changes nothing
    return digest(
        {
            "pixel_version": PIXEL_VERSION,
            "torch": ".".join(version("torch").split(".")[:2]),
            "scene": scene.id,
            "objects": [scene.assets[number].identity for number in used],
            "grid": asdict(scene.grid),
            "quantity": scene.quantity,
            "bands": [_band(band, used.index(band.asset)) for band in bands],
            **({"clear": [_clear(clear, used) for clear in scene.clear]} if scene.clear else {}),
            "stages": [_stage(stage) for stage in stages],
            "images": [asdict(image) for image in images],
            **({"footprints": [footprints.asset.identity, footprints.layer]} if footprints else {}),
            "shard": shard_px,
            "device": device_class,
            "codecs": CODECS,
        }
    )


def _band(band: Band, position: int) -> dict[str, Any]:
    """What is read of the file at `position`; what a band does not say, for it is the usual, is left out."""
    said = asdict(band) | {"asset": position}
    return {name: value for name, value in said.items() if name not in _USUAL or value != _USUAL[name]}


def _clear(clear: Clear, used: Sequence[int]) -> dict[str, Any]:
    return asdict(clear) | {"band": _band(clear.band, used.index(clear.band.asset))}


def _stage(stage: Stage) -> dict[str, Any]:
    chips = stage.chips
    runtimes = {_RUNTIMES[card.architecture] for card in stage.cards if card.architecture in _RUNTIMES}
    return {
        "cards": [card.digest() for card in stage.cards],
        **({"runtimes": {name: version(name) for name in sorted(runtimes)}} if runtimes else {}),
        "tiling": [chips.core_px, chips.halo_px, chips.stride_px, chips.blend, chips.margin_px],
        "precision": stage.precision,
        "flips": stage.flips,
        "compiled": stage.compiled,
        "mask": stage.is_mask,
    }
