"""A class for every pixel, with its probability: chips are cropped or cross-faded into a block's map on the device.

What a pixel gets depends on the chips of the scene's grid that see it and on nothing else. Knows nothing of files or
networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earthloom.models.cards.card import ModelCard
from earthloom.models.device.deterministic import softmax
from earthloom.models.device.resolve import strips
from earthloom.models.inference.agreement import Agreement
from earthloom.models.inference.answer_kind import AnswerKind, hidden_in
from earthloom.models.inference.transfer import download
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.window import Window

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class BlockMap:
    """The class map of a window.

    Attributes:
        window: in pixels of the grid that the map lies on.
        classes: (h, w) uint8, the likeliest class, the lowest one on a tie; 255 where not valid.
        confidence: (h, w) uint8, its probability * 250; 255 where not valid.
    """

    window: Window
    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]

    def over(self, window: Window) -> BlockMap:
        """This answer on a window inside its own."""
        if window == self.window:
            return self
        inside = window.slices(self.window)
        return BlockMap(window, self.classes[inside], self.confidence[inside])

    def hide(self, hidden: NDArray[np.bool_]) -> BlockMap:
        """This answer with nodata where `hidden`, (h, w)."""
        return replace(self, classes=hidden_in(self.classes, hidden), confidence=hidden_in(self.confidence, hidden))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMap(AnswerKind[BlockMap]):
    """One probability per class and pixel, of which the likeliest class and its probability are stored."""

    label: str
    n_classes: int
    gives_probabilities: bool
    """Whether the network's channels are probabilities already, and not logits."""
    masks: tuple[int, ...] = ()
    """Classes that are nodata for later stages."""

    does: ClassVar[str] = "maps classes"
    exact_only: ClassVar[bool] = False
    averages: ClassVar[bool] = True

    @classmethod
    def of(cls, card: ModelCard) -> ClassMap:
        """What a segmentation says."""
        return cls(
            label=card.label, n_classes=len(card.classes), gives_probabilities=card.activation == "none",
            masks=card.masks,
        )  # fmt: skip

    @property
    def values_per_px(self) -> int:
        return self.n_classes

    def woven_bytes(self, *, blend: bool) -> int:
        """Memory of cross-faded chips: a sum for each class, and the weights; the map itself counts as what is stored."""
        return _FLOAT_BYTES * (self.n_classes + 1) if blend else 0

    def passed_bytes(self, *, is_first: bool) -> int:
        return 0

    def shapes(self, chips: Sequence[int]) -> list[tuple[int, ...]]:
        """(N, K, h, w); a single channel will do for two logits, of which the first one is 0."""
        n_chips, _, height, width = chips
        counts = (self.n_classes, 1) if self.n_classes == 2 and not self.gives_probabilities else (self.n_classes,)
        return [(n_chips, count, height, width) for count in counts]

    def mismatch(self, wanted: tuple[int, ...]) -> str:
        return (
            f"{self.n_classes} classes need {wanted}; correct the card's classes, or choose a network that keeps the size of "
            "its input"
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """(K, h, w) fp32 from logits (K, h, w), of any part of a chip: a rule for each pixel by itself."""
        wide = torch.empty(logits.shape, device=logits.device).copy_(logits)  # channel after channel, as softmax likes
        if self.gives_probabilities:
            return wide
        return softmax(torch.cat([torch.zeros_like(wide), wide]) if wide.shape[0] == 1 else wide)

    def canvas(
        self, chips: ChipGrid, core: Window, device: str, others: Sequence[ClassMap] = ()
    ) -> _Cropped | _CrossFaded:
        members = (self, *others)
        return _CrossFaded(members, chips, core, device) if chips.blend else _Cropped(members, core, device)

    def masked(self, made: BlockMap) -> NDArray[np.bool_]:
        return np.isin(made.classes, self.masks)

    def agreement(self, tiled: BlockMap, whole: BlockMap, valid: NDArray[np.bool_]) -> Agreement:
        flipped = (tiled.classes != whole.classes) & valid
        worst = 0.0
        for value in range(self.n_classes):
            size = int((whole.classes == value).sum())
            touched = int((flipped & ((whole.classes == value) | (tiled.classes == value))).sum())
            worst = max(worst, touched / max(size, 1))
        identical = np.array_equal(tiled.classes, whole.classes) and np.array_equal(tiled.confidence, whole.confidence)
        return Agreement(identical=identical, flips=int(flipped.sum()) / max(int(valid.sum()), 1), class_flips=worst)


def blend_weights(chips: ChipGrid) -> NDArray[np.float32]:
    """(chip, ) weights along one side of a chip: they fade over the 2h shared with each neighbour, by half a cosine.

    A pixel's weight is the product of its row's and its column's. A chip outside the domain does not exist, so at a
    scene's edge a weight falls to one half and no further.
    """
    steps = (np.arange(2 * chips.halo_px) + 0.5) / (2 * chips.halo_px)
    rise = (1 - np.cos(np.pi * steps)) / 2
    return np.concatenate([rise, np.ones(chips.chip_px - 2 * rise.size), rise[::-1]]).astype(np.float32)


class _Cropped:
    """A pixel is decided by the chip whose core it lies in."""

    def __init__(self, members: Sequence[ClassMap], core: Window, device: str) -> None:
        self._members, self._core = members, core
        self._made = torch.full((2, *core.shape), NODATA, dtype=torch.uint8, device=device)

    def add(self, read: Window, owned: Window, answers: Sequence[Tensor]) -> None:
        part = owned & self._core
        inside = (slice(None), *part.slices(read))
        crops, out = [logits[inside] for logits in answers], self._made[(slice(None), *part.slices(self._core))]
        for rows in _strips_of(crops[0]):
            _write_classes(_mean_probabilities(self._members, [crop[:, rows] for crop in crops]), out[:, rows])

    def finish(self, valid: NDArray[np.bool_]) -> BlockMap:
        return _block_map(self._core, self._made, valid)


class _CrossFaded:
    """A pixel gets the weighted mean of all chips that see it, added in the order in which they come."""

    def __init__(self, members: Sequence[ClassMap], chips: ChipGrid, core: Window, device: str) -> None:
        self._members, self._core = members, core
        side = torch.from_numpy(blend_weights(chips)).to(device)
        self._weight = side[:, None] * side[None, :]
        self._sum = torch.zeros((members[0].n_classes, *core.shape), device=device)
        self._weights = torch.zeros(core.shape, device=device)

    def add(self, read: Window, owned: Window, answers: Sequence[Tensor]) -> None:
        part = read & self._core
        inside, where = part.slices(read), part.slices(self._core)
        weight = self._weight[inside]
        mean = _mean_probabilities(self._members, [logits[(slice(None), *inside)] for logits in answers])
        self._sum[(slice(None), *where)] += mean * weight
        self._weights[where] += weight

    def finish(self, valid: NDArray[np.bool_]) -> BlockMap:
        made = torch.full((2, *self._core.shape), NODATA, dtype=torch.uint8, device=self._sum.device)
        for rows in _strips_of(self._sum):
            weights = self._weights[rows]
            untouched = weights == 0  # all its chips were skipped: nothing there is valid
            _write_classes(self._sum[:, rows] / weights.masked_fill(untouched, 1.0), made[:, rows])
        return _block_map(self._core, made, valid)


def _mean_probabilities(members: Sequence[ClassMap], logits: Sequence[Tensor]) -> Tensor:
    """(K, h, w) fp32, added in the members' order."""
    total, *others = (member.probabilities(part) for member, part in zip(members, logits, strict=True))
    if not others:
        return total
    for other in others:
        total = total + other
    return total / len(members)


def _write_classes(probabilities: Tensor, out: Tensor) -> None:
    """Classes and quantised confidence (2, h, w) from (K, h, w)."""
    best = probabilities.amax(dim=0)
    # what follows is written for tensors and arrays alike: on a CPU numpy compares in half the time
    parts: Any = probabilities[:-1], best, out[0]
    others, most, classes = (part.numpy() for part in parts) if out.device.type == "cpu" else parts
    # the class is the number of channels before the first of the best; `max` would say it as int64, in twice the time
    classes[...] = 0
    none_yet = classes + 1
    for other in others:
        none_yet &= other < most
        classes += none_yet
    out[1] = best.mul_(CONFIDENCE_STEPS).round_().clamp_(0, CONFIDENCE_STEPS)


def _strips_of(image: Tensor) -> Iterator[slice]:
    n_channels, height, width = image.shape
    return strips(height, n_channels * width, image.device.type)


def _block_map(core: Window, made: Tensor, valid: NDArray[np.bool_]) -> BlockMap:
    """What comes back from the device, as soon as it is done."""
    classes, confidence = download(made).astype(np.uint8, copy=False)
    for layer in (classes, confidence):
        np.copyto(layer, NODATA, where=~valid)
    return BlockMap(core, classes, confidence)
