"""Haze is found by the darkest objects of each part of a scene and taken away, as a network without weights.

Knows nothing of bands by name, of wavelengths or of the air.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.networks.enhance.denoise import valid_pixels
from earthloom.models.networks.survey import EVER_PX, MOST_PX, WINDOW_PX, Look, Part, Surveying
from earthloom.tiling.chips import reflect_indices
from earthloom.tiling.errors import CardError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window

_MOST_CELLS = 400
_MOST_IN_CLEAR = 0.6
"""Most of the rise in the haziest band that haze makes in the clearest: red has at most this share of blue's, by any
law from 1 / wavelength on. What raises both alike is ground: sand, roofs, cloud."""
_LEAST_SHARE = 1 / 16  # of a cell's pixels that are valid, below which its darkest say nothing
_HEAD = 3  # numbers before the field: cell_px, height and width of the scene


class DarkObject(Surveying, nn.Module):
    """The value of dark objects is taken from all pixels (Chavez 1988, An improved dark-object subtraction technique for
    atmospheric scattering correction of multispectral data, Remote Sensing of Environment 24), and where dark objects of a
    part of the scene are brighter than those of the whole, more (after Makarau, Richter, Mueller & Reinartz 2014, Haze
    detection and removal in remotely sensed multispectral imagery, IEEE Transactions on Geoscience and Remote Sensing 52,
    5895-5905).

    The scene is divided into cells. What the darkest pixels of a cell have above those of the scene, in the band whose
    dark objects are the brightest as the air scatters most there, less the same in the band where they are the darkest, is
    how much more haze there is; a cell where both rise alike shows ground without a dark object and is passed over. The
    median of 3 x 3 cells counts. Other bands get the share of it with which their own dark objects rise, at most all of it
    and never more than they rise in that cell. So too little is taken rather than too much. Between the centres of cells the
    haze is a cubic B-spline: it has no edges, and no pixel depends on where a chip begins.

    Args:
        in_channels: bands.
        share: share of the pixels that are darker than the dark object.
        keep: physical value that dark objects do have: 0.01 of reflectance (Chavez 1996, Image-based atmospheric
            corrections, Photogrammetric Engineering & Remote Sensing 62, 1025-1036).
        zero: where the physical 0 lies among the normalised values, -mean / std; nothing falls below it.

    `forward` takes (N, C, H, W), where a pixel that is 0 in all bands is not valid, and gives the same, in fp32. Pixels
    beyond the scene are its reflection.

    Raises:
        CardError: if the share is not between 0 and 1, or `keep` is negative.
    """

    is_placed = True

    def __init__(self, *, in_channels: int, share: float = 1 / 256, keep: float = 0.01, zero: float = 1.0) -> None:
        super().__init__()
        if not 0 <= share <= 1 or keep < 0:
            raise CardError(f"share is between 0 and 1 and keep at least 0, got {share=}, {keep=}")
        self.in_channels, self.share, self.keep, self.zero = in_channels, share, keep, zero
        self.support_px = 0

    def windows(self, scene: Window) -> list[Window]:
        """One in the middle of each cell."""
        cell = _cell_px(scene)
        margin = (cell - WINDOW_PX) // 2
        return [
            Window(col + min(margin, (scene.width - col - 1) // 2), row + min(margin, (scene.height - row - 1) // 2),
                   WINDOW_PX, WINDOW_PX) & scene
            for row in range(0, scene.height, cell) for col in range(0, scene.width, cell)
        ]  # fmt: skip

    def look(self, scene: Window, parts: Iterable[Part]) -> Look:
        """(3 + C * rows * cols,): the side of a cell, the scene's height and width, and what is taken at each cell."""
        cell = _cell_px(scene)
        n_rows, n_cols = ceil_div(scene.height, cell), ceil_div(scene.width, cell)
        every = math.ceil(math.sqrt(max(1.0, n_rows * n_cols * WINDOW_PX**2 / MOST_PX)))
        dark = np.full((self.in_channels, n_rows * n_cols), np.nan)
        sample = []
        for part in parts:
            place = part.window.row_off // cell * n_cols + part.window.col_off // cell
            seen = part.values[:, part.valid].astype(np.float64)
            if seen.shape[1] >= max(_LEAST_SHARE * part.window.size_px, 1):
                dark[:, place] = np.quantile(seen, self.share, axis=1)
            sample.append(part.values[:, ::every, ::every][:, part.valid[::every, ::every]].astype(np.float64))
        whole = np.concatenate(sample, axis=1)
        taken = np.zeros((self.in_channels, n_rows, n_cols))
        if whole.shape[1]:
            least = np.quantile(whole, self.share, axis=1)
            taken += np.maximum(least - self.zero - self.keep, 0)[:, None, None]
            if np.isfinite(dark[0]).any():
                taken += _uneven(dark.reshape(taken.shape), least)
        head = (cell, scene.height, scene.width)
        return Look(torch.from_numpy(np.concatenate([head, taken.ravel()]).astype(np.float32)))

    def forward(self, x: Tensor, context: Tensor, corners: Sequence[tuple[int, int]] | None = None) -> Tensor:
        cell, height, width = (int(number) for number in context[:_HEAD].tolist())
        taken = context[_HEAD:].reshape(self.in_channels, ceil_div(height, cell), ceil_div(width, cell))
        made = torch.empty_like(x, dtype=torch.float32)
        for chip, clear, (row, col) in zip(x, made, corners or [(0, 0)] * len(x), strict=True):
            across = _between(taken, reflect_indices(col, col + x.shape[3], width, EVER_PX), cell)
            haze = _between(across.mT, reflect_indices(row, row + x.shape[2], height, EVER_PX), cell).mT
            torch.sub(chip.float(), haze, out=clear)
        return made.clamp_(min=self.zero).mul_(valid_pixels(x))


