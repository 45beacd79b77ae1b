"""Judges a trained card on pixels that it has not seen, through the tiler that maps scenes, and measures how far those lie.

What is judged lies farther from what was trained on than the network looks. Counts are streamed: memory does not grow with
pixels. Knows nothing of files of cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.execution.survey import stack_of
from earthloom.jobs.learning.cells import patiently
from earthloom.jobs.learning.examples import Examples
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.split import Part
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.predictor import Predictor
from earthloom.models.inference.sliding import predict_block
from earthloom.models.training.score import confusion
from earthloom.tiling.background import ordered
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.window import Window

LOOK_PX = 4096
"""How far a distance is measured; beyond, it is said to be more."""


@dataclass(slots=True)
class Distance:
    """Distance of the judged pixels from those that were trained on; `mapped` keeps it up to date."""

    nearest_px: int = LOOK_PX + 1
    """Distance from a judged pixel to the nearest one trained on, in rows or in columns, whichever is more."""
    left_out_px: int = 0
    """Labelled pixels of the part that lie too near."""

    def record(self, n_judged: int) -> dict[str, Any]:
        """The scores as they go into the record of a training; no distance if nothing was judged."""
        return {
            "left_out_px": self.left_out_px, "least_distance_px": min(self.nearest_px, LOOK_PX) if n_judged else None,
            "is_farther": self.nearest_px > LOOK_PX,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Confusion matrices of one part.

    Attributes:
        counts: (K, K); row k, column j counts the pixels of class k that were found to be j, or chips where these have labels.
        by_scene: the same of each scene.
    """

    counts: NDArray[np.int64]
    by_scene: dict[str, NDArray[np.int64]]
    distance: Distance


def judge(predictor: Predictor, card: ModelCard, examples: Examples, part: Part, gap_px: int) -> Judgement:
    """Map what is needed of each scene and compare it with the labels of a part.

    Args:
        card: says how the scenes are tiled.
        gap_px: pixels as near as this to one that was trained on are not judged; the card's halo at least.

    Raises:
        SceneError, StorageError: if the data cannot be read.
    """
    n_classes, distance = len(examples.classes), Distance()
    by_scene: dict[str, NDArray[np.int64]] = {}
    for number, _, labels, made in mapped(predictor, card, examples, part, gap_px, distance):
        if examples.rule is not None:
            labels = examples.rule.labels(labels)
            labels[made.classes == NODATA] = IGNORE
        counts = confusion(made.classes, labels, n_classes)
        scene = examples.scenes[number].scene.id
        by_scene[scene] = by_scene.get(scene, np.zeros_like(counts)) + counts
    total = sum(by_scene.values(), np.zeros((n_classes, n_classes), np.int64))
    return Judgement(counts=total, by_scene=by_scene, distance=distance)


def mapped(
    predictor: Predictor, card: ModelCard, examples: Examples, part: Part, gap_px: int, distance: Distance
) -> Iterator[tuple[int, Window, NDArray[np.uint8], Any]]:
    """Scene, core, its labels that count, and the answer, of every chip of the card that has any; `distance` is given all."""
    assert card.halo_px is not None, "a card is measured before it is judged"
    gap_px = max(gap_px, card.halo_px)
    grids = {
        number: ChipGrid(
            scene=each.scene.grid.window, core_px=card.core_px, halo_px=card.halo_px, stride_px=card.stride_px,
            blend=card.overlap == "blend",
        )
        for number, each in enumerate(examples.scenes)
    }  # fmt: skip
    cores = dict.fromkeys(
        (number, core & grids[number].scene)
        for number, chip in examples.windows(part)
        for core in chip.align(card.core_px).split(card.core_px)
    )

    def load(item: tuple[int, Window]) -> Any:
        number, core = item
        each, chips = examples.scenes[number], grids[number]
        labels = patiently(lambda: each.labels.read(each.scene.grid, core))
        labels[examples.split.parts(number, each, core) != part] = IGNORE
        is_near = (examples.trained_around(number, gap_px).distances(core) <= gap_px) & (labels != IGNORE)
        labels[is_near] = IGNORE
        if not (labels != IGNORE).any():
            return number, core, labels, int(is_near.sum()), None
        read = chips.read(core)
        pixels = patiently(lambda: read_pixels(each.scene, each.bands, read, card.halo_px or 0))
        labels[~pixels.valid[core.slices(read)]] = IGNORE
        return number, core, labels, int(is_near.sum()), stack_of(each.bands, read, pixels)

    for number, core, labels, near, stack in ordered(load, [core for core in cores if core[1]], threads=2, ahead=2):
        distance.left_out_px += near
        if (judged := labels != IGNORE).any():
            yield number, core, labels, predict_block(predictor, grids[number], core, stack).made
            around = examples.trained_around(number, LOOK_PX).distances(core)
            distance.nearest_px = min(distance.nearest_px, int(around[judged].min()))
