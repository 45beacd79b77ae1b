"""Trains networks to find objects: targets for the crops that they see, and the loss of their answers.

Objects as Points (Zhou, Wang, Krähenbühl 2019, arXiv:1904.07850): the network says for each pixel how likely it is the
centre of an object of each class, how large that object is, and how far from the pixel its centre lies
(`models.inference.objects` reads the same channels). Two things differ from the paper, because objects of a few pixels in
a hundred crops teach too little through one pixel each: a centre's heat fades with the box's own width and height (Liu et
al. 2020, TTFNet, arXiv:1909.00700), and every pixel is asked for that heat itself, by the quality focal loss (Li et al.
2020, Generalized Focal Loss, arXiv:2006.04388). Knows nothing of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from earthloom.models.training.augment import IGNORE, Crop, Variety, seen
from earthloom.tiling.errors import ConfigError

_BETA = 2
"""Exponent of the quality focal loss, as published."""
_SIZE_WEIGHT = 0.1
"""Weight of the error of width and height, which is in pixels."""
_OFFSET_WEIGHT = 0.2
"""Weight of the error of the offset, which here is of several pixels, and not of a part of one."""
_OVERLAP_WEIGHT = 5.0
"""Weight of 1 - the generalised intersection over union of the box (Rezatofighi et al. 2019, CVPR), the number too as
in TTFNet: small boxes weigh as much as large ones."""
_NEAR = 0.3
"""Pixels with a heat above this also learn size and offset: a peak may lie a pixel or two beside the centre."""
_SIGMAS = 5.0
"""Standard deviations of the heat in a box's width, and in its height."""
_LEAST_SIGMA_PX = 0.7
_SEEN = 0.5
"""Share of a box that a crop must show for the object to count; of the others nothing is learned."""
_LEAST_SIZE = 0.05
"""Least width and height, in `size_px`, so that a box has an area while sizes are learned."""
_PRIOR = 0.05
"""What an untrained network says everywhere (Lin et al. 2017, Focal loss for dense object detection)."""


