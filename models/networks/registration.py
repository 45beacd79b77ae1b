"""By how much one image of a scene lies beside another, by phase correlation over parts of it. Arrays in, numbers out.

Kuglin, C. D., Hines, D. C. (1975): The phase correlation image alignment method. IEEE Conference on Cybernetics and
Society, 163-165; refined by the transform at fractions of a pixel around the peak (Guizar-Sicairos, M., Thurman, S. T.,
Fienup, J. R. (2008): Efficient subpixel image registration algorithms. Optics Letters 33, 156-158). Knows nothing of bands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_PX = 128
_LEAST_VALID = 0.75  # of a tile's pixels
_STEPS = 20  # of a pixel that are told apart
_MOST_PX = TILE_PX // 4
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Shift:
    """Where the first image lies, beside the second."""

    right_px: float
    down_px: float
    strength: float
    """Of the peak, 0 to 1: the share of the frequencies that agree on it. Noise against noise gives a few hundredths."""

    @property
    def length_px(self) -> float:
        return float(np.hypot(self.right_px, self.down_px))


def shift_between(
    pairs: Iterable[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]], cycles_per_px: float
) -> Shift | None:
    """The shift that most tiles of TILE_PX agree on; None where there is no tile with contrast.

    Args:
        pairs: of the same ground both images (h, w), and where they are valid.
        cycles_per_px: highest frequency that both images resolve, at most 0.5.
    """
    frequency = np.asarray(np.fft.fftfreq(TILE_PX), np.float64)
    seen = np.hypot(frequency[:, None], frequency[None]) <= cycles_per_px
    seen[0, 0] = False
    total, n_tiles = np.zeros(seen.shape, np.complex128), 0
    for a, b in _tiles(pairs):
        cross = np.fft.fft2(a) * np.conj(np.fft.fft2(b))
        size = np.abs(cross)
        if size[seen].max() > _TINY:
            total += np.where(seen & (size > _TINY), cross / np.maximum(size, _TINY), 0)
            n_tiles += 1
    if not n_tiles:
        return None
    total /= n_tiles * seen.sum()
    coarse = np.arange(-_MOST_PX, _MOST_PX + 1, dtype=np.float64)
    down, right, _ = _peak(total, frequency, coarse, coarse)
    fine = np.arange(-_STEPS, _STEPS + 1, dtype=np.float64) / _STEPS
    down, right, strength = _peak(total, frequency, down + fine, right + fine)
    return Shift(float(right), float(down), strength)


def _peak(
    spectrum: NDArray[np.complex128],
    frequency: NDArray[np.float64],
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Row and column, among these shifts, where the spectrum's transform is largest, and how large."""
    by_row = np.exp(2j * np.pi * rows[:, None] * frequency[None])
    by_col = np.exp(2j * np.pi * frequency[:, None] * cols[None])
    surface = np.real(np.einsum("rf,fg,gc->rc", by_row, spectrum, by_col, optimize=True))
    row, col = np.unravel_index(surface.argmax(), surface.shape)
    return float(rows[row]), float(cols[col]), float(surface[row, col])


def _tiles(
    pairs: Iterable[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.bool_]]],
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Both images of each whole tile, about their means and faded out at the edges; 0 where not valid."""
    fade = np.hanning(TILE_PX + 2)[1:-1]
    for first, second, valid in pairs:
        for row in range(0, valid.shape[0] - TILE_PX + 1, TILE_PX):
            for col in range(0, valid.shape[1] - TILE_PX + 1, TILE_PX):
                where = (slice(row, row + TILE_PX), slice(col, col + TILE_PX))
                known = valid[where]
                if known.mean() >= _LEAST_VALID:
                    weights = known * np.outer(fade, fade)
                    a, b = first[where].astype(np.float64), second[where].astype(np.float64)
                    yield (a - a[known].mean()) * weights, (b - b[known].mean()) * weights
