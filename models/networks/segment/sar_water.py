"""Open water in radar images by a threshold that the whole scene chooses, on one date or two. Has no weights.

Smooth water mirrors the radar's pulse away and is dark. How dark depends on angle, wind and calibration, so the threshold
is found in each scene's own histogram: that of the very means that are compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.networks.enhance.denoise import box_sum
from earthloom.models.networks.survey import N_QUANTILES, Look, Part, Surveying, squares
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window

_PART_PX = 64
"""Side of the parts of a scene that are looked at where the scene as a whole shows one population."""
_LEAST_SHARE = 0.1
"""Least share of pixels on the smaller side (Chini et al. 2017, see `SarWater`); fewer are a scene and its outliers."""
_LEAST_SEPARATION = 3.0
"""Least separation of the two sides (Ashman, K. M., Bird, C. M., Zepf, S. E. (1994), Detecting bimodality in
astronomical datasets, The Astronomical Journal 108, 2348-2361, ask for 2). The halves of one normal distribution reach
2.7, and means over 5 x 5 px of speckle alone 2.9 in one of two thousand parts (gamma distributed, 1 or 4 looks,
neighbours independent or not)."""
_FALL = 0.25
"""Share of the distance between land and water: what became darker by more was no water before. 3 dB if they are 12 apart."""
_LEAST_PART = 0.01
"""Least share of pixels that must be dry on both dates, and that must be water before, to judge their contrast."""
_STEEPNESS = 6.0  # of the logit, over the distance between the means of the two sides
_LEAST_POWER = 1e-6


class SarWater(Surveying, nn.Module):
    """Water where the backscatter, averaged over a window, is below the scene's own threshold.

    The threshold is Otsu's (Otsu, N. (1979), A threshold selection method from gray-level histograms, IEEE Transactions on
    Systems, Man, and Cybernetics 9, 62-66), of the averaged values, within `lowest` and `highest`. Where the two sides that
    it makes do not stand apart, as little water is lost among much land, it is the median of the thresholds of those parts
    of the scene in which they do (as Chini, M., Hostache, R., Giustarini, L., Matgen, P. (2017), A hierarchical split-based
    approach for parametric thresholding of SAR images, IEEE Transactions on Geoscience and Remote Sensing 55, 6975-6988,
    choose parts). Where there is none there is no water to see, or nothing else: `highest` counts if it was given, else
    nothing is water.

    Of two dates, ground is permanent water that is water on both and has not become darker by `_FALL`: a field that was dark
    before, but not as dark, is flooded.

    Args:
        in_channels: 1, or 2 for two dates, the later one first.
        classes: 2 (land, water), or 4 for two dates (dry, flooded, permanent water, receded).
        decibels: True where the values are powers, which are compared in decibels.
        smooth_px: side of the window, odd; the speckle of radar images goes with it. The mean is one of decibels: one of
            powers would shift each shore into the water, as land is ten times as bright.
        lowest, highest: bounds of the threshold, in decibels; None for values of no calibration.
        zero: where the physical 0 lies among the normalised values, -mean / std.
        reference: the second channel is no earlier date but a map that is 0 on land and any other number on water.

    `forward` takes (N, 1 or 2, H, W), where a value of 0 is not valid, and returns probabilities (N, classes, H, W) in fp32.

    Raises:
        CardError: if the arguments contradict each other.
    """

    def __init__(
        self, *, in_channels: int, classes: int, decibels: bool = False, smooth_px: int = 5,
        lowest: float | None = None, highest: float | None = None, zero: float = 1.0, reference: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if (in_channels, classes) not in ((1, 2), (2, 4)) or (reference and in_channels == 1):
            raise CardError(
                f"radar water is 2 classes of 1 band, or 4 of two dates or of one and a map of water; got {classes} of "
                f"{in_channels} bands, {reference=}"
            )
        if not 1 <= smooth_px <= 63 or smooth_px % 2 == 0 or (lowest is None) != (highest is None):
            raise CardError(
                f"smooth_px is odd, 1 to 63, and lowest and highest come together; got {smooth_px}, {lowest}, {highest}"
            )
        self.decibels, self.reach_px, self.reference = decibels, smooth_px // 2, reference
        self.lowest, self.highest, self.zero = lowest, highest, zero
        self.n_dates, self.support_px = in_channels - reference, smooth_px // 2

    def look(self, scene: Window, parts: Iterable[Part]) -> Look:  # noqa: ARG002 - the parts say all
        """(2 dates,): each date's threshold, then the distance over which certainty grows."""
        seen = [(self._levels(torch.from_numpy(part.values)[None])[0].numpy(), part.valid) for part in parts]
        found = [self._threshold([(levels[date], valid) for levels, valid in seen]) for date in range(self.n_dates)]
        notes = _unlike_contrast(seen, *found) if self.n_dates == 2 else ()
        return Look(torch.tensor(found, dtype=torch.float32).T.flatten(), notes)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        thresholds, widths = context.reshape(2, self.n_dates, 1, 1)
        levels = self._levels(x)
        water = torch.sigmoid((thresholds - levels) * (_STEEPNESS / widths))
        after = water[:, 0]
        if self.reference:
            before = stayed = (x[:, 1] != 0).float()
        elif self.n_dates == 2:
            fall = (levels[:, 1] - levels[:, 0]) / widths[0]
            before = water[:, 1]
            stayed = before * torch.sigmoid((_FALL - fall) * _STEEPNESS)
        else:
            return torch.stack([1 - after, after], dim=1)
        changes = [(1 - after) * (1 - before), after * (1 - stayed), after * stayed, (1 - after) * before]
        return torch.stack(changes, dim=1)

    def _levels(self, x: Tensor) -> Tensor:
        """(N, dates, H, W) averaged over what is valid, in decibels or as they are."""
        valid = (x[:, : self.n_dates] != 0).float()
        level = x[:, : self.n_dates].float() - self.zero
        if self.decibels:
            level = 10 * torch.log10(level.clamp(min=_LEAST_POWER))
        return box_sum(level * valid, self.reach_px) / box_sum(valid, self.reach_px).clamp_(min=1)

    def _threshold(self, parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> tuple[float, float]:
        """The threshold of one date, and the distance between the means of its two sides.

        Args:
            parts: levels (h, w) and where they are valid.
        """
        levels = np.concatenate([level[valid] for level, valid in parts]).astype(np.float64)
        if not levels.size:
            return 0.0, 1.0
        whole = _split(levels)
        apart = [whole] if whole.is_apart else [one for one in _of_squares(parts) if one.is_apart]
        width = float(np.median([one.width for one in apart or [whole]]))
        threshold = float(np.median([one.threshold for one in apart])) if apart else None
        if self.lowest is None or self.highest is None:
            return float(levels.min()) if threshold is None else threshold, width
        clipped = np.clip(self.highest if threshold is None else threshold, self.lowest, self.highest)
        return float(clipped), max(width, 1.0)


def _unlike_contrast(
    seen: list[tuple[NDArray[np.float32], NDArray[np.bool_]]], later: tuple[float, float], earlier: tuple[float, float]
) -> tuple[str, ...]:
    """A note where ground that stayed dry has changed by `_FALL` in the median: then the fall that tells a flood from
    permanent water is one of the calibration.

    Of the 104 pairs of Sentinel-1 pictures of OMBRIA (Drakonakis et al. 2022, IEEE JSTARS 15, 2341-2356), each stretched by
    itself, 24 differ by less than 0.1 and score a mean IoU of 0.44; the 55 that are noted score 0.32, all others 0.40. Of
    those 24, all are noted when the earlier picture is multiplied by 0.7 or 1.5, 22 when it is turned from decibels into
    power (IoU 0.11), and none when it is averaged over 3 or 9 px, which moves the IoU by less than 0.01.

    Args:
        seen: levels (2 dates, h, w), the later one first, and where they are valid.
        later, earlier: threshold, and distance between land and water.
    """
    falls, n_water, n = [], 0, 0
    for (after, before), valid in seen:
        dry = valid & (after > later[0]) & (before > earlier[0])
        falls.append((before - after)[dry])
        n_water += int((valid & (before <= earlier[0])).sum())
        n += int(valid.sum())
    fall = np.concatenate(falls) if falls else np.empty(0, np.float32)
    if min(fall.size, n_water) <= _LEAST_PART * n:
        return ()
    share = float(np.median(fall)) / later[1]
    if abs(share) < _FALL:
        return ()
    how, so = ("darker", "permanent water may be called flooded") if share > 0 else ("brighter", "floods may be missed")
    return (
        f"ground that is dry on both dates is {how} on the later one by {abs(share):.0%} of the contrast between land and "
        f"water, so {so}: give two dates of one orbit, calibration and unit, or `permanent_water` in place of the earlier one",
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Values parted in two."""

    threshold: float
    width: float
    """Distance between the means of both sides; 1 where all values are the same."""
    is_apart: bool
    """Whether both sides are large enough and stand apart."""


def otsu(quantiles: NDArray[np.float64]) -> Split:
    """Otsu's threshold of values by their N_QUANTILES quantiles."""
    middles = (quantiles[1:] + quantiles[:-1]) / 2  # each stands for as many pixels
    if middles[-1] <= middles[0]:
        return Split(float(middles[0]), 1.0, is_apart=False)
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
    return Split(
        float(middles[best] + middles[best + 1]) / 2, width, is_apart=bool(separation >= _LEAST_SEPARATION and enough)
    )


def _split(values: NDArray[np.float64]) -> Split:
    return otsu(np.quantile(values, np.linspace(0, 1, N_QUANTILES)))


def _of_squares(parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> Iterator[Split]:
    """The split of each whole square of _PART_PX that is at least half valid."""
    for levels, valid in parts:
        for square, known in squares(levels, valid, _PART_PX, 0.5):
            yield _split(square[known].astype(np.float64))
