"""Burnt ground by the normalised burn ratio of one date, or its fall between two. Has no weights; knows no band names.

NBR = (nir - swir22) / (nir + swir22), and dNBR = NBR before - NBR after: Key, C. H. and Benson, N. C. (2006), Landscape
Assessment. In: FIREMON, USDA Forest Service General Technical Report RMRS-GTR-164-CD.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from earthloom.tiling.errors import CardError

_FAR = 8.0  # the index lies within -2 and 2: this end is never the nearer one


class BurnIndex(nn.Module):
    """Classes between thresholds of the burn index, which grows with burning: dNBR of two dates, -NBR of one.

    Args:
        in_channels: 2 (nir, swir22), or 4: those of the later date before those of the earlier one.
        classes: one more than there are thresholds.
        thresholds: rising; a value on one belongs to the class below it.
        smooth_px: side of the window over which the index is averaged first, odd; 1 leaves it alone. Noise of single
            pixels goes, at the price of edges blurred by as much.
        sharpness: slope of the logits per unit of the index; says only how fast the confidence grows.

    `forward` takes reflectance, or any multiple of it, (N, 2 or 4, H, W), and returns logits (N, classes, H, W) in fp32:
    the distance to the nearer bound of each class's interval, negative outside it. Negative reflectance counts as 0. A
    pixel without light in any date (so are those that are not valid) has no index: it gets 0, and no neighbour hears of it.

    Raises:
        CardError: if the arguments contradict each other.
    """

    def __init__(
        self, *, in_channels: int, classes: int, thresholds: Sequence[float], smooth_px: int = 1, sharpness: float = 30.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if in_channels not in (2, 4) or classes != len(thresholds) + 1 or list(thresholds) != sorted(set(thresholds)):
            raise CardError(
                "a burn index takes 2 or 4 bands and parts its classes by rising thresholds, one fewer than classes; got "
                f"{in_channels} bands, {classes} classes and {list(thresholds)}"
            )
        if not 1 <= smooth_px <= 63 or smooth_px % 2 == 0 or sharpness <= 0:
            raise CardError(f"smooth_px is odd, 1 to 63, and sharpness positive; got {smooth_px} and {sharpness}")
        self.thresholds, self.smooth_px, self.sharpness = tuple(thresholds), smooth_px, sharpness

    def forward(self, x: Tensor) -> Tensor:
        dates = x.float().clamp(min=0).chunk(x.shape[1] // 2, dim=1)
        totals = [date[:, 0] + date[:, 1] for date in dates]
        known = torch.stack([total != 0 for total in totals]).all(dim=0)
        ratios = [
            torch.where(known, (date[:, 0] - date[:, 1]) / total, 0) for date, total in zip(dates, totals, strict=True)
        ]
        return self.classify(ratios[1] - ratios[0] if len(ratios) == 2 else -ratios[0], known)

    def classify(self, index: Tensor, known: Tensor) -> Tensor:
        """Logits (N, classes, H, W) from the index (N, H, W) and where it is known."""
        if self.smooth_px > 1:
            counts = _window_sum(known.float(), self.smooth_px)
            index = torch.where(known, _window_sum(index, self.smooth_px) / counts.clamp(min=1), 0)
        logits = []
        for low, high in zip((-_FAR, *self.thresholds), (*self.thresholds, _FAR), strict=True):
            above, below = index - low, high - index
            logits.append(torch.minimum(above, below) * self.sharpness)
        return torch.stack(logits, dim=1)


def _window_sum(values: Tensor, side_px: int) -> Tensor:
    """Sums over windows around each pixel of (N, H, W), 0 beyond; added in one order wherever the pixel lies."""
    reach, (height, width) = side_px // 2, values.shape[1:]
    padded = nn.functional.pad(values, (reach, reach, reach, reach))
    rows = padded[:, :height].clone()
    for shift in range(1, side_px):
        rows += padded[:, shift : shift + height]
    total = rows[:, :, :width].clone()
    for shift in range(1, side_px):
        total += rows[:, :, shift : shift + width]
    return total
