"""Footprints: one class for each of given polygons, by the chip around its middle.

The network sees a chip whose middle is that of the polygon's bounds, and gives one vector for it, so that a class depends on
that chip and on nothing else. A footprint belongs to the block whose core holds its middle; every block that it reaches into
asks the network again, and gives its pixels the same class. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.answer_kind import hidden_in
from earthloom.models.inference.labels import Labels
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.window import Window


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Polygons on the grid that a network sees.

    Attributes:
        numbers: (n,) of each in its file, from 0, rising.
        outlines: (n,) shapely polygons, in pixels from the grid's corner, columns before rows.
        rows, cols: (n,) the pixel in the middle of the bounds of each.
    """

    numbers: NDArray[np.int64]
    outlines: NDArray[np.object_]
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]

    @classmethod
    def of(cls, numbers: NDArray[np.int64], outlines: NDArray[np.object_], extent: Window) -> Places:
        """The places whose middle lies in `extent`."""
        import shapely

        left, top, right, bottom = shapely.bounds(outlines).reshape(-1, 4).T
        rows, cols = (np.floor((a + b) / 2).astype(np.int64) for a, b in ((top, bottom), (left, right)))
        return cls(numbers, outlines, rows, cols).only(_within(extent, rows, cols))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def radius_px(self) -> int:
        """How far any of them reaches from its middle, along rows or columns."""
        import shapely

        if not len(self):
            return 0
        left, top, right, bottom = shapely.bounds(self.outlines).T
        return int(np.ceil(np.max([self.cols - left, right - self.cols, self.rows - top, bottom - self.rows])))

    def touching(self, window: Window) -> Places:
        """The places of which a pixel may lie in a window, by their bounds, in the order of the file."""
        import shapely

        left, top, right, bottom = shapely.bounds(self.outlines).reshape(-1, 4).T
        there = (left < window.col_end) & (right > window.col_off) & (top < window.row_end) & (bottom > window.row_off)
        return self.only(there | _within(window, self.rows, self.cols))

    def only(self, chosen: Any) -> Places:
        """Some of them, by a mask (n,) or by their places."""
        return Places(self.numbers[chosen], self.outlines[chosen], self.rows[chosen], self.cols[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class BlockFootprints:
    """The footprints of a window.

    Attributes:
        window: in pixels of the network's input.
        classes: (h, w) uint8, the class of the footprint that covers a pixel's centre, of the later one in the file where
            several do; 255 elsewhere, and where not valid.
        confidence: (h, w) uint8, its probability * 250; 255 likewise.
        places: the decided footprints whose middle lies in the window.
        probabilities: (n, K) fp32 of these.
    """

    window: Window
    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    places: Places
    probabilities: NDArray[np.float32]

    def over(self, window: Window) -> BlockFootprints:
        """This answer on a window inside its own."""
        if window == self.window:
            return self
        inside, own = window.slices(self.window), _within(window, self.places.rows, self.places.cols)
        return BlockFootprints(
            window, self.classes[inside], self.confidence[inside], self.places.only(own), self.probabilities[own]
        )

    def hide(self, hidden: NDArray[np.bool_]) -> BlockFootprints:
        """This answer with nodata where `hidden`, (h, w). What is decided of a footprint stays: nothing comes behind it."""
        return replace(self, classes=hidden_in(self.classes, hidden), confidence=hidden_in(self.confidence, hidden))


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprints(Labels):
    """A logit, or a probability, of each class for the chip around a footprint."""

    core_px: int
    """Side of the ground that a class is about."""
    halo_px: int

    table_bytes: ClassVar[int] = 0  # as many as there are footprints

    @classmethod
    def of(cls, card: ModelCard) -> Footprints:
        """What a classifier says of footprints."""
        assert card.labels is not None
        return cls(
            label=card.label, n_classes=len(card.classes), gives_probabilities=card.activation == "none", pixel_px=1,
            least_px=card.labels.least_px(card.core_px), core_px=card.core_px, halo_px=card.halo_px or 0,
        )  # fmt: skip

    @property
    def chip_px(self) -> int:
        """Side of what the network sees."""
        return self.core_px + 2 * self.halo_px

    def core(self, row: int, col: int) -> Window:
        """The ground that the class of a footprint with this middle is about."""
        return Window(col - self.core_px // 2, row - self.core_px // 2, self.core_px, self.core_px)


def burnt(
    here: Places, decided: Sequence[int], probabilities: NDArray[np.float32], core: Window, valid: NDArray[np.bool_]
) -> BlockFootprints:
    """Footprints as pixels: those whose centre they cover, and the middle of each, so that none is lost for being small.

    Args:
        here: footprints that reach into `core`.
        decided: places, among these, of those that have a class.
        probabilities: (n, K) of all of them; without meaning of others.
        core: core of the block.
        valid: (h, w) of its pixels.
    """
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    chosen = np.asarray(decided, np.intp)
    drawn = np.zeros(core.shape, np.int32)
    if len(chosen):
        middles = _within(core, here.rows[chosen], here.cols[chosen])
        at = here.rows[chosen][middles] - core.row_off, here.cols[chosen][middles] - core.col_off
        drawn = rasterize(
            [(here.outlines[number], place) for place, number in enumerate(decided, 1)], out_shape=core.shape, fill=0,
            dtype="int32", all_touched=False, transform=Affine.translation(core.col_off, core.row_off),
        )  # fmt: skip
        free = drawn[at] == 0
        drawn[at[0][free], at[1][free]] = np.flatnonzero(middles)[free] + 1
    found = probabilities[chosen].reshape(len(chosen), probabilities.shape[1])
    likeliest = np.append(NODATA, found.argmax(axis=1)).astype(np.uint8)
    steps = np.clip(np.rint(found.max(axis=1, initial=0) * CONFIDENCE_STEPS), 0, CONFIDENCE_STEPS)
    confidence = np.append(NODATA, steps).astype(np.uint8)
    owned = _within(core, here.rows, here.cols) & np.isin(np.arange(len(here)), chosen)
    return BlockFootprints(
        core, np.where(valid, likeliest[drawn], NODATA).astype(np.uint8),
        np.where(valid, confidence[drawn], NODATA).astype(np.uint8), here.only(owned), probabilities[owned],
    )  # fmt: skip


def _within(window: Window, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(
        (rows >= window.row_off) & (rows < window.row_end) & (cols >= window.col_off) & (cols < window.col_end)
    )
