"""Draws the crops of each training step, as a function of seed and step alone, and prepares batches ahead in threads.

Crops come from where labels are: of a class first, then of a chip by how much of that class it has. A crop lies anywhere
around the chip's labelled pixels, inside its scene or square where it fits. What belongs to another part, or lies in the
gap between parts, is hidden from it: it has no data there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part
from earthloom.models.device.threads import use_threads
from earthloom.models.training.augment import Crop, Variety, mix, relabelled, seen, side_at, stacked, zoom_of
from earthloom.tiling.background import Background
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Rules by which crops are drawn.

    Attributes:
        variety: how far a crop may be changed.
        balance: 0: classes come as often as they are labelled; 1: each as often as any other.
        seed: seed of everything that is drawn.
    """

    variety: Variety
    balance: float
    seed: int


class Crops:
    """Draws the crops of a training.

    Args:
        examples: whose training part is drawn from.
        sampling: how.
    """

    def __init__(self, examples: Examples, sampling: Sampling) -> None:
        self._examples, self._sampling = examples, sampling
        index, chosen = examples.index, examples.split.part == Part.TRAIN
        self._scene, self._box = index.scene[chosen], index.box[chosen]
        counts = index.counts[chosen]
        self._cumulated = counts.cumsum(axis=0)  # (rows, K)
        there = counts.sum(axis=0)
        shares = (1 - sampling.balance) * there / there.sum() + sampling.balance * (there > 0) / (there > 0).sum()
        self._classes = shares.cumsum() / shares.sum()

    def crop(self, step: int, place: int) -> tuple[Any, Any]:
        """Normalised values (C, side, side) fp32 and labels (side, side) int64 of one place of a step's batch.

        Raises:
            SceneError, StorageError: see `Cells.read`.
        """
        use_threads(1)
        variety = self._sampling.variety
        dice = np.random.default_rng((self._sampling.seed, step, place))
        crop = self._seen(dice)
        if dice.uniform() < variety.mixed:
            crop = mix(crop, self._seen(dice), dice)
        if (rule := self._examples.rule) is not None:
            crop = relabelled(crop, rule.of_chip)
        return crop.normalised(self._examples.mean, self._examples.std)

    def _seen(self, dice: np.random.Generator) -> Crop:
        examples, variety = self._examples, self._sampling.variety
        side = side_at(examples.crop_px, zoom_of(variety, dice))
        if examples.rule is not None and examples.rule.alone:
            side = min(side, examples.crop_px)  # what lies beyond is another picture
        number, window = self._placed(side, dice)
        pixels = examples.cells.read(number, window)
        is_ours = pixels.part == Part.TRAIN
        labels = np.where(is_ours, pixels.labels, IGNORE).astype(np.uint8)
        values = pixels.physical(examples.scenes[number])
        return seen(values, pixels.valid & is_ours, labels, examples.crop_px, variety, examples.mean, dice)

    def _placed(self, side: int, dice: np.random.Generator) -> tuple[int, Window]:
        """Draw a scene, and a window of it."""
        value = int(np.searchsorted(self._classes, dice.uniform(), side="right"))
        cumulated = self._cumulated[:, min(value, len(self._classes) - 1)]
        row = int(np.searchsorted(cumulated, dice.integers(cumulated[-1]), side="right"))
        number, (left, top, right, bottom) = int(self._scene[row]), self._box[row].tolist()
        box = Window(left, top, right - left, bottom - top)
        room = self._room(number, box)
        offsets = []
        for first, last, low, high in (
            (left, right, room.col_off, room.col_end), (top, bottom, room.row_off, room.row_end)
        ):  # fmt: skip
            offset = int(dice.integers(first, last)) - side // 2
            offsets.append(
                min(max(offset, low), high - side) if high - low >= side else low - (side - (high - low)) // 2
            )
        return number, Window(offsets[0], offsets[1], side, side)

    def _room(self, number: int, box: Window) -> Window:
        """The window inside which a crop around a labelled window is to lie, if it fits."""
        rule = self._examples.rule
        if rule is not None and rule.alone:
            return Window(box.col_off, box.row_off, 1, 1).align(rule.core_px)
        return self._examples.split.room(self._examples.scenes[number], box)


class Ahead:
    """Batches that are made in threads before they are wanted.

    Args:
        crop: (number of the batch, place in it) -> the crop and its labels; a function of nothing else.
        places: places of a batch, those that this process takes.
        n_batches: how many there are in all; none is made beyond.
        threads: that make crops.
        ahead: batches that may be waiting.
    """

    def __init__(
        self, crop: Callable[[int, int], tuple[Any, Any]], places: Sequence[int], n_batches: int, *, threads: int,
        ahead: int,
    ) -> None:  # fmt: skip
        self._crop, self._places, self._n_batches, self._ahead = crop, places, n_batches, ahead
        self._threads = Background(threads, "crops")
        self._coming: deque[tuple[int, list[Future[tuple[Any, Any]]]]] = deque()
        self.waited_s = 0.0
        """How long `batch` has waited in all."""

    def wait(self, number: int) -> None:
        """Return when the batch of a number is made, so that whoever takes it need not wait for storage.

        Raises:
            SceneError, StorageError: what making a crop raised.
        """
        self._made(number)

    def batch(self, number: int, size: int) -> tuple[Any, Any]:
        """The batch of a number (size, C, side, side) and its labels (size, side, side); numbers come in order.

        Raises:
            SceneError, StorageError: what making a crop raised.
        """
        assert size == len(self._places), "a process asks for its own part of a batch"
        made = self._made(number)
        self._coming.popleft()
        return stacked(made)

    def _made(self, number: int) -> list[tuple[Any, Any]]:
        if self._coming and self._coming[0][0] != number:
            self._coming.clear()
        following = self._coming[-1][0] + 1 if self._coming else number
        for later in range(following, min(number + self._ahead + 1, self._n_batches)):
            self._coming.append((later, [self._threads.submit(self._crop, later, place) for place in self._places]))
        begun = time.perf_counter()
        made = [future.result() for future in self._coming[0][1]]
        self.waited_s += time.perf_counter() - begun
        return made
