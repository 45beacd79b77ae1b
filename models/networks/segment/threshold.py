"""Ground where an expression of bands is above a threshold, as a network without weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from earthloom.models.networks.enhance.band_math import BandMath
from earthloom.tiling.errors import CardError


class Threshold(nn.Module):
    """Two classes, parted where the expression crosses `threshold`: 0 up to it, 1 above.

    Args:
        in_channels: as many as there are `names`.
        classes: 2.
        expression: of bands by name (`models.cards.expression`).
        names: names of the channels.
        threshold: threshold of the expression's value.
        sharpness: slope of the logit per unit of the expression; says only how fast the confidence grows.

    `forward` takes physical values (N, C, H, W) and returns logits (N, 2, H, W) in fp32. Atmospheric correction leaves
    negative reflectance over dark water: it counts as 0. Where the expression has no value both logits are 0: the first
    class, without confidence.

    Raises:
        CardError: if the expression is none, names a band that is no channel, or an argument is out of range.
    """

    def __init__(
        self, *, in_channels: int, classes: int, expression: str, names: Sequence[str], threshold: float = 0.0,
        sharpness: float = 20.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if classes != 2 or sharpness <= 0:
            raise CardError(
                f"a threshold parts 2 classes, with a positive sharpness; got {classes} classes, {sharpness=}"
            )
        self.of_bands = BandMath(in_channels=in_channels, expression=expression, names=names)
        self.threshold, self.sharpness = threshold, sharpness

    def forward(self, x: Tensor) -> Tensor:
        logit = (self.of_bands(x.float().clamp(min=0))[:, 0] - self.threshold) * self.sharpness
        logit = torch.where(logit.isfinite(), logit, 0).clamp(-_MOST, _MOST)
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


_MOST = 100.0  # beyond it the confidence is 1 anyway, and bf16 has no room for what an expression may come to
