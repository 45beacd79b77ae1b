"""Numbers of a whole scene that some networks need beside the chip: quantiles, covariance, noise. Arrays in, values out.

They are taken once per scene and travel to every block, so that no block decides for itself how bright is bright.
Knows nothing of files or of where the pixels come from.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_QUANTILES = 257
"""Quantiles at k / 256, from the smallest value to the largest."""

_BLOCK_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Of the valid pixels of one scene, per channel, in the values that the network sees (normalised)."""

    n: int
    """Pixels that were looked at; 0 when the scene has no valid one, and all else is 0 then."""
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    """(C, C)"""
    quantiles: tuple[tuple[float, ...], ...]
    """(C, N_QUANTILES)"""
    noise: tuple[float, ...]
    """Standard deviation of white noise, by Immerkaer's operator on the calmest quarter of the scene."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Survey:
        return cls(
            n=int(document["n"]), mean=tuple(document["mean"]), noise=tuple(document["noise"]),
            covariance=tuple(tuple(row) for row in document["covariance"]),
            quantiles=tuple(tuple(row) for row in document["quantiles"]),
        )  # fmt: skip


def survey(parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> Survey:
    """Look at parts of a scene.

    Args:
        parts: normalised pixels (C, h, w) and where they are valid (h, w); the order does not matter beyond rounding.
    """
    n_channels = parts[0][0].shape[0]
    seen = np.concatenate([values[:, valid] for values, valid in parts], axis=1).astype(np.float64)
    if not seen.shape[1]:
        zeros = (0.0,) * n_channels
        flat = ((0.0,) * N_QUANTILES,) * n_channels
        return Survey(n=0, mean=zeros, covariance=(zeros,) * n_channels, quantiles=flat, noise=zeros)
    centred = seen - seen.mean(axis=1, keepdims=True)
    return Survey(
        n=seen.shape[1],
        mean=tuple(seen.mean(axis=1).tolist()),
        # not by BLAS, which adds up in as many parts as there are cores
        covariance=tuple(tuple(row) for row in (np.einsum("ik,jk->ij", centred, centred) / seen.shape[1]).tolist()),
        quantiles=tuple(tuple(row) for row in np.quantile(seen, np.linspace(0, 1, N_QUANTILES), axis=1).T.tolist()),
        noise=_noise(parts, n_channels),
    )


def _noise(parts: list[tuple[NDArray[np.float32], NDArray[np.bool_]]], n_channels: int) -> tuple[float, ...]:
    """sqrt(pi / 2) / 6 times the mean magnitude of the difference of two Laplacians (Immerkaer 1996, Fast Noise Variance
    Estimation, Computer Vision and Image Understanding 64, 300-302).

    The operator also answers to texture, so that a clean scene would look noisy: the mean is taken within blocks of
    _BLOCK_PX a side, and the lower quartile of the blocks counts. Where no block is half valid, all windows count as one.
    """
    sums, counts = [np.zeros((n_channels, 0))], [np.zeros(0, np.int64)]
    for values, valid in parts:
        if min(valid.shape) < 3:
            continue
        rows, cols = valid.shape[0] - 2, valid.shape[1] - 2
        windows = [(slice(r, r + rows), slice(c, c + cols)) for r in range(3) for c in range(3)]
        known = np.logical_and.reduce([valid[window] for window in windows])
        answer = np.zeros((n_channels, rows, cols))
        for weight, window in zip((1, -2, 1, -2, 4, -2, 1, -2, 1), windows, strict=True):
            answer += weight * values[(slice(None), *window)].astype(np.float64)
        sums.append(_per_block(np.where(known, np.abs(answer), 0)).reshape(n_channels, -1))
        counts.append(_per_block(known).reshape(-1))
    total, count = np.concatenate(sums, axis=1), np.concatenate(counts)
    calm = count >= _BLOCK_PX**2 // 2
    if calm.any():
        level = np.quantile(total[:, calm] / count[calm], 0.25, axis=1)
    else:
        level = total.sum(axis=1) / max(int(count.sum()), 1)
    return tuple((np.sqrt(np.pi / 2) / 6 * level).tolist())


def _per_block(values: NDArray[Any]) -> NDArray[Any]:
    """Sums of (..., h, w) over blocks of _BLOCK_PX a side; smaller ones at the right and bottom."""
    starts = [np.arange(0, size, _BLOCK_PX) for size in values.shape[-2:]]
    dtype = np.int64 if values.dtype == bool else np.float64
    by_row = np.add.reduceat(values.astype(dtype), starts[0], axis=-2)
    summed: NDArray[Any] = np.add.reduceat(by_row, starts[1], axis=-1)
    return summed
