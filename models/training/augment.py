"""Changes crops at random, so that scenes of other sensors, seasons and haze look familiar; all is drawn from a seed.

Knows nothing of files or of what the classes mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

IGNORE = 255
"""Label of a pixel that teaches nothing: unknown, nodata, or known to be labelled wrongly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variety:
    """Limits of the changes of a crop, so that scenes of other sensors, seasons and haze look familiar."""

    zoom: float = 1.0
    """Factor by which the ground sampling distance varies, up and down: 1.5 is from 1 / 1.5 to 1.5."""
    gain: float = 0.0
    """All bands are multiplied by e to the power of at most this, up or down: the sun."""
    tint: float = 0.0
    """Each band is multiplied by e to the power of at most this besides: the sensor."""
    offset: float = 0.0
    """All bands are shifted by at most this, in units of the values: haze, or its removal."""
    haze: float = 0.0
    """Share of the ground's light, below 1, that haze takes at most, and gives its own instead; see `hazed`."""
    wavelengths_um: tuple[float, ...] = ()
    """Wavelength of each band, for haze, which is thinner in longer waves; without them it is as thick in all bands."""
    gamma: float = 0.0
    """Values are raised to e to the power of at most this, up or down: a stretch for the eye."""
    noise: float = 0.0
    """Standard deviation of white noise, at most."""
    blur: float = 0.0
    """Share of crops whose detail is averaged over 3x3 pixels."""
    ceiling: float = 0.0
    """Values are cut off at 0 and, where this is above 0, at this: a sensor or an 8-bit picture saturates."""
    mixed: float = 0.0
    """Share of crops in which a rectangle shows another place, so that a pixel is judged by what is near it (CutMix:
    Yun et al. 2019, ICCV)."""


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of a scene as a network is to see it.

    Attributes:
        values: (C, side, side) fp32, physical.
        valid: (side, side) bool, true where the scene has data.
        labels: (side, side) uint8, a class or IGNORE.
    """

    values: Tensor
    valid: Tensor
    labels: Tensor

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """(value - mean) / std, 0 where there is no data, (C, side, side); and the labels as int64."""
        centre, spread = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (mean, std))
        values = (self.values - centre) / spread
        if not bool(self.valid.all()):
            values = values.masked_fill(~self.valid, 0.0)
        return values, self.labels.long()


def zoom_of(variety: Variety, dice: np.random.Generator) -> float:
    """Factor by which the ground sampling distance of the next crop differs from its scene's."""
    return float(np.exp(dice.uniform(-1, 1) * np.log(variety.zoom)))


def side_at(side_px: int, zoom: float) -> int:
    """Pixels of the scene that a crop of `side_px` shows at a zoom, per side."""
    return max(1, round(side_px * zoom))


def seen(
    values: NDArray[np.float32], valid: NDArray[np.bool_] | None, labels: NDArray[np.uint8], side_px: int,
    variety: Variety, fill: tuple[float, ...], dice: np.random.Generator, *, turn: int | None = None,
) -> Crop:  # fmt: skip
    """One place on another day.

    Args:
        values: (C, s, s) physical values; s is what `side_at` gave.
        valid: (s, s); None where all of them are.
        labels: (s, s).
        side_px: side of the crop.
        variety: how far it may be changed.
        fill: (C,) what takes the place of values that are not valid until they are set to 0: the mean.
        dice: what is drawn depends on its state alone.
        turn: which of the eight ways it is laid down; None: drawn.
    """
    image, named = torch.from_numpy(values), torch.from_numpy(labels)
    known = torch.ones(named.shape, dtype=torch.bool) if valid is None else torch.from_numpy(valid)
    if valid is not None and not bool(known.all()):
        image = torch.where(known, image, torch.tensor(fill).reshape(-1, 1, 1))
    if image.shape[-1] != side_px:
        size = (side_px, side_px)
        image = interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        named = interpolate(named[None, None], size, mode="nearest-exact")[0, 0]
        known = interpolate(known[None, None].to(torch.uint8), size, mode="nearest-exact")[0, 0].bool()
    turn = int(dice.integers(8)) if turn is None else turn
    return Crop(recoloured(turned(image, turn), variety, dice), turned(known, turn), turned(named, turn))


