"""Stripes along columns or rows are estimated around each pixel and taken away, as a network without weights.

Knows nothing of detectors or scan lines: a stripe is what differs from its neighbours across by the same amount all
along. Wider stripes than the window across, and gaps (missing lines), are beyond it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from earthloom.models.networks.enhance.denoise import box_sum, shifted, valid_pixels
from earthloom.models.networks.survey import N_QUANTILES, Survey
from earthloom.tiling.errors import CardError

_TINY = 1e-20


class Destripe(nn.Module):
    """Directional high-pass, averaged along the stripe, in the manner of Cao, Yang & Tisse (2016, Effective strip noise
    removal for low-textured infrared images based on 1-D guided filtering, IEEE Transactions on Circuits and Systems for
    Video Technology 26, 2176-2188), with means over pixels alike (Lee 1983) in place of guided filters.

    Across the stripes a pixel is compared with its neighbours within `across_px`, those of another object (farther than
    `limit` of the band's contrast) aside. The mean of that along the stripe, within `along_px`, is the stripe; it is
    shrunk by what would be found without one, its variance over the number of pixels times `doubt`.

    Args:
        in_channels: bands, each treated by itself.
        direction: in which stripes run, `columns` or `rows`.
        across_px, along_px: radii of the windows.
        limit: largest stripe, as a share of the distance between the band's 2 % and 98 % quantiles.
        doubt: 1 for pixels that are independent; more, as neighbours along a column are alike.

    `forward` takes (N, C, H, W), where a pixel that is 0 in all bands is not valid, and gives the same, in fp32.

    Raises:
        CardError: if the direction is neither, or a number is out of range.
    """

    def __init__(
        self, *, in_channels: int, direction: str = "columns", across_px: int = 4, along_px: int = 64,
        limit: float = 0.2, doubt: float = 8.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if direction not in ("columns", "rows"):
            raise CardError(f"stripes run along 'columns' or 'rows', got {direction!r}")
        if not (1 <= across_px <= 64 and 1 <= along_px <= 256 and limit > 0 and doubt >= 0):
            raise CardError(
                "windows reach 1 to 64 px across and 1 to 256 px along, limit is positive and doubt at least 0; got "
                f"{across_px=}, {along_px=}, {limit=}, {doubt=}"
            )
        self.in_channels, self.direction, self.across_px, self.along_px = in_channels, direction, across_px, along_px
        self.limit, self.doubt = limit, doubt
        self.support_px = max(across_px, along_px)

    def context(self, survey: Survey) -> Tensor:
        """(C,), the largest difference that may be a stripe's; of pixels that differ by noise at most 4 sigma count."""
        shares = np.linspace(0, 1, N_QUANTILES)
        limits = []
        for quantiles, noise in zip(survey.quantiles, survey.noise, strict=True):
            low, high = np.interp((0.02, 0.98), shares, quantiles)
            limits.append(max(self.limit * float(high - low), 4 * math.sqrt(2) * noise))
        return torch.tensor(limits, dtype=torch.float32)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        valid = valid_pixels(x)
        bands = [self._without(x[:, k : k + 1].float(), valid, context[k]) for k in range(self.in_channels)]
        return torch.cat(bands, dim=1).mul_(valid)

    def _without(self, band: Tensor, valid: Tensor, limit: Tensor) -> Tensor:
        along = (-2,) if self.direction == "columns" else (-1,)
        total, count = torch.zeros_like(band), valid.clone()
        for step in range(-self.across_px, self.across_px + 1):
            if not step:
                continue
            dy, dx = (0, step) if self.direction == "columns" else (step, 0)
            difference = band - shifted(band, dy, dx)
            alike = (difference.abs() <= limit).float().mul_(valid).mul_(shifted(valid, dy, dx))
            total += difference.mul_(alike)
            count += alike
        offset = total.div_(count.clamp_(min=1)).mul_(valid)
        seen = box_sum(valid, self.along_px, along=along).clamp_(min=1)
        stripe = box_sum(offset, self.along_px, along=along).div_(seen)
        square = stripe * stripe
        spread = box_sum(offset.mul_(offset), self.along_px, along=along).div_(seen).sub_(square).clamp_(min=0)
        kept = 1 - spread.mul_(self.doubt).div_(seen).div_(square.add_(_TINY))
        return band - stripe.mul_(kept.clamp_(min=0))
