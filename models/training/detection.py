"""Teaches a network to find objects: batches with the boxes of what they show, and the loss of what is said of them.

Objects as Points (Zhou, Wang, Krähenbühl 2019, arXiv:1904.07850): the network says for each pixel how likely it is the
centre of an object of each class, how large that object is, and how far from the pixel its centre lies
(`models.inference.objects` reads the same channels). Two things differ from the paper, because objects of a few pixels in
a hundred crops teach too little through one pixel each: a centre's heat fades with the box's own width and height (Liu et
al. 2020, TTFNet, arXiv:1909.00700), and every pixel is asked for that heat itself, by the quality focal loss (Li et al.
2020, Generalized Focal Loss, arXiv:2006.04388). Knows nothing of files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from earthloom.models.training.augment import Variety, recoloured, side_at, turned, zoom_of
from earthloom.tiling.errors import ConfigError

_BETA = 2
"""Exponent of the quality focal loss, as published."""
_SIZE_WEIGHT = 0.1
"""Of the error of width and height in pixels."""
_OFFSET_WEIGHT = 0.2
"""Of the offset's, which here is of several pixels, and not of a part of one."""
_NEAR = 0.3
"""Pixels with a heat above this also learn size and offset: a peak may lie a pixel or two beside the centre."""
_SIGMAS = 5.0
"""Standard deviations of the heat in a box's width, and in its height."""
_LEAST_SIGMA_PX = 0.7
_SEEN = 0.5
"""Share of a box that a crop must show for the object to count; of the others nothing is learned."""
_PRIOR = 0.05
"""What an untrained network says everywhere (Lin et al. 2017, Focal loss for dense object detection)."""


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture and the objects on it.

    Attributes:
        values: (C, H, W) stored values, any real dtype.
        boxes: (n, 4) column and row of the upper left corner, width and height, in pixels.
        classes: (n,) class of each.

    Raises:
        ConfigError: if the lengths do not agree.
    """

    values: NDArray[np.generic]
    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.boxes.shape != (len(self.classes), 4):
            raise ConfigError(
                f"a picture is values (C, H, W), boxes (n, 4) and classes (n,); got {self.values.shape}, "
                f"{self.boxes.shape} and {self.classes.shape}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxCrops:
    """Draws batches from pictures; batch number k depends on the seed and on k alone.

    Attributes:
        pictures: every pixel of every picture is equally likely to be a crop's corner.
        gain: physical value = stored * gain.
        mean, std: per channel; crops are (physical - mean) / std.
        n_classes: of the network.
        side_px: of a crop.
        variety: how far a crop may be changed; `mixed` is not used, for it would cut objects.
        seed: of everything that is drawn.
        centred: share of crops that show an object that was drawn first.

    Raises:
        ConfigError: if a picture is too small for a crop at the widest zoom.
    """

    pictures: Sequence[Pictured]
    gain: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_classes: int
    side_px: int
    variety: Variety
    seed: int
    centred: float = 0.7

    def __post_init__(self) -> None:
        most = side_at(self.side_px, self.variety.zoom)
        for picture in self.pictures:
            if min(picture.values.shape[1:]) < most:
                raise ConfigError(
                    f"a picture of {picture.values.shape[2]} x {picture.values.shape[1]} px is smaller than a crop of "
                    f"{most} px ({self.side_px} px at zoom {self.variety.zoom}); use smaller crops"
                )

    def batch(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Crops (size, C, side, side) fp32, normalised, and targets (size, n_classes + 6, side, side) (`targets`)."""
        made = [self._crop(np.random.default_rng((self.seed, step, place))) for place in range(size)]
        return torch.stack([crop for crop, _ in made]), torch.stack([wanted for _, wanted in made])

    def _crop(self, dice: np.random.Generator) -> tuple[Tensor, Tensor]:
        side = side_at(self.side_px, zoom_of(self.variety, dice))
        picture, row, col = self._placed(side, dice)
        values = picture.values[:, row : row + side, col : col + side].astype(np.float32) * np.float32(self.gain)
        image = torch.from_numpy(values)
        if side != self.side_px:
            image = interpolate(image[None], (self.side_px, self.side_px), mode="bilinear", antialias=True)[0]
        boxes = (picture.boxes - [col, row, 0, 0]) * (self.side_px / side)
        turn = int(dice.integers(8))
        image = recoloured(turned(image, turn), self.variety, dice)
        mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (self.mean, self.std))
        found = targets(turned_boxes(boxes, turn, self.side_px), picture.classes, self.n_classes, self.side_px)
        return (image - mean) / std, torch.from_numpy(found)

    def _placed(self, side: int, dice: np.random.Generator) -> tuple[Pictured, int, int]:
        """A picture, and the row and column of the crop's corner in it."""
        n_objects = np.array([len(picture.boxes) for picture in self.pictures])
        rooms = [tuple(length - side + 1 for length in picture.values.shape[1:]) for picture in self.pictures]
        if n_objects.sum() and dice.uniform() < self.centred:
            place = int(dice.choice(len(rooms), p=n_objects / n_objects.sum()))
            x, y, width, height = self.pictures[place].boxes[int(dice.integers(n_objects[place]))]
            shift = dice.uniform(0.15, 0.85, 2) * side
            corner = (y + height / 2 - shift[0], x + width / 2 - shift[1])
            row, col = (int(np.clip(start, 0, room - 1)) for start, room in zip(corner, rooms[place], strict=True))
        else:
            sizes = np.array([rows * cols for rows, cols in rooms])
            place = int(dice.choice(len(rooms), p=sizes / sizes.sum()))
            row, col = (int(dice.integers(room)) for room in rooms[place])
        return self.pictures[place], row, col


