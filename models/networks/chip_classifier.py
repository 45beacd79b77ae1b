"""A classifier of timm that says one thing of a whole chip, as a map of one pixel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from earthloom.models.networks.torchvision_ops import define_missing_ops
from earthloom.tiling.errors import CardError

_OPTIONS = ("drop_rate", "drop_path_rate", "global_pool")


class ChipClassifier(nn.Module):
    """Any image classifier of timm, for any number of bands: (N, C, h, w) to logits (N, K, 1, 1).

    Args:
        encoder_name: of timm, such as resnet18, tf_efficientnet_lite0 or convnext_tiny.
        options: `drop_rate`, `drop_path_rate`, `global_pool`.

    Raises:
        CardError: for a name that timm does not list, or another option.
    """

    def __init__(self, *, encoder_name: str, in_channels: int, classes: int, **options: Any) -> None:
        super().__init__()
        define_missing_ops()
        import timm

        # timm also takes hub addresses and local folders as names: only what it lists itself is let through
        if not timm.is_model(encoder_name):
            raise CardError(
                f"unknown encoder {encoder_name!r}; a name of timm.list_models(), such as resnet18, tf_efficientnet_lite0 or "
                "convnext_tiny"
            )
        if refused := sorted(set(options) - set(_OPTIONS)):
            raise CardError(
                f"arguments {', '.join(refused)} are not taken from a card; there are {', '.join(_OPTIONS)}"
            )
        self.network: nn.Module = timm.create_model(
            encoder_name, pretrained=False, in_chans=in_channels, num_classes=classes, **options
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.training or x.device.type != "cpu":
            logits: Tensor = self.network(x)
        else:  # one by one: a product of matrices rounds by how many rows it is given
            logits = torch.cat([self.network(chip[None]) for chip in x])
        return logits[:, :, None, None]
