"""Brightness and contrast by rules for each pixel, fixed or set by the whole scene's quantiles, as networks without weights.

No chip decides how bright is bright: neighbouring chips get the same rule. Knows nothing of bands by name.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.networks.survey import N_QUANTILES, Statistical, Survey
from earthloom.tiling.errors import CardError

_N_BINS = 256
_SHARES = np.linspace(0, 1, N_QUANTILES)


class PercentileStretch(Statistical, nn.Module):
    """Linear from one quantile of the band, which becomes 0, to another, which becomes 1; clipped beyond.

    Args:
        in_channels: bands, each treated by itself.
        low, high: shares of the pixels.

    `forward` takes (N, C, H, W) and gives the same in fp32, 0 to 1; a band without contrast gives 0.

    Raises:
        CardError: unless 0 <= low < high <= 1.
    """

    def __init__(self, *, in_channels: int, low: float = 0.02, high: float = 0.98) -> None:
        super().__init__()
        if not 0 <= low < high <= 1:
            raise CardError(f"a stretch needs 0 <= low < high <= 1, got {low=}, {high=}")
        self.in_channels, self.low, self.high = in_channels, low, high
        self.support_px = 0

    def context(self, survey: Survey) -> Tensor:
        """(2 C,): where each band begins, and the reciprocal of its range, 0 for none."""
        ends = np.array([np.interp((self.low, self.high), _SHARES, quantiles) for quantiles in survey.quantiles])
        return torch.from_numpy(np.concatenate([ends[:, 0], _reciprocal(ends[:, 1] - ends[:, 0])]).astype(np.float32))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        start, scale = context.reshape(2, self.in_channels, 1, 1)
        shown: Tensor = (x.float() - start).mul_(scale).clamp_(0, 1)
        return shown


class FixedStretch(nn.Module):
    """Linear from one physical value, which becomes 0, to another, which becomes 1; clipped beyond. The same in every scene.

    Args:
        in_channels: bands, all treated alike.
        low, high: physical values.
        zero: where the physical 0 lies among the normalised values, -mean / std.

    `forward` takes (N, C, H, W) and gives the same in fp32, 0 to 1.

    Raises:
        CardError: unless low < high.
    """

    def __init__(self, *, in_channels: int, low: float = 0.0, high: float = 1.0, zero: float = 1.0) -> None:
        super().__init__()
        if not low < high:
            raise CardError(f"a stretch needs low < high, got {low=}, {high=}")
        self.in_channels, self.start, self.scale = in_channels, low + zero, 1 / (high - low)
        self.support_px = 0

    def forward(self, x: Tensor) -> Tensor:
        shown: Tensor = (x.float() - self.start).mul_(self.scale).clamp_(0, 1)
        return shown


class EqualisedStretch(Statistical, nn.Module):
    """Histogram equalisation with limited contrast, by one curve for the whole scene.

    The histogram is cut at `limit` times its mean and what was cut is spread evenly before it is summed, as in contrast-
    limited adaptive equalisation (Zuiderveld 1994, Graphics Gems IV, 474-485), but for the scene and not for tiles, whose
    borders would show. The curve is linear within each of 256 bins between the quantiles 1/256 and 255/256; clipped beyond.

    Args:
        in_channels: bands, each treated by itself.
        limit: steepest slope of the curve, in units of a linear stretch's; 1 is the linear stretch.

    `forward` takes (N, C, H, W) and gives the same in fp32, 0 to 1; a band without contrast gives 0.

    Raises:
        CardError: if the limit is below 1.
    """

    def __init__(self, *, in_channels: int, limit: float = 3.0) -> None:
        super().__init__()
        if not limit >= 1:
            raise CardError(f"contrast cannot be limited below that of a linear stretch, 1; got {limit=}")
        self.in_channels, self.limit = in_channels, limit
        self.support_px = 0

    def context(self, survey: Survey) -> Tensor:
        """(C * (3 + _N_BINS),): for each band where it begins, bins per unit, and the curve at the edges of the bins."""
        curves = [self._curve(np.asarray(quantiles, np.float64)) for quantiles in survey.quantiles]
        return torch.from_numpy(np.concatenate(curves).astype(np.float32))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        out = []
        for k, row in enumerate(context.reshape(self.in_channels, 3 + _N_BINS)):
            curve = row[2:]
            place = (x[:, k : k + 1].float() - row[0]).mul_(row[1]).clamp_(0, _N_BINS)
            left = place.long().clamp_(0, _N_BINS - 1)
            out.append(curve[left] + (curve[1:] - curve[:-1])[left].mul_(place - left))
        return torch.cat(out, dim=1)

    def _curve(self, quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
        start, end = quantiles[1], quantiles[-2]
        edges = np.linspace(start, end, _N_BINS + 1)
        # of equal quantiles the last one counts: it is the share of pixels up to and including their value
        values, first = np.unique(quantiles[::-1], return_index=True)
        shares = np.interp(edges, values, _SHARES[::-1][first])
        histogram = np.diff(shares)
        total = histogram.sum()
        histogram = histogram / total if total > 0 else np.full(_N_BINS, 1 / _N_BINS)
        curve = np.concatenate([[0], np.cumsum(_clipped(histogram, self.limit / _N_BINS))])
        return np.concatenate([[start], _N_BINS * _reciprocal(np.array([end - start])), curve / curve[-1]])


def _clipped(histogram: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """No bin above `most`; what was cut is spread over the others evenly, again and again while some overflow."""
    while (excess := (histogram - most).clip(min=0).sum()) > 1e-9:
        histogram = histogram.clip(max=most)
        room = histogram < most
        if not room.any():
            break
        histogram = histogram + np.where(room, excess / room.sum(), 0)
    return histogram


def _reciprocal(ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1, ranges, out=np.zeros_like(ranges), where=ranges > 0)
