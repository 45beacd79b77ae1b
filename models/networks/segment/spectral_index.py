"""A normalised difference of two bands against a threshold, as a network without weights. Knows no band names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from earthloom.tiling.errors import CardError


class SpectralIndex(nn.Module):
    """Two classes, parted where (a - b) / (a + b) crosses `threshold`: 0 below, 1 above.

    Args:
        in_channels, classes: both 2.
        threshold: of the index, in [-1, 1].
        sharpness: slope of the logit per unit of the index; says only how fast the confidence grows.

    `forward` takes reflectance (N, 2, H, W), a before b, and returns logits (N, 2, H, W) in fp32. Atmospheric
    correction leaves negative reflectance over dark water: it counts as 0; where both bands are 0 the index is 0.

    Raises:
        CardError: if it is asked for other than two bands and two classes, or the threshold is out of range.
    """

    def __init__(self, *, in_channels: int, classes: int, threshold: float = 0.0, sharpness: float = 20.0) -> None:
        super().__init__()
        if (in_channels, classes) != (2, 2) or not -1 <= threshold <= 1 or sharpness <= 0:
            raise CardError(
                "a spectral index takes 2 bands and gives 2 classes, with a threshold in [-1, 1] and a positive "
                f"sharpness; got {in_channels} bands, {classes} classes, {threshold=}, {sharpness=}"
            )
        self.threshold, self.sharpness = threshold, sharpness

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.float().clamp(min=0).unbind(dim=1)
        total = first + second
        index = torch.where(total == 0, 0, (first - second) / total)
        logit = (index - self.threshold) * self.sharpness
        return torch.stack([torch.zeros_like(logit), logit], dim=1)
