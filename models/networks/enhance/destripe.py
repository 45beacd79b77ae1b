"""Stripes along whole columns or rows are found by a look over the scene and taken away, as a network without weights.

Knows nothing of detectors or scan lines: a stripe is what a column has more or less than its neighbours all along. Gaps
(missing lines), and stripes that do not run along the grid, are beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.networks.enhance.denoise import valid_pixels
from earthloom.models.networks.survey import EVER_PX, WINDOW_PX, Look, Part, Surveying
from earthloom.tiling.chips import reflect_indices
from earthloom.tiling.errors import CardError
from earthloom.tiling.window import Window

_MOST_STRIPS = 8  # of WINDOW_PX across the stripes: 2048 pixels of each column tell its stripe to a few % of the noise
_PIECE_PX = 1024
_BLOCK_PX = 64
_LEAST_BLOCK_PX = 8
_SPREAD = 1.4826  # of the median deviation, to a standard deviation
_LEAST_DOUBT = 1e-6
"""Least variance that a difference is taken to have, as a share of the stripes', so that the system can be solved."""


class Destripe(Surveying, nn.Module):
    """Offsets of whole columns by linear estimation from differences of neighbours (Carfantan & Idier 2010, Statistical
    linear destriping of satellite-based pushbroom-type images, IEEE Transactions on Geoscience and Remote Sensing 48,
    1860-1871).

    The difference of two neighbouring columns is the mean over blocks of up to 64 rows; in a block, the mean of those
    differences that lie within one standard deviation of their median, as ground with edges has differences far from it.
    How far block means scatter says how well the difference is known. Offsets that are likely in advance are normally
    distributed with a variance that follows from the differences themselves; the most likely ones given all differences
    are the solution of a tridiagonal system. What changes over more than `across_px` columns is ground, and stays.

    Args:
        in_channels: bands, each treated by itself.
        direction: in which stripes run, `columns` or `rows`.
        across_px: radius of the mean that is left in.

    `forward` takes (N, C, H, W), where a pixel that is 0 in all bands is not valid, and gives the same, in fp32. Pixels
    beyond the scene are its reflection.

    Raises:
        CardError: if the direction is neither, or the radius out of range.
    """

    is_placed = True

    def __init__(self, *, in_channels: int, direction: str = "columns", across_px: int = 16) -> None:
        super().__init__()
        if direction not in ("columns", "rows"):
            raise CardError(f"stripes run along 'columns' or 'rows', got {direction!r}")
        if not 1 <= across_px <= 256:
            raise CardError(f"across_px is 1 to 256, got {across_px}")
        self.in_channels, self.is_rows, self.across_px = in_channels, direction == "rows", across_px
        self.support_px = 0

    def windows(self, scene: Window) -> list[Window]:
        """Strips that cross all stripes, spread evenly over their length, in pieces that share one column."""
        across, along = scene.shape if self.is_rows else scene.shape[::-1]
        starts = list(range(0, along, WINDOW_PX))
        if len(starts) > _MOST_STRIPS:
            starts = [starts[(2 * k + 1) * len(starts) // (2 * _MOST_STRIPS)] for k in range(_MOST_STRIPS)]
        pieces = [(start, piece) for start in starts for piece in range(0, max(across - 1, 1), _PIECE_PX)]
        found = [
            Window(start, piece, WINDOW_PX, _PIECE_PX + 1) if self.is_rows else Window(piece, start, _PIECE_PX + 1, WINDOW_PX)
            for start, piece in pieces
        ]  # fmt: skip
        return [window & scene for window in found]

    def look(self, scene: Window, parts: Iterable[Part]) -> Look:
        """(C, n): the offset of each column, or row."""
        n, along = scene.shape if self.is_rows else scene.shape[::-1]
        block_px = min(max(along // 8, _LEAST_BLOCK_PX), _BLOCK_PX)
        sums, squares, counts = (np.zeros((self.in_channels, n - 1)) for _ in range(3))
        for part in parts:
            values, valid, first = part.values.astype(np.float64), part.valid, part.window.col_off
            if self.is_rows:
                values, valid, first = values.swapaxes(1, 2), valid.T, part.window.row_off
            steps, both = values[:, :, :-1] - values[:, :, 1:], valid[:, :-1] & valid[:, 1:]
            where = slice(first, first + steps.shape[2])
            for row in range(0, len(valid), block_px):
                mean, known = _step(steps[:, row : row + block_px], both[row : row + block_px])
                sums[:, where] += mean
                squares[:, where] += mean**2
                counts[:, where] += known
        return Look(torch.from_numpy(self._offsets(sums, squares, counts).astype(np.float32)))

    def forward(self, x: Tensor, context: Tensor, corners: Sequence[tuple[int, int]] | None = None) -> Tensor:
        size, n = x.shape[2 if self.is_rows else 3], context.shape[1]
        out = x.float()
        made = torch.empty_like(out)
        for chip, clear, corner in zip(out, made, corners or [(0, 0)] * len(x), strict=True):
            first = corner[0 if self.is_rows else 1]
            offset = context[:, reflect_indices(first, first + size, n, EVER_PX)]
            torch.sub(chip, offset[:, :, None] if self.is_rows else offset[:, None, :], out=clear)
        return made.mul_(valid_pixels(x))

    def _offsets(
        self, sums: NDArray[np.float64], squares: NDArray[np.float64], counts: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(C, n) from what blocks said of the differences (C, n - 1)."""
        n_bands, n = sums.shape[0], sums.shape[1] + 1
        often = counts > 1
        steps = sums / np.maximum(counts, 1)
        own = np.where(often, (squares - counts * steps**2).clip(min=0) / np.maximum(counts - 1, 1), 0)
        offsets = np.zeros((n_bands, n))
        for band in range(n_bands):
            known = often[band]
            if not known.any():  # one block tells a stripe from an edge no better than a pixel does
                continue
            pooled = own[band, known].mean()
            variance = (own[band] + pooled) / 2 / np.maximum(counts[band], 1)
            power = (np.mean(steps[band, known] ** 2) - np.mean(variance[known])) / 2
            if power > 0:
                weights = np.where(known, 1 / np.maximum(variance, _LEAST_DOUBT * power), 0)
                found = _most_likely(np.where(known, steps[band], 0), weights, float(power))
                offsets[band] = found - _smooth(found, min(self.across_px, n - 1))
        return offsets


def _step(steps: NDArray[np.float64], both: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The mean step (C, n) of one block (C, h, n), and where (n,) half of it is known; 0 elsewhere."""
    count = both.sum(axis=0)
    known = count >= max(len(both) // 2, 1)
    ordered = np.sort(np.where(both, steps, np.inf), axis=1)
    middle = np.where(known, (np.maximum(count, 1) - 1) // 2, 0)
    median = np.take_along_axis(ordered, np.broadcast_to(middle, (len(steps), 1, len(middle))), axis=1)
    median = np.where(known, median, 0)
    distance = np.where(both & known, np.abs(steps - median), np.inf)
    spread = [np.median(band[np.isfinite(band)]) if np.isfinite(band).any() else 0.0 for band in distance]
    near = distance <= _SPREAD * np.array(spread)[:, None, None]
    n_near = near.sum(axis=1)
    mean = np.where(near, steps, 0).sum(axis=1) / np.maximum(n_near, 1)
    return np.where(n_near > 0, mean, median[:, 0]), known


def _most_likely(steps: NDArray[np.float64], weights: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """(n,) offsets s that minimise sum(s^2) / power + sum(weights * (s[i] - s[i + 1] - steps[i])^2): Thomas' algorithm."""
    n = len(steps) + 1
    diagonal, right = np.full(n, 1 / power), np.zeros(n)
    diagonal[:-1] += weights
    diagonal[1:] += weights
    right[:-1] += weights * steps
    right[1:] -= weights * steps
    for i in range(1, n):
        share = weights[i - 1] / diagonal[i - 1]
        diagonal[i] -= share * weights[i - 1]
        right[i] += share * right[i - 1]
    found = np.zeros(n)
    found[-1] = right[-1] / diagonal[-1]
    for i in range(n - 2, -1, -1):
        found[i] = (right[i] + weights[i] * found[i + 1]) / diagonal[i]
    return found


def _smooth(values: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """The mean over 2 * radius + 1, reflected at the ends."""
    width = 2 * radius + 1
    summed = np.concatenate([[0.0], np.cumsum(np.pad(values, radius, mode="reflect"))])
    smooth: NDArray[np.float64] = (summed[width:] - summed[:-width]) / width
    return smooth