def turned_boxes(boxes: NDArray[np.float64], turn: int, side_px: int) -> NDArray[np.float64]:
    """Boxes (n, 4) on a square that `models.training.augment.turned` has laid down in way `turn`."""
    x, y, width, height = boxes.T
    for _ in range(turn % 4):  # counter-clockwise: the right edge becomes the upper one
        x, y, width, height = y, side_px - x - width, height, width
    if turn >= 4:
        x = side_px - x - width
    return np.stack([x, y, width, height], axis=1)


def targets(
    boxes: NDArray[np.float64], classes: NDArray[np.int64], n_classes: int, side_px: int
) -> NDArray[np.float32]:
    """What a perfect network says of a square.

    Args:
        boxes: (n, 4) column, row, width, height, in pixels.
        classes: (n,).
        n_classes: K.
        side_px: of the square.

    Returns:
        (K + 6, side, side): the heat of each class, 1 at a centre; width, height, and the centre's column and
        row less those of the pixel's centre, in pixels; the weight of these four; and 1 where something is learned.
    """
    made = np.zeros((n_classes + 6, side_px, side_px), np.float32)
    heats, geometry, near, known = made[:n_classes], made[n_classes:-2], made[-2], made[-1]
    known[...] = 1
    rows, cols = np.mgrid[:side_px, :side_px] + 0.5
    for box, value in zip(boxes, classes, strict=True):
        x, y, width, height = box
        low, high = np.maximum(box[:2], 0), np.minimum(box[:2] + box[2:], side_px)
        if (high <= low).any():
            continue
        centre_x, centre_y = x + width / 2, y + height / 2
        inside = 0 <= centre_x < side_px and 0 <= centre_y < side_px
        if not inside or np.prod(high - low) < _SEEN * width * height:
            known[int(low[1]) : math.ceil(high[1]), int(low[0]) : math.ceil(high[0])] = 0
            continue
        spread_x, spread_y = (max(length / _SIGMAS, _LEAST_SIGMA_PX) for length in (width, height))
        away = ((cols - centre_x) / spread_x) ** 2 + ((rows - centre_y) / spread_y) ** 2
        heat = np.exp(-away / 2).astype(np.float32)
        closer = heat > np.maximum(near, _NEAR)
        for plane, numbers in zip(geometry, (width, height, centre_x - cols, centre_y - rows), strict=True):
            plane[closer] = np.broadcast_to(numbers, heat.shape)[closer]
        near[closer] = heat[closer]
        np.maximum(heats[value], heat, out=heats[value])
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLoss:
    """Quality focal loss of the heat, and the absolute errors of size and offset where there is an object.

    Attributes:
        size_px: by which the network's sizes are multiplied.
    """

    size_px: float

    def __call__(self, answer: Tensor, wanted: Tensor) -> Tensor:
        """The loss of a batch, a number.

        Args:
            answer: (N, K + 4, h, w) fp32: logits of the heat, width and height in `size_px`, offsets in pixels.
            wanted: (N, K + 6, h, w), from `targets`.
        """
        n_classes = answer.shape[1] - 4
        logits, size, offset = torch.split(answer, [n_classes, 2, 2], dim=1)
        heat, true_size, true_offset, near, known = torch.split(wanted, [n_classes, 2, 2, 1, 1], dim=1)
        error = (heat - logits.sigmoid()).abs() ** _BETA
        entropy = binary_cross_entropy_with_logits(logits, heat, reduction="none")
        heats = (error * entropy * known).sum() / (heat * known).sum().clamp(min=1)
        weight = near * known
        total = weight.sum().clamp(min=1)
        sizes = (weight * (size * self.size_px - true_size).abs()).sum() / total
        offsets = (weight * (offset - true_offset).abs()).sum() / total
        loss: Tensor = heats + _SIZE_WEIGHT * sizes + _OFFSET_WEIGHT * offsets
        return loss


def set_prior(head: nn.Conv2d, n_classes: int) -> None:
    """Make an untrained network say that a centre is unlikely anywhere, and that objects have the usual size.

    Args:
        head: the last convolution of a network, with a bias.
        n_classes: K; the channels are those of `ObjectLoss`.

    Raises:
        ConfigError: if it has no bias, or other channels.
    """
    if head.bias is None or head.bias.shape != (n_classes + 4,):
        raise ConfigError(
            f"the head has {head.out_channels} channels and {n_classes} classes need {n_classes + 4}, with a bias"
        )
    with torch.no_grad():
        head.bias.zero_()
        head.bias[:n_classes] = math.log(_PRIOR / (1 - _PRIOR))
        head.bias[n_classes : n_classes + 2] = 1.0
