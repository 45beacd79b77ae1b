"""Labelled pictures in memory: crops of them, a fit from beginning to end, and what a network says of them.

Recipes, tests and benchmarks hold their few pictures so. Batch number k depends on the seed and on k alone. Training on
scenes of any size is `jobs.learning`'s, which reads crop by crop. Knows nothing of files or of what the classes mean.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from earthloom.models.cards.card import ModelCard
from earthloom.models.training.augment import Crop, Variety, mix, seen, side_at, zoom_of
from earthloom.models.training.fit import Batches, Fit
from earthloom.models.training.loss import Loss
from earthloom.models.training.schedule import Schedule
from earthloom.models.training.score import confusion
from earthloom.tiling.errors import ConfigError


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
        most = side_at(self.side_px, self.variety.zoom)
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
        crop = self._seen(dice)
        if dice.uniform() < self.variety.mixed:
            crop = mix(crop, self._seen(dice), dice)
        return crop.normalised(self.mean, self.std)

    def _seen(self, dice: np.random.Generator) -> Crop:
        side = side_at(self.side_px, zoom_of(self.variety, dice))
        place, window = self._placed(side, dice)
        if self.rare is not None:
            drawn = [(place, window), self._placed(side, dice)]
            place, window = max(drawn, key=lambda each: int((self.pairs[each[0]].labels[each[1]] == self.rare).sum()))
        values = self.pairs[place].values[(slice(None), *window)].astype(np.float32) * np.float32(self.gain)
        labels = self.pairs[place].labels[window].copy()
        return seen(values, None, labels, self.side_px, self.variety, self.mean, dice)

    def _placed(self, side: int, dice: np.random.Generator) -> tuple[int, tuple[slice, slice]]:
        """Which picture, and which rows and columns of it."""
        rooms = [(pair.labels.shape[0] - side + 1, pair.labels.shape[1] - side + 1) for pair in self.pairs]
        sizes = np.array([rows * cols for rows, cols in rooms])
        place = int(dice.choice(len(rooms), p=sizes / sizes.sum()))
        row, col = (int(dice.integers(room)) for room in rooms[place])
        return place, (slice(row, row + side), slice(col, col + side))


def fit(
    module: nn.Module, batches: Batches, schedule: Schedule, *, loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    pretrained: Collection[str] = (), on_step: Callable[[int, float], None] | None = None,
) -> nn.Module:  # fmt: skip
    """Train a copy of the network from beginning to end and return what is kept of it, in eval mode, fp32.

    Args:
        module, loss, schedule, pretrained: as for `Fit`; without a loss, cross-entropy and Dice.
        batches: makes the batch of a step.
        on_step: is called with each step and its loss.

    Raises:
        EngineError: if the loss is no longer a number.
    """
    going = Fit(module, loss or Loss(), schedule, pretrained=pretrained)
    while going.step < schedule.steps:
        value = going.advance(batches)
        if on_step:
            on_step(going.step - 1, value)
    return going.kept()


def names_under(module: nn.Module, part: nn.Module) -> frozenset[str]:
    """Names, within a network, of the parameters and batch statistics of a part of it."""
    prefix = next(name for name, each in module.named_modules() if each is part)
    return frozenset(f"{prefix}.{name}" if prefix else name for name in part.state_dict())


@torch.inference_mode()
def labels_of(module: nn.Module, values: NDArray[np.generic], gain: float, card: ModelCard) -> NDArray[np.uint8]:
    """The likeliest class (H, W) of each pixel of a picture (C, H, W), in one pass; right and below it is reflected.

    Args:
        module: in eval mode, on the CPU; gives logits or probabilities of each class.
        values: stored; physical value = stored * gain.
        card: says mean, std and stride.
    """
    x = torch.from_numpy(values.astype(np.float32)) * gain
    mean, std = (torch.tensor(numbers).reshape(-1, 1, 1) for numbers in (card.mean, card.std))
    height, width = x.shape[1:]
    beyond = (0, -width % card.stride_px, 0, -height % card.stride_px)
    x = pad(((x - mean) / std)[None], beyond, mode="reflect").contiguous(memory_format=torch.channels_last)
    found: NDArray[np.uint8] = module(x)[0, :, :height, :width].argmax(dim=0).to(torch.uint8).numpy()
    return found


def counted(module: nn.Module, pairs: Sequence[Pair], gain: float, card: ModelCard) -> NDArray[np.int64]:
    """The confusion over all pictures together."""
    counts = [confusion(labels_of(module, pair.values, gain, card), pair.labels, len(card.gives)) for pair in pairs]
    return np.asarray(np.sum(counts, axis=0))
