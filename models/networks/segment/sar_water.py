"""Open water in radar images by a threshold that the whole scene chooses, on one date or two. Has no weights.

Smooth water mirrors the radar's pulse away and is dark. How dark depends on angle, wind and calibration, so the threshold
is found in each scene's own histogram.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.networks.enhance.denoise import box_sum
from earthloom.models.networks.survey import N_QUANTILES, Statistical, Survey
from earthloom.tiling.errors import CardError

_LEAST_SHARE = 0.005
"""Of the pixels on the darker side; below it the two sides are a scene and its outliers."""
_LEAST_SEPARATION = 2.8
"""Of the two sides (Ashman, K. M., Bird, C. M., Zepf, S. E. (1994), Detecting bimodality in astronomical datasets, The
Astronomical Journal 108, 2348-2361, ask for 2); the halves of one normal distribution reach 2.7."""
_STEEPNESS = 6.0  # of the logit, over the distance between the means of the two sides
_LEAST_POWER = 1e-6


class SarWater(Statistical, nn.Module):
    """Water where the backscatter, averaged over a window, is below the scene's own threshold.

    The threshold is Otsu's (Otsu, N. (1979), A threshold selection method from gray-level histograms, IEEE Transactions on
    Systems, Man, and Cybernetics 9, 62-66), within `lowest` and `highest`. Where the two sides that it makes do not stand
    apart there is no water to see, or nothing else: `highest` counts if it was given, else nothing is water.

    Args:
        in_channels: 1, or 2 for two dates, the later one first.
        classes: 2 (land, water), or 4 for two dates (dry, flooded, permanent water, receded).
        decibels: True where the values are powers, which are compared in decibels.
        smooth_px: side of the window, odd; the speckle of radar images goes with it. The mean is one of decibels: one of
            powers would shift each shore into the water, as land is ten times as bright.
        lowest, highest: bounds of the threshold, in decibels; None for values of no calibration.
        zero: where the physical 0 lies among the normalised values, -mean / std.

    `forward` takes (N, 1 or 2, H, W), where 0 is not valid, and returns probabilities (N, classes, H, W) in fp32.

    Raises:
        CardError: if the arguments contradict each other.
    """

    def __init__(
        self, *, in_channels: int, classes: int, decibels: bool = False, smooth_px: int = 5,
        lowest: float | None = None, highest: float | None = None, zero: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if (in_channels, classes) not in ((1, 2), (2, 4)):
            raise CardError(
                f"radar water is 2 classes of 1 band or 4 of two dates; got {classes} of {in_channels} bands"
            )
        if not 1 <= smooth_px <= 63 or smooth_px % 2 == 0 or (lowest is None) != (highest is None):
            raise CardError(
                f"smooth_px is odd, 1 to 63, and lowest and highest come together; got {smooth_px}, {lowest}, {highest}"
            )
        self.decibels, self.reach_px = decibels, smooth_px // 2
        self.lowest, self.highest, self.zero = lowest, highest, zero
        self.in_channels, self.support_px = in_channels, smooth_px // 2

    def context(self, survey: Survey) -> Tensor:
        """(2 in_channels,): each date's threshold, then the distance over which certainty grows."""
        found = [self._threshold(np.asarray(quantiles, np.float64)) for quantiles in survey.quantiles]
        return torch.tensor([value for value, _ in found] + [width for _, width in found], dtype=torch.float32)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        thresholds, widths = context.reshape(2, self.in_channels, 1, 1)
        valid = (x != 0).float()
        level = x.float() - self.zero
        if self.decibels:
            level = 10 * torch.log10(level.clamp(min=_LEAST_POWER))
        level = box_sum(level * valid, self.reach_px) / box_sum(valid, self.reach_px).clamp_(min=1)
        water = torch.sigmoid((thresholds - level) * (_STEEPNESS / widths))
        if self.in_channels == 1:
            return torch.cat([1 - water, water], dim=1)
        after, before = water[:, 0], water[:, 1]
        changes = [(1 - after) * (1 - before), after * (1 - before), after * before, (1 - after) * before]
        return torch.stack(changes, dim=1)

    def _threshold(self, quantiles: NDArray[np.float64]) -> tuple[float, float]:
        """Of one date: the threshold, and the distance between the means of its two sides."""
        levels = quantiles - self.zero
        if self.decibels:
            levels = 10 * np.log10(np.maximum(levels, _LEAST_POWER))
        threshold, width, apart = otsu(levels)
        if self.lowest is None or self.highest is None:
            return (threshold if apart else float(levels[0]), width)
        return float(np.clip(threshold if apart else self.highest, self.lowest, self.highest)), max(width, 1.0)


def otsu(levels: NDArray[np.float64]) -> tuple[float, float, bool]:
    """Otsu's threshold of values by their N_QUANTILES quantiles.

    Returns:
        The threshold, the distance between the means of both sides, and whether they stand apart.
    """
    middles = (levels[1:] + levels[:-1]) / 2  # each stands for as many pixels
    if middles[-1] <= middles[0]:
        return float(middles[0]), 1.0, False
    n = N_QUANTILES - 1
    below = np.arange(1, n)
    sums, squares = np.cumsum(middles), np.cumsum(middles**2)
    low = sums[:-1] / below
    high = (sums[-1] - sums[:-1]) / (n - below)
    between = below * (n - below) * (high - low) ** 2
    best = int(between.argmax())
    spread = [
        squares[best] / below[best] - low[best] ** 2,
        (squares[-1] - squares[best]) / (n - below[best]) - high[best] ** 2,
    ]
    width = float(high[best] - low[best])
    separation = np.sqrt(2) * width / np.sqrt(max(sum(spread), 1e-12))
    enough = _LEAST_SHARE * n <= below[best] <= (1 - _LEAST_SHARE) * n
    return float(middles[best] + middles[best + 1]) / 2, width, bool(separation >= _LEAST_SEPARATION and enough)
