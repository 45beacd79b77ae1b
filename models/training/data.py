"""Labelled pixels become training batches: random crops, turned, rescaled and recoloured by numbers drawn from a seed.

Batch number k depends on the seed and on k alone, so a fit that goes on from step k sees what it would have seen.
Knows nothing of files or of what the classes mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from earthloom.tiling.errors import ConfigError

IGNORE = 255
"""Label of a pixel that teaches nothing: unknown, nodata, or known to be labelled wrongly."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its labels on one grid.

    Attributes:
        values: (C, H, W) stored values, any real dtype.
        labels: (H, W) uint8, the class of each pixel or IGNORE.

    Raises:
        ConfigError: if they do not cover the same pixels.
    """

    values: NDArray[np.generic]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.shape[1:] != self.labels.shape or self.labels.dtype != np.uint8:
            raise ConfigError(
                f"a training pair is values (C, H, W) and uint8 labels (H, W) of the same pixels; got "
                f"{self.values.shape} and {self.labels.dtype} {self.labels.shape}: put both on one grid first"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """How far a crop may be changed, so that scenes of other sensors, seasons and haze look familiar."""

    zoom: float = 1.0
    """Factor by which the ground sampling distance varies, up and down: 1.5 is from 1 / 1.5 to 1.5."""
    gain: float = 0.0
    """All bands are multiplied by e to the power of at most this, up or down: the sun."""
    tint: float = 0.0
    """Each band is multiplied by e to the power of at most this besides: the sensor."""
    offset: float = 0.0
    """All bands are shifted by at most this, in units of the values: haze, or its removal."""
    gamma: float = 0.0
    """Values are raised to e to the power of at most this, up or down: a stretch for the eye."""
    noise: float = 0.0
    """Standard deviation of white noise, at most."""
    blur: float = 0.0
    """Share of crops whose detail is averaged over 3x3 pixels."""
    mixed: float = 0.0
    """Share of crops in which a rectangle shows another place, so that a pixel is judged by what is near it (CutMix:
    Yun et al. 2019, ICCV)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Draws batches from pairs.

    Attributes:
        pairs: every pixel of every pair is equally likely to be a crop's corner.
        gain: physical value = stored * gain.
        mean, std: per channel; crops are (physical - mean) / std, as the network will see scenes.
        side_px: of a crop, a multiple of the network's stride.
        seed: of everything that is drawn.
        rare: a class that fills few places: of two that are drawn, the one with more of it is taken.

    Raises:
        ConfigError: if a pair is too small for a crop at the widest zoom.
    """

    pairs: Sequence[Pair]
    gain: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    side_px: int
    variety: Variety
    seed: int
    rare: int | None = None

    def __post_init__(self) -> None:
        most = _side(self.side_px, self.variety.zoom)
        for pair in self.pairs:
            if min(pair.labels.shape) < most:
                raise ConfigError(
                    f"a picture of {pair.labels.shape[1]} x {pair.labels.shape[0]} px is smaller than a crop of {most} px "
                    f"({self.side_px} px at zoom {self.variety.zoom}); use smaller crops"
                )

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Crops (size, C, side, side) fp32, normalised, and their labels (size, side, side) int64, of one step."""
        made = [self._crop(np.random.default_rng((self.seed, step, place))) for place in range(size)]
        return torch.stack([crop for crop, _ in made]), torch.stack([labels for _, labels in made])

    def _crop(self, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
        values, labels = self._seen(dice)
        if dice.uniform() < self.variety.mixed:
            others, other_labels = self._seen(dice)
            sides = [int(dice.uniform(0.25, 0.75) * self.side_px) for _ in range(2)]
            starts = [int(dice.integers(self.side_px - side + 1)) for side in sides]
            rows, cols = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
            values[:, rows, cols], labels[rows, cols] = others[:, rows, cols], other_labels[rows, cols]
        mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
        return (values - mean) / std, labels.long()

    def _seen(self, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One place on another day: values (C, side, side) in physical units, labels (side, side) uint8."""
        zoom = float(np.exp(dice.uniform(-1, 1) * np.log(self.variety.zoom)))
        side = _side(self.side_px, zoom)
        place, window = self._placed(side, dice)
        if self.rare is not None:
            drawn = [(place, window), self._placed(side, dice)]
            place, window = max(drawn, key=lambda each: int((self.pairs[each[0]].labels[each[1]] == self.rare).sum()))
        values = torch.from_numpy(self.pairs[place].values[(slice(None), *window)].astype(np.float32)) * self.gain
        labels = torch.from_numpy(self.pairs[place].labels[window].copy())
        if side != self.side_px:
            size = (self.side_px, self.side_px)
            values = interpolate(values[None], size, mode="bilinear", antialias=True)[0]
            labels = interpolate(labels[None, None], size, mode="nearest-exact")[0, 0]
        turn = int(dice.integers(8))
        return _recoloured(_turned(values, turn), self.variety, dice), _turned(labels, turn)

    def _placed(self, side: int, dice: np.random.Generator) -> tuple[int, tuple[slice, slice]]:
        """Which picture, and which rows and columns of it."""
        rooms = [(pair.labels.shape[0] - side + 1, pair.labels.shape[1] - side + 1) for pair in self.pairs]
        sizes = np.array([rows * cols for rows, cols in rooms])
        place = int(dice.choice(len(rooms), p=sizes / sizes.sum()))
        row, col = (int(dice.integers(room)) for room in rooms[place])
        return place, (slice(row, row + side), slice(col, col + side))


def _side(side_px: int, zoom: float) -> int:
    return max(1, round(side_px * zoom))


def _turned(image: Tensor, turn: int) -> Tensor:
    """One of the eight ways to lay a square (…, side, side) down."""
    image = torch.rot90(image, turn % 4, (-2, -1))
    return image.flip(-1) if turn >= 4 else image


def _recoloured(values: Tensor, variety: Variety, dice: np.random.Generator) -> Tensor:
    """(C, side, side) in physical units, 0 or more, as another day or sensor might have seen it."""
    gain, offset, gamma = (dice.uniform(-most, most) for most in (variety.gain, variety.offset, variety.gamma))
    tint = torch.from_numpy(dice.uniform(-variety.tint, variety.tint, (len(values), 1, 1)).astype(np.float32))
    if dice.uniform() < variety.blur:
        values = avg_pool2d(pad(values[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    values = values.clamp(min=0) ** math.exp(gamma) * (tint + gain).exp() + offset
    sigma = dice.uniform(0, variety.noise)
    return values + torch.from_numpy(dice.normal(0, 1, values.shape).astype(np.float32)) * sigma