def seen_objects(
    values: NDArray[np.float32], valid: NDArray[np.bool_], known: NDArray[np.bool_], boxes: NDArray[np.float64],
    classes: NDArray[np.int64], side_px: int, n_classes: int, variety: Variety, fill: tuple[float, ...],
    dice: np.random.Generator,
) -> tuple[Crop, Tensor]:  # fmt: skip
    """One place on another day, and the objects that are on it.

    Args:
        values: (C, s, s) physical values; s is what `models.training.augment.side_at` gave.
        valid: (s, s), false where nothing may be seen.
        known: (s, s), false where nothing is learned; nor is it where nothing is seen.
        boxes: (n, 4) column and row of the upper left corner, width and height, in pixels of `values`.
        classes: (n,) class of each.
        side_px: side of the crop.
        n_classes: K.
        variety: how far it may be changed; `mixed` is not used, for it would cut objects.
        fill: (C,) what takes the place of values that are not valid until they are set to 0: the mean.
        dice: what is drawn depends on its state alone.

    Returns:
        The crop, its labels 0 where something is known and IGNORE elsewhere, and (K + 6, side, side), from `targets`.
    """
    turn = int(dice.integers(8))
    labels = np.where(valid & known, 0, IGNORE).astype(np.uint8)
    crop = seen(values, valid, labels, side_px, variety, fill, dice, turn=turn)
    scaled = turned_boxes(boxes * (side_px / values.shape[-1]), turn, side_px)
    wanted = targets(scaled, classes, n_classes, side_px)
    wanted[-1] *= (crop.labels != IGNORE).numpy()
    return crop, torch.from_numpy(wanted)


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
    """The answer of a perfect network on a square.

    Args:
        boxes: (n, 4) column, row, width, height, in pixels.
        classes: (n,).
        n_classes: K.
        side_px: side of the square.

    Returns:
        (K + 6, side, side): the heat of each class, 1 at the pixel that holds a centre and there alone; width, height, and
        the centre's column and row less those of the pixel's centre, in pixels; the weight of these four, 1 in all
        for each object; and 1 where something is learned.
    """
    made = np.zeros((n_classes + 6, side_px, side_px), np.float32)
    heats, geometry, weight, known = made[:n_classes], made[n_classes:-2], made[-2], made[-1]
    known[...] = 1
    near = np.full((side_px, side_px), _NEAR, np.float32)  # the heat of the object whose box a pixel learns
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
        closer = heat > near
        for plane, numbers in zip(geometry, (width, height, centre_x - cols, centre_y - rows), strict=True):
            plane[closer] = np.broadcast_to(numbers, heat.shape)[closer]
        near[closer] = heat[closer]
        weight[closer] = heat[closer] / heat[heat > _NEAR].sum()
        np.maximum(heats[value], heat, out=heats[value])
        heats[value, int(centre_y), int(centre_x)] = 1  # of even sides four pixels would be as near
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLoss:
    """Quality focal loss of the heat; errors of size and offset, and of how the box overlaps, where there is an object.

    The heat is summed over pixels and divided by the number of objects, as published; the others are means over objects. As a
    mean over pixels the heat would count for a tenth, and a large ship's box for as much as those of ten boats.

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
        heat, true_size, true_offset, weight, known = torch.split(wanted, [n_classes, 2, 2, 1, 1], dim=1)
        error = (heat - logits.sigmoid()).abs() ** _BETA
        entropy = binary_cross_entropy_with_logits(logits, heat, reduction="none")
        n_objects = ((heat == 1) * known).sum().clamp(min=1)
        heats = (error * entropy * known).sum() / n_objects
        weight = weight * known
        total = weight.sum().clamp(min=1)
        sizes = (weight * (size * self.size_px - true_size).abs()).sum() / total
        offsets = (weight * (offset - true_offset).abs()).sum() / total
        apart = 1 - overlap_of(size.clamp(min=_LEAST_SIZE) * self.size_px, offset, true_size, true_offset)
        overlaps = (weight[:, 0] * apart).sum() / total
        loss: Tensor = heats + _SIZE_WEIGHT * sizes + _OFFSET_WEIGHT * offsets + _OVERLAP_WEIGHT * overlaps
        return loss


def overlap_of(size: Tensor, offset: Tensor, true_size: Tensor, true_offset: Tensor) -> Tensor:
    """Generalised intersection over union of two boxes around each pixel, (N, h, w): 1 where they agree, down to -1.

    Args:
        size, offset: (N, 2, h, w) width and height, and column and row of the centre from the pixel, in pixels.
        true_size, true_offset: of the other one.
    """
    low, high = offset - size / 2, offset + size / 2
    true_low, true_high = true_offset - true_size / 2, true_offset + true_size / 2
    shared = (torch.minimum(high, true_high) - torch.maximum(low, true_low)).clamp(min=0).prod(dim=1)
    union = size.prod(dim=1) + true_size.prod(dim=1) - shared
    hull = (torch.maximum(high, true_high) - torch.minimum(low, true_low)).prod(dim=1)
    least = torch.finfo(size.dtype).eps
    return shared / union.clamp(min=least) - (hull - union) / hull.clamp(min=least)


def set_prior(module: nn.Module, n_classes: int) -> None:
    """Make an untrained network say that a centre is unlikely anywhere, and that objects have the usual size.

    Args:
        module: a network, whose last convolution has a bias.
        n_classes: K; the channels are those of `ObjectLoss`.

    Raises:
        ConfigError: if it has no bias, or other channels.
    """
    head = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1]
    if head.bias is None or head.bias.shape != (n_classes + 4,):
        raise ConfigError(
            f"the head has {head.out_channels} channels and {n_classes} classes need {n_classes + 4}, with a bias"
        )
    with torch.no_grad():
        head.bias.zero_()
        head.bias[:n_classes] = math.log(_PRIOR / (1 - _PRIOR))
        head.bias[n_classes : n_classes + 2] = 1.0