def _cell_px(scene: Window) -> int:
    """Side of a cell: a multiple of WINDOW_PX, so large that there are at most about _MOST_CELLS."""
    return WINDOW_PX * math.ceil(math.sqrt(max(1.0, scene.size_px / (_MOST_CELLS * WINDOW_PX**2))))


def _uneven(dark: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.float64]:
    """Haze beyond that of the whole scene, from its dark objects (C,) and those of its parts (C, rows, cols), NaN if
    unknown."""
    excess = np.maximum(dark - least[:, None, None], 0)
    reference, clear = int(least.argmax()), int(least.argmin())
    highest, ground = excess[reference], excess[clear]
    with np.errstate(invalid="ignore"):  # NaN is not known, and not believed
        believed = ground <= _MOST_IN_CLEAR * highest
    taken = np.zeros_like(excess)
    if not believed.any():
        return taken
    haze = np.fmin(_median(np.where(believed, highest - ground, np.nan)), np.where(believed, np.nan, highest))
    rises = believed & (highest > 0)
    for k, band in enumerate(excess):
        share = _weighted_median(band[rises] / highest[rises], highest[rises]) if rises.any() else 0.0
        taken[k] = np.fmin(min(share, 1.0) * haze, np.where(np.isfinite(band), band, np.inf))
    return taken


def _median(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of the known among 3 x 3 cells (rows, cols), edges repeated; where none is known, of those found next to it."""
    while True:
        framed = np.pad(cells, 1, mode="edge")
        around = np.stack([framed[r : r + cells.shape[0], c : c + cells.shape[1]] for r in range(3) for c in range(3)])
        known = np.isfinite(around)
        count = known.sum(axis=0)
        ordered = np.sort(np.where(known, around, np.inf), axis=0)
        middle = np.take_along_axis(ordered, (np.maximum(count, 1) - 1)[None] // 2, axis=0)[0]
        found = np.where(count > 0, middle, np.nan)
        if np.isfinite(found).all():
            return found
        cells = found


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _between(cells: Tensor, places: Sequence[int], cell_px: int) -> Tensor:
    """(C, rows, n) of (C, rows, cols): the uniform cubic B-spline with these control points, at pixels of a line.

    Sums of four products in a fixed order for each pixel; the first and last control points are repeated.
    """
    position = (torch.tensor(places, dtype=torch.float64) + 0.5) / cell_px - 0.5
    left = position.floor()
    t = position - left
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    total: Tensor | None = None
    for step, weight in enumerate(weights):
        at = (left.long() + step - 1).clamp(0, cells.shape[2] - 1).to(cells.device)
        part = cells[:, :, at] * (weight / 6).to(torch.float32).to(cells.device)
        total = part if total is None else total + part
    assert total is not None, "four control points reach a pixel"
    return total
