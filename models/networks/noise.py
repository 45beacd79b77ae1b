"""How much white noise the bands of a scene have, found in parts of it. Knows nothing of where the pixels come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_PX = 16
_TOGETHER = 12
"""Bands that are told apart at once; beyond, a block has too few pixels, and the work grows with the square."""
_CALM = 0.25
"""Share of the blocks that are calmer than the one that counts."""
_CALMEST = 0.01
_NORM = 36.0
"""Sum of the operator's squares: what it makes of the variance of white noise."""
_INDEPENDENT = (36 / 70) ** 2
"""Answers of the operator that count as one: white noise gives (1, -2, 1) an autocorrelation of (1, -4, 6, -4, 1) / 6, whose
squares add up to 70 / 36, along rows and columns."""
_RIDGE = 1e-9

Seen = Sequence[tuple[NDArray[np.float32], NDArray[np.bool_]]]


def noise_of(parts: Seen) -> tuple[float, ...]:
    """Standard deviation of white noise in each band, 0 where there is none.

    The operator is the difference of two Laplacians (Immerkaer 1996, Fast Noise Variance Estimation, Computer Vision and
    Image Understanding 64, 300-302). It also answers to texture, which all bands share and a sensor's noise does not: what
    the other bands explain of a band's answers, by regression within blocks of _BLOCK_PX a side, is texture (Roger, R. E.,
    Arnold, J. F. (1996), Reliably estimating the noise in AVIRIS hyperspectral images, International Journal of Remote
    Sensing 17, 1951-1962). The lower quartile of the blocks counts. Noise that bands share, as in pictures made of one
    band, is left in the calmest hundredth of the blocks, where there is no texture: it is at least what is found there.

    Args:
        parts: pixels (C, h, w) and where they are valid (h, w).
    """
    n_bands = parts[0][0].shape[0] if parts else 0
    return tuple(
        sigma
        for start in range(0, n_bands, _TOGETHER)
        for sigma in _together([(values[start : start + _TOGETHER], valid) for values, valid in parts])
    )


def _together(parts: Seen) -> list[float]:
    """Noise of a few bands, measured together. If no block is half valid, all count as one."""
    n_bands = parts[0][0].shape[0]
    covariances, counts = [np.zeros((n_bands, n_bands, 0))], [np.zeros(0)]
    for values, valid in parts:
        if min(valid.shape) < 3:
            continue
        answer, known = _answers(values, valid)
        products = [_per_block(one * answer) for one in answer]  # not all pairs at once, for the memory
        covariances.append(np.stack(products).reshape(n_bands, n_bands, -1))
        counts.append(_per_block(known.astype(np.float64)).reshape(-1))
    sums, count = np.concatenate(covariances, axis=2), np.concatenate(counts)
    whole = count >= _BLOCK_PX**2 / 2
    if not whole.any():
        sums, count, whole = sums.sum(axis=2, keepdims=True), count.sum(keepdims=True), np.ones(1, np.bool_)
    if not count.any():
        return [0.0] * n_bands
    covariance = np.moveaxis(sums[..., whole] / count[whole] / _NORM, 2, 0)  # (blocks, C, C)
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    least = _RIDGE * variance.mean(axis=1)[:, None, None] + np.finfo(np.float64).tiny
    own = 1 / np.diagonal(np.linalg.inv(covariance + least * np.eye(n_bands)), axis1=1, axis2=2)
    free = np.maximum(1 - (n_bands - 1) / (count[whole] * _INDEPENDENT), 0.5)  # the regression takes its part
    own = np.where(variance > 0, own / free[:, None], 0)
    found = np.maximum(np.quantile(own, _CALM, axis=0), np.quantile(variance, _CALMEST, axis=0))
    return [float(sigma) for sigma in np.sqrt(found)]


def _answers(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The operator's answers (C, h - 2, w - 2), 0 where not all nine pixels are valid, and where they are."""
    rows, cols = valid.shape[0] - 2, valid.shape[1] - 2
    windows = [(slice(r, r + rows), slice(c, c + cols)) for r in range(3) for c in range(3)]
    known = np.logical_and.reduce([valid[window] for window in windows])
    answer = np.zeros((len(values), rows, cols))
    for weight, window in zip((1, -2, 1, -2, 4, -2, 1, -2, 1), windows, strict=True):
        answer += weight * values[(slice(None), *window)].astype(np.float64)
    return np.where(known, answer, 0), known


def _per_block(values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums of (..., h, w) over blocks of _BLOCK_PX a side; smaller ones at the right and bottom."""
    starts = [np.arange(0, size, _BLOCK_PX) for size in values.shape[-2:]]
    by_row = np.add.reduceat(values, starts[0], axis=-2)
    return np.asarray(np.add.reduceat(by_row, starts[1], axis=-1))
