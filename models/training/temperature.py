"""Temperature scaling of any number of classes: the temperature at which the labels are most likely shows over-confidence.

Temperature scaling (Guo et al. 2017, On calibration of modern neural networks, ICML): softmax(logits / T). The likelihoods
of a grid of temperatures are added up batch by batch, so memory does not grow with pixels. Knows nothing of files.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from earthloom.models.training.augment import IGNORE

GRID = tuple(float(2 ** (step / 8)) for step in range(-24, 41))
"""Temperatures from 1/8 to 32, each 9 % above the one before."""


class Calibration:
    """Likelihoods of the labels at each temperature of the grid, added up over batches."""

    def __init__(self) -> None:
        self.losses = torch.zeros(len(GRID), dtype=torch.float64)
        """Negative log-likelihoods, in nats."""
        self.pixels = 0

    @torch.inference_mode()
    def add(self, network: nn.Module, crops: Tensor, labels: Tensor) -> None:
        """Ask a network in eval mode about crops (N, C, h, w), whose labels (N, h, w) are IGNORE where unknown."""
        known = labels != IGNORE
        chosen, target = network(crops).movedim(1, -1)[known].double(), labels[known]
        for number, temperature in enumerate(GRID):
            self.losses[number] += cross_entropy(chosen / temperature, target, reduction="sum")
        self.pixels += int(known.sum())

    @property
    def temperature(self) -> float:
        """Temperature of the least loss: the lowest point of a parabola over log T through the three best of the grid."""
        place = int(self.losses.argmin())
        if place in (0, len(GRID) - 1):
            return GRID[place]
        before, here, after = self.losses[place - 1 : place + 2].tolist()
        bend = before - 2 * here + after
        shift = (before - after) / (2 * bend) if bend > 0 else 0.0
        return float(GRID[place] * math.exp(shift * math.log(GRID[1] / GRID[0])))

    def to_dict(self) -> dict[str, Any]:
        """The values for a record; losses are means, at temperature 1 and at the best of the grid. 4 digits."""
        means = self.losses / max(self.pixels, 1)
        return {
            "pixels": self.pixels, "temperature": round(self.temperature, 4),
            "nll": round(means[GRID.index(1.0)].item(), 4), "nll_at_temperature": round(means.min().item(), 4),
        }  # fmt: skip