def mix(crop: Crop, other: Crop, dice: np.random.Generator) -> Crop:
    """The crop with a rectangle of another one in it; `crop` is changed."""
    side_px = crop.labels.shape[-1]
    sides = [int(dice.uniform(0.25, 0.75) * side_px) for _ in range(2)]
    starts = [int(dice.integers(side_px - side + 1)) for side in sides]
    rows, cols = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    for own, foreign in ((crop.values, other.values), (crop.valid, other.valid), (crop.labels, other.labels)):
        own[..., rows, cols] = foreign[..., rows, cols]
    return crop


def relabelled(crop: Crop, rule: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Crop:
    """The crop with what a rule makes of its labels (side, side)."""
    return replace(crop, labels=torch.from_numpy(rule(crop.labels.numpy())))


def turned(image: Tensor, turn: int) -> Tensor:
    """One of the eight ways to lay a square (…, side, side) down."""
    image = torch.rot90(image, turn % 4, (-2, -1))
    return image.flip(-1) if turn >= 4 else image


def recoloured(values: Tensor, variety: Variety, dice: np.random.Generator) -> Tensor:
    """(C, side, side) in physical units as another day or sensor might have seen it; without variety, unchanged."""
    gain, offset, gamma = (dice.uniform(-most, most) for most in (variety.gain, variety.offset, variety.gamma))
    tint = torch.from_numpy(dice.uniform(-variety.tint, variety.tint, (len(values), 1, 1)).astype(np.float32))
    if dice.uniform() < variety.blur:
        values = avg_pool2d(pad(values[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    if variety.haze:
        values = hazed(values, variety, dice)
    if variety.gamma:
        values = values.clamp(min=0) ** math.exp(gamma)
    values = values * (tint + gain).exp() + offset
    sigma = dice.uniform(0, variety.noise)
    if variety.noise:
        values = values + torch.from_numpy(dice.standard_normal(tuple(values.shape), np.float32)) * sigma
    return values.clamp(0, variety.ceiling) if variety.ceiling else values


def hazed(values: Tensor, variety: Variety, dice: np.random.Generator) -> Tensor:
    """(C, side, side) of 0 to about 1 as seen through haze: J t + A (1 - t) of the ground's values J and the haze's own A.

    That is Koschmieder's law (Narasimhan and Nayar 2002, Vision and the atmosphere, IJCV 48, 233-254). In the band of the
    shortest wavelength 1 - t is at most `variety.haze`; the optical depth -ln t falls with the wavelength to the power of
    -k (Angstrom 1929, On the atmospheric transmission of sun radiation). Drawn are t; k, from 0, fog, to 2, fine smoke;
    A, from 0.5 to 1, the same in all bands; and how thick haze is at each corner of the crop, half of it to all.
    """
    depth = -math.log(1 - dice.uniform(0, variety.haze))
    exponent, own = dice.uniform(0, 2), dice.uniform(0.5, 1)
    corners = torch.from_numpy(dice.uniform(0.5, 1, (1, 1, 2, 2)).astype(np.float32))
    thickness = interpolate(corners, tuple(values.shape[-2:]), mode="bilinear", align_corners=True)[0]
    waves = variety.wavelengths_um or (1.0,) * len(values)
    thinner = torch.tensor([(min(waves) / wave) ** exponent for wave in waves]).reshape(-1, 1, 1)
    through = (-depth * thinner * thickness).exp()
    return values * through + own * (1 - through)


def plain(values: NDArray[np.float32], valid: NDArray[np.bool_], labels: NDArray[np.uint8]) -> Crop:
    """A place as it is: values (C, s, s) physical, valid (s, s), labels (s, s)."""
    return Crop(torch.from_numpy(values), torch.from_numpy(valid), torch.from_numpy(labels))


def stacked(crops: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Crops (C, side, side) and labels (side, side) as a batch: (n, C, side, side) and (n, side, side)."""
    return torch.stack([crop for crop, _ in crops]), torch.stack([labels for _, labels in crops])
