"""The data of a training in one value: scenes, labels, their split, and how the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from earthloom.jobs.learning.cells import Cells
from earthloom.jobs.learning.chip_labels import ChipRule
from earthloom.jobs.learning.corpus import LabelledScene
from earthloom.jobs.learning.ground import Ground, TrainedGround
from earthloom.jobs.learning.index import ChipIndex, boxes
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part, Split
from earthloom.models.cards.card import ModelCard
from earthloom.models.device.threads import use_threads
from earthloom.models.training.augment import plain
from earthloom.tiling.window import Window

_KEPT = 16  # scenes whose trained ground is remembered


class Examples:
    """Labelled scenes, split.

    Args:
        scenes: the corpus.
        index: index of it.
        split: split of the index.
        card: card of the network: its classes, and mean and std per channel, by which it sees (value - mean) / std.
        chip_px: side of a chip of the index.
        cache_bytes: size of decoded pixels that are kept.
        rule: how the labels of pixels become those of chips; None where each pixel has its own. Chips of the index are cores.
    """

    def __init__(
        self, scenes: Sequence[LabelledScene], index: ChipIndex, split: Split, *, card: ModelCard, chip_px: int,
        cache_bytes: int, rule: ChipRule | None = None,
    ) -> None:  # fmt: skip
        self.scenes, self.index, self.split = tuple(scenes), index, split
        self.classes, self.mean, self.std, self.chip_px = card.gives, card.mean, card.std, chip_px
        self.rule = rule
        self.crop_px = rule.chip_px if rule else chip_px
        """Side of what the network sees while it learns."""
        self.cells = Cells(scenes, split, cache_bytes)
        self._around = lru_cache(maxsize=_KEPT)(self._ground_around)

    def labelled(self) -> dict[str, list[int]]:
        """Labels of each class in each part: of pixels, or of the grid's chips where these have labels."""
        counts = self.index.counts
        if self.rule is not None:
            likeliest = np.eye(counts.shape[1], dtype=np.int64)[counts.argmax(axis=1)]
            counts = likeliest * (counts.max(axis=1, keepdims=True) >= self.rule.least_px)
        return {part.name.lower(): counts[self.split.part == part].sum(axis=0).tolist() for part in Part}

    def windows(self, part: Part) -> tuple[tuple[int, Window], ...]:
        """(scene, chip) of every chip with labels of a part; a chip may reach past its scene."""
        index, side = self.index, self.chip_px
        chips = np.stack([index.scene, index.row, index.col], axis=1)[self.split.part == part]
        return tuple(
            (number, Window(col * side, row * side, side, side))
            for number, row, col in dict.fromkeys(map(tuple, chips.tolist()))
        )

    def trained_around(self, number: int, reach_px: int) -> TrainedGround:
        """The ground within `reach_px` of a scene that is trained on."""
        return self._around(number, reach_px)

    def judged(self, number: int, core: Window, margin_px: int, part: Part, gap_px: int) -> tuple[Any, Any]:
        """A window as the network sees it, and the labels of a part inside of it.

        Args:
            core: whose labels count; pixels as near as `gap_px` to one that is trained on do not, and none that another scene
                of the same ground trains on.
            margin_px: context around it.

        Returns:
            (C, h, w) normalised fp32, and (h, w) int64, IGNORE where nothing counts; of core and margin. Of a chip that has
            one label, that: (1, 1).
        """
        use_threads(1)
        read = core.grow(margin_px)
        pixels = self.cells.read(number, read)
        is_judged = np.zeros(read.shape, np.bool_)
        inside = core.slices(read)
        is_judged[inside] = pixels.part[inside] == part
        if gap_px or number in self._meeting:
            is_judged[inside] &= self.trained_around(number, gap_px).distances(core) > gap_px
        labels = np.where(is_judged, pixels.labels, IGNORE).astype(np.uint8)
        labels = self.rule.of_chip(labels) if self.rule else labels
        return plain(pixels.physical(self.scenes[number]), pixels.valid, labels).normalised(self.mean, self.std)

    def shared(self, part: Part) -> float:
        """Share of the labelled pixels of a part, about, that lie on ground which another scene trains on."""
        chosen = self.split.part == part
        pixels = self.index.counts[chosen].sum(axis=1)
        on_trained = 0.0
        for number, box, n_labelled in zip(
            self.index.scene[chosen].tolist(), self.index.box[chosen], pixels, strict=True
        ):
            if number in self._meeting:
                left, top, right, bottom = box.tolist()
                window = Window(left, top, right - left, bottom - top)
                on_trained += n_labelled * float((self.trained_around(number, 0).distances(window) == 0).mean())
        return on_trained / max(int(pixels.sum()), 1)

    @cached_property
    def _meeting(self) -> frozenset[int]:
        """Scenes that share ground with others, whose parts may differ there; those of regions are the same in all."""
        if self.split.of_region:
            return frozenset()
        return frozenset(number for group in self._ground.groups() if len(group) > 1 for number in group)

    @cached_property
    def _ground(self) -> Ground:
        return Ground([each.scene.grid for each in self.scenes])

    def _ground_around(self, number: int, reach_px: int) -> TrainedGround:
        return self._ground.around(number, dict(boxes(self.index, self.split.part == Part.TRAIN)), reach_px)
