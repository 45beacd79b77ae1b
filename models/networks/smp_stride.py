"""By how much the networks of segmentation-models-pytorch reduce an image. Builds none."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from earthloom.models.networks.torchvision_ops import define_missing_ops

_WIDER = {"pan": 128, "dpt": 32}
"""Strides of the architectures whose decoder reduces the image further than its encoder."""


def smp_stride(arch: str, arguments: Mapping[str, Any]) -> int:
    """Total stride in pixels, of which the sides of chips are multiples.

    Args:
        arch: name of the architecture in `segmentation_models_pytorch`; of an unknown one, that of most is given.
        arguments: arguments of the network; `encoder_depth` counts, the architecture's own where it is left out.
    """
    define_missing_ops()
    import segmentation_models_pytorch as smp

    network = smp.MODEL_ARCHITECTURES_MAPPING.get(arch, smp.Unet)
    depth = arguments.get("encoder_depth", inspect.signature(network).parameters["encoder_depth"].default)
    stride: int = 2 ** int(depth)
    return _WIDER.get(arch, stride)
