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
from earthloom.models.device.threads import use_threads
from earthloom.models.training.augment import plain
from earthloom.tiling.window import Window

_KEPT = 16  # scenes whose trained ground is remembered


class Examples:
    """Labelled scenes, split.

    Args:
        scenes: the corpus.
        index: of it.
        split: of the index.
        chip_px: side of a chip of the index.
        classes: names, by value.
        mean, std: per channel, in the scenes' quantity; the network sees (value - mean) / std.
        cache_bytes: of decoded pixels that are kept.
        rule: how the labels of pixels become those of chips; None where each pixel has its own. Chips of the index are cores.
    """

    def __init__(
        self, scenes: Sequence[LabelledScene], index: ChipIndex, split: Split, *, chip_px: int, classes: Sequence[str],
        mean: tuple[float, ...], std: tuple[float, ...], cache_bytes: int, rule: ChipRule | None = None,
    ) -> None:  # fmt: skip
        self.scenes, self.index, self.split = tuple(scenes), index, split
        self.chip_px, self.classes, self.mean, self.std = chip_px, tuple(classes), mean, std
        self.rule = rule
        self.crop_px = rule.chip_px if rule else chip_px
        """Side of what the network sees while it learns."""
        self.cells = Cells(scenes, split, cache_bytes)
        self._around = lru_cache(maxsize=_KEPT)(self._ground_around)

    def windows(self, part: Part) -> tuple[tuple[int, Window], ...]:
        """(scene, chip) of every chip with labels of a part; a chip may reach past its scene."""
        chosen = self.split.part == part
        side = self.chip_px
        found = dict.fromkeys(
            zip(
                self.index.scene[chosen].tolist(),
                self.index.row[chosen].tolist(),
                self.index.col[chosen].tolist(),
                strict=True,
            )
        )
        return tuple((number, Window(col * side, row * side, side, side)) for number, row, col in found)

    def trained_around(self, number: int, reach_px: int) -> TrainedGround:
        """What is trained on within `reach_px` of a scene."""
        return self._around(number, reach_px)

    def judged(self, number: int, core: Window, margin_px: int, part: Part, gap_px: int) -> tuple[Any, Any]:
        """A window as the network sees it, and the labels of a part inside of it.

        Args:
            core: whose labels count; pixels as near as `gap_px` to one that is trained on do not.
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
        if gap_px:
            is_judged[inside] &= self.trained_around(number, gap_px).distances(core) > gap_px
        labels = np.where(is_judged, pixels.labels, IGNORE).astype(np.uint8)
        labels = self.rule.of_chip(labels) if self.rule else labels
        return plain(pixels.physical(self.scenes[number]), pixels.valid, labels).normalised(self.mean, self.std)

    @cached_property
    def _ground(self) -> Ground:
        return Ground([each.scene.grid for each in self.scenes])

    def _ground_around(self, number: int, reach_px: int) -> TrainedGround:
        return self._ground.around(number, dict(boxes(self.index, self.split.part == Part.TRAIN)), reach_px)
