"""Crops for a detector's training, with the objects on them; where they lie is drawn as for maps of classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from earthloom.jobs.learning.batches import Crops
from earthloom.jobs.learning.boxes import Marked, boxes_of
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part
from earthloom.models.device.threads import use_threads
from earthloom.models.training.augment import side_at, zoom_of
from earthloom.models.training.detection import seen_objects
from earthloom.tiling.window import Window


class ObjectCrops(Crops):
    """Draws the crops of a detector's training; having no object is one more class for `Sampling.balance`."""

    def crop(self, step: int, place: int) -> tuple[Any, Any]:
        """Normalised values (C, side, side) fp32, and what a perfect network would say of them (K + 6, side, side).

        Raises:
            SceneError, StorageError: see `Cells.read`.
        """
        use_threads(1)
        examples, variety = self._examples, self._sampling.variety
        dice = np.random.default_rng((self._sampling.seed, step, place))
        side = side_at(examples.chip_px, zoom_of(variety, dice))
        number, window = self._placed(side, dice)
        each = examples.scenes[number]
        pixels = examples.cells.read(number, window)
        shown = pixels.valid & (pixels.part == Part.TRAIN)
        known = shown & (pixels.labels != IGNORE)
        marked = _seen(boxes_of(each.labels, each.scene.grid), window, known)
        crop, wanted = seen_objects(
            pixels.physical(each), shown, known, marked.boxes - (window.col_off, window.row_off, 0, 0), marked.classes,
            examples.chip_px, len(examples.classes), variety, examples.mean, dice,
        )  # fmt: skip
        values, _ = crop.normalised(examples.mean, examples.std)
        return values, wanted


def _seen(marked: Marked, window: Window, known: Any) -> Marked:
    """The objects on a window, without those whose middle is hidden there: they belong to another part, or to nodata."""
    left, top, right, bottom = marked.edges.T
    touches = (left < window.col_end) & (right > window.col_off) & (top < window.row_end) & (bottom > window.row_off)
    near = marked.chosen(touches)
    cols, rows = (near.centres - (window.col_off, window.row_off)).T
    inside = (cols >= 0) & (cols < window.width) & (rows >= 0) & (rows < window.height)
    hidden = np.zeros(len(cols), np.bool_)
    hidden[inside] = ~known[rows[inside], cols[inside]]
    return near.chosen(~hidden)
