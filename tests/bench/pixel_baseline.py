"""What a map costs nothing to beat: logistic regression on each pixel's colour and on the colours around it.

Fitted by Newton's method on pixels drawn from the training part alone. Knows nothing of the models it is held against.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from earthloom.models.training.augment import IGNORE
from infra.recipes.pictures import Pair

_PIXELS = 200_000
_AROUND_PX = 15
_STEPS = 25


class PixelBaseline:
    """A map of two classes from colour, its squares and products, and mean and deviation over 15 x 15 px."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        dice = np.random.default_rng(0)
        drawn, wanted = [], []
        for pair in pairs:
            known = np.flatnonzero(pair.labels != IGNORE)
            share = min(known.size, _PIXELS * pair.labels.size // sum(p.labels.size for p in pairs))
            chosen = dice.choice(known, share, replace=False)
            drawn.append(_features(pair.values)[:, chosen])
            wanted.append(pair.labels.reshape(-1)[chosen])
        x, y = np.concatenate(drawn, axis=1), np.concatenate(wanted).astype(np.float64)
        self._mean, self._std = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True) + 1e-6
        self._weights = np.zeros(len(x) + 1)
        design = self._design(x)
        for _ in range(_STEPS):
            given = 1 / (1 + np.exp(-(self._weights @ design)))
            slope = design @ (y - given) / y.size - 1e-6 * self._weights
            curvature = (design * (given * (1 - given))) @ design.T / y.size + 1e-6 * np.eye(len(design))
            self._weights += np.linalg.solve(curvature, slope)

    def labels_of(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """(H, W) from stored values (C, H, W)."""
        found: NDArray[np.uint8] = (self._weights @ self._design(_features(values)) > 0).astype(np.uint8)
        return found.reshape(values.shape[1:])

    def _design(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.concatenate([(x - self._mean) / self._std, np.ones((1, x.shape[1]))])


def _features(values: NDArray[np.generic]) -> NDArray[np.float32]:
    """(F, H * W)"""
    bands = values.astype(np.float32) / 255
    means = np.stack([_around(band) for band in bands])
    deviations = np.stack([_around(band**2) for band in bands]) - means**2
    products = np.stack([bands[i] * bands[j] for i in range(len(bands)) for j in range(i, len(bands))])
    every = [bands, products, means, means**2, np.sqrt(np.maximum(deviations, 0))]
    features: NDArray[np.float32] = np.concatenate(every).reshape(-1, bands[0].size)
    return features


def _around(band: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over a square around each pixel, with the border repeated."""
    reach = _AROUND_PX // 2
    wide = np.pad(band.astype(np.float64), ((reach + 1, reach), (reach + 1, reach)), mode="edge").cumsum(0).cumsum(1)
    n = _AROUND_PX
    total = wide[n:, n:] - wide[:-n, n:] - wide[n:, :-n] + wide[:-n, :-n]
    mean: NDArray[np.float32] = (total / n**2).astype(np.float32)
    return mean
