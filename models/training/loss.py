"""Losses of class maps: sums of published terms over the pixels whose label is known.

Each term is averaged over the known pixels of a batch, or pooled over them, so that their number does not matter; a batch
without one gives 0. Knows nothing of networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from earthloom.models.training.augment import IGNORE
from earthloom.tiling.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A sum of losses; each is multiplied by its number, and 0 leaves it out.

    Raises:
        ConfigError: if nothing is left, or a number is out of its range.
    """

    cross_entropy: float = 1.0
    dice: float = 1.0
    """1 - Dice, soft and pooled over the batch, averaged over classes (Milletari et al. 2016, V-Net): a rare class counts
    as much as a common one."""
    focal: float = 0.0
    """Cross-entropy that forgives what is nearly right: times (1 - p) to the power of `gamma` (Lin et al. 2017, Focal loss
    for dense object detection, ICCV)."""
    lovasz: float = 0.0
    """Lovász-softmax: the convex closure of 1 - IoU, over the classes that are there (Berman et al. 2018, CVPR)."""
    gamma: float = 2.0
    smoothing: float = 0.0
    """Share of the truth that cross-entropy spreads over all classes (Szegedy et al. 2016, CVPR)."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in cross-entropy and focal loss; None: all count 1."""

    def __post_init__(self) -> None:
        terms = (self.cross_entropy, self.dice, self.focal, self.lovasz)
        if min(terms) < 0 or max(terms) <= 0:
            raise ConfigError(f"a loss is a sum of terms of 0 or more, one at least above 0; got {self}")
        if not 0 <= self.smoothing < 1 or self.gamma < 0:
            raise ConfigError(
                f"smoothing is from 0 to below 1 and gamma 0 or more; got {self.smoothing} and {self.gamma}"
            )
        if self.class_weights is not None and (min(self.class_weights) < 0 or max(self.class_weights) <= 0):
            raise ConfigError(f"class weights are 0 or more, one at least above 0; got {self.class_weights}")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, a number.

        Args:
            logits: (N, K, h, w) fp32.
            labels: (N, h, w) int64, 0 to K - 1 or IGNORE.
        """
        weights = None if self.class_weights is None else logits.new_tensor(self.class_weights)
        total = logits.new_zeros(())
        if self.cross_entropy:
            total = total + self.cross_entropy * _entropy(logits, labels, weights, self.smoothing)
        if self.focal:
            total = total + self.focal * _focal(logits, labels, weights, self.gamma)
        if self.dice:
            total = total + self.dice * _dice(logits, labels)
        if self.lovasz:
            total = total + self.lovasz * _lovasz(logits, labels)
        return total


def balanced_weights(pixels: tuple[int, ...]) -> tuple[float, ...]:
    """A weight for each class from how many pixels it has: the median class's share over its own.

    Median frequency balancing (Eigen and Fergus 2015, ICCV), with shares counted over all pixels. A class without a
    pixel has the weight 0.
    """
    there = sorted(count for count in pixels if count)
    if not there:
        raise ConfigError("class weights cannot be made from data: not one pixel is labelled")
    middle = (there[(len(there) - 1) // 2] + there[len(there) // 2]) / 2
    return tuple(middle / count if count else 0.0 for count in pixels)


def _entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    total = cross_entropy(
        logits, labels, weight=weights, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )
    return total / _mass(labels, weights)


def _mass(labels: Tensor, weights: Tensor | None) -> Tensor:
    """Number of known pixels, each as heavy as its class; as torch's own mean divides."""
    known = labels != IGNORE
    if weights is None:
        return known.sum().clamp(min=1)
    mass = (weights[labels.where(known, 0)] * known).sum()
    return mass.where(mass > 0, 1.0)


def _focal(logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """Equation 5 of Lin et al. 2017 over K classes, averaged over known pixels."""
    negative_log = cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")  # -log p of the true class
    focused = (1 - torch.exp(-negative_log)).clamp(min=0) ** gamma * negative_log
    known = labels != IGNORE
    if weights is not None:
        focused = focused * weights[labels.where(known, 0)]
    return (focused * known).sum() / _mass(labels, weights)


def _dice(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels != IGNORE
    wanted = one_hot(labels.where(known, 0), logits.shape[1]).movedim(-1, 1) * known[:, None]
    given = logits.softmax(dim=1) * known[:, None]
    axes = (0, 2, 3)
    smooth = 1.0  # a class that is absent and not predicted has lost nothing
    dice = (2 * (given * wanted).sum(axes) + smooth) / (given.sum(axes) + wanted.sum(axes) + smooth)
    return 1 - dice.mean()


def _lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """Equations 8 to 11 of Berman et al. 2018 with the pixels of a batch taken together."""
    known = labels.flatten() != IGNORE
    if not bool(known.any()):
        return logits.sum() * 0.0
    given = logits.softmax(dim=1).movedim(1, -1).reshape(-1, logits.shape[1])[known]
    truth = labels.flatten()[known]
    losses = []
    for value in range(logits.shape[1]):
        is_class = (truth == value).float()
        n_class = is_class.sum()
        if n_class == 0:
            continue
        errors, order = (is_class - given[:, value]).abs().sort(descending=True, stable=True)
        hit = is_class[order]
        jaccard = 1 - (n_class - hit.cumsum(0)) / (n_class + (1 - hit).cumsum(0))
        slopes = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append((errors * slopes).sum())
    return torch.stack(losses).mean()
