"""Transitions between two class maps of one grid: a matrix in true areas, and a map of changes with its legend.

Pure: arrays in, numbers and arrays out. Knows nothing of files, dates or shards.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.counting import summable
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.errors import ConfigError, PublishError
from earthloom.tiling.grid import Grid, pixel_areas_m2
from earthloom.tiling.window import Window

MOST_CLASSES = 16
"""Classes of which a map tells all changes apart: 16 * 15 + 1 = 241 values, and 255 is nodata. Of more it tells only what a
changed pixel became; the table and the polygons tell all."""

_MOST_VALUES = 253
UNCHANGED = 0
"""Value of the map where both sides have the same class."""

_UNCHANGED_COLOR = "#efefec"
_CERTAIN = CONFIDENCE_STEPS**2
_STRIP_PX = 1 << 18  # casts to float64 stay near 2 MB


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Transition:
    """Pixels of one class before and one class after; `NODATA` stands for a side that does not know."""

    before: int
    after: int
    pixels: int
    area_m2: float
    confidence_sum: int
    """Sum of the products of both stored confidences, 0 to 250 * 250 a pixel; 0 if a side does not know."""

    @property
    def known(self) -> bool:
        """True if both sides have a class."""
        return NODATA not in (self.before, self.after)

    @property
    def changed(self) -> bool:
        return self.known and self.before != self.after

    @property
    def confidence(self) -> float | None:
        """Mean probability that both maps are right, 0 to 1; None where a side does not know.

        The product of the two: it is that probability where the maps err independently (Singh 1989, "Digital change
        detection techniques using remotely-sensed data", doi:10.1080/01431168908903939, for post-classification
        comparison). Their lesser one would overstate it: two maps that are 60 % sure agree on a change that is not.
        """
        return self.confidence_sum / (self.pixels * _CERTAIN) if self.known else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sides:
    """Both sides of a change over one window, as they are stored: (rows, columns) uint8 each.

    Raises:
        PublishError: if their shapes differ.
    """

    before: NDArray[np.uint8]
    """Class values, 255 where there is no data."""
    after: NDArray[np.uint8]
    before_confidence: NDArray[np.uint8]
    """0 to 250; ignored where there is no data."""
    after_confidence: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shapes = [getattr(self, name).shape for name in self.__slots__]
        if len(set(shapes)) != 1:
            raise PublishError(f"the sides of a change differ in shape: {', '.join(map(str, shapes))}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.before.shape

    def rows(self, first: int, n: int) -> Sides:
        """At most `n` rows from the `first` on."""
        return Sides(**{name: getattr(self, name)[first : first + n] for name in self.__slots__})

    def pairs(self) -> NDArray[np.uint16]:
        """Both classes of each pixel as one number: 256 * before + after."""
        return np.asarray(self.before.astype(np.uint16) << 8 | self.after)

    def products(self) -> NDArray[np.float64]:
        """Products of both stored confidences: whole numbers, of which 2^37 add up without rounding."""
        return self.before_confidence.astype(np.float64) * self.after_confidence


def count_transitions(sides: Sides, areas_m2: NDArray[np.float64], n_classes: int) -> tuple[Transition, ...]:
    """Count one window.

    Args:
        sides: its pixels.
        areas_m2: (rows, columns) true area of each, `exact_areas_m2`.
        n_classes: values 0 to n_classes - 1 are classes.

    Returns:
        What occurs, by class before, then after.

    Raises:
        PublishError: if a value is neither a class nor nodata, or a confidence is above 250.
    """
    pixels = np.zeros(1 << 16, np.int64)
    areas, sums = np.zeros(1 << 16), np.zeros(1 << 16)
    n_rows = max(1, _STRIP_PX // max(1, sides.shape[1]))
    for row in range(0, sides.shape[0], n_rows):
        strip = sides.rows(row, n_rows)
        _check(strip)
        flat = strip.pairs().ravel()
        pixels += np.bincount(flat, minlength=1 << 16)
        areas += np.bincount(flat, weights=areas_m2[row : row + n_rows].ravel(), minlength=1 << 16)
        sums += np.bincount(flat, weights=strip.products().ravel(), minlength=1 << 16)
    counted = []
    for pair in np.flatnonzero(pixels):
        of, to = int(pair) >> 8, int(pair) & 0xFF
        for side, value in (("before", of), ("after", to)):
            if n_classes <= value < NODATA:
                raise PublishError(
                    f"{pixels[pair]} pixels have the value {value} {side} the change, but the product has {n_classes} "
                    "classes; its maps were made by another model"
                )
        trust = 0 if NODATA in (of, to) else int(sums[pair])
        counted.append(
            Transition(
                before=of, after=to, pixels=int(pixels[pair]), area_m2=float(areas[pair]), confidence_sum=trust
            )
        )  # fmt: skip
    return tuple(counted)


def _check(sides: Sides) -> None:
    for classes, confidence in ((sides.before, sides.before_confidence), (sides.after, sides.after_confidence)):
        if (highest := int(confidence.max(where=classes != NODATA, initial=0))) > CONFIDENCE_STEPS:
            raise PublishError(
                f"a pixel with a class has confidence {highest}, above {CONFIDENCE_STEPS}; class map and confidence do not "
                "belong together"
            )


def merge_transitions(parts: Iterable[Sequence[Transition]]) -> tuple[Transition, ...]:
    """Add up what windows hold, at once: areas are exact or rounded once, so neither cut nor order matters."""
    by_pair: defaultdict[tuple[int, int], list[Transition]] = defaultdict(list)
    for transition in itertools.chain.from_iterable(parts):
        by_pair[transition.before, transition.after].append(transition)
    return tuple(
        Transition(
            before=of, after=to, pixels=sum(each.pixels for each in alike),
            area_m2=math.fsum(each.area_m2 for each in alike), confidence_sum=sum(each.confidence_sum for each in alike),
        )
        for (of, to), alike in sorted(by_pair.items())
    )  # fmt: skip


def exact_areas_m2(grid: Grid, window: Window) -> NDArray[np.float64]:
    """True area of each pixel, rounded so that sums over any part of the grid are exact. (rows, columns)"""
    return summable(pixel_areas_m2(grid, window), pixel_m2(grid))


@lru_cache(16)
def pixel_m2(grid: Grid) -> float:
    """True area of the pixel amid a grid."""
    return grid.gsd_m() ** 2


def transitions_to_json(transitions: Sequence[Transition]) -> list[list[int | float]]:
    """Plain values; floats by `repr`, so `transitions_from_json` gives back the very same."""
    return [[t.before, t.after, t.pixels, t.area_m2, t.confidence_sum] for t in transitions]


def transitions_from_json(rows: Any) -> tuple[Transition, ...]:
    """Inverse of `transitions_to_json`.

    Raises:
        PublishError: if a row is damaged.
    """
    try:
        return tuple(
            Transition(before=int(of), after=int(to), pixels=int(n), area_m2=float(area), confidence_sum=int(trust))
            for of, to, n, area, trust in rows
        )
    except (TypeError, ValueError) as error:
        raise PublishError(f"a count of transitions is damaged ({error}); its shard must be computed again") from error


class TransitionRow(TypedDict):
    """One row of the table of transitions."""

    value: int | None
    """Value in the map; None if a side does not know."""
    before: str
    after: str
    color: str
    pixels: int
    area_m2: float
    confidence: float | None
    """0 to 1; see `Transition.confidence`."""


def transition_rows(transitions: Sequence[Transition], classes: Sequence[ClassInfo]) -> list[TransitionRow]:
    """The table: every transition that occurs, by class before, then after, nodata last. Areas to 1e-3 m²."""
    names = {one.value: one.name for one in classes} | {NODATA: "nodata"}
    map_colors = {entry.value: entry.color for entry in change_classes(classes)}
    rows = []
    for one in transitions:
        value = change_value(one.before, one.after, len(classes)) if one.known else None
        rows.append(
            TransitionRow(
                value=value, before=names[one.before], after=names[one.after],
                color=_UNCHANGED_COLOR if value is None else map_colors[value],
                pixels=one.pixels, area_m2=round(one.area_m2, 3),
                confidence=None if one.confidence is None else round(one.confidence, 6),
            )
        )  # fmt: skip
    return rows


def change_value(before: int, after: int, n_classes: int) -> int:
    """Value of the map for a change: 0 for none, then 1, 2, … by class before, then after, without gaps.

    Of more than `MOST_CLASSES` by class after alone.
    """
    if before == after:
        return UNCHANGED
    return 1 + after if n_classes > MOST_CLASSES else 1 + before * (n_classes - 1) + after - (after > before)


def change_classes(classes: Sequence[ClassInfo]) -> tuple[ModelClass, ...]:
    """The legend of the map: `unchanged`, then `land → water` and every other pair, whether it occurs or not.

    What became water has three parts of the colour of water and one of what it was: changes into one class look alike
    and can still be told apart. Of more than `MOST_CLASSES`, `→ water` in the colour of water.

    Raises:
        ConfigError: if there are more than 253 classes.
    """
    if len(classes) > _MOST_VALUES:
        raise ConfigError(f"a map of changes has room for {_MOST_VALUES} classes, and these are {len(classes)}")
    legend = {UNCHANGED: ModelClass(value=UNCHANGED, name="unchanged", color=_UNCHANGED_COLOR,
                                   description="The same class before and after")}  # fmt: skip
    for of in classes:
        for to in classes:
            if (value := change_value(of.value, to.value, len(classes))) == UNCHANGED:
                continue
            if len(classes) > MOST_CLASSES:
                name, color, described = f"→ {to.name}", to.color, f"{to.name} after, another class before"
            else:
                name, color = f"{of.name} → {to.name}", _mixed(of.color, to.color)
                described = f"{of.name} before, {to.name} after"
            legend[value] = ModelClass(value=value, name=name, color=color, description=described)
    return tuple(legend[value] for value in sorted(legend))


def _mixed(before: str, after: str) -> str:
    channels = ((int(before[i : i + 2], 16), int(after[i : i + 2], 16)) for i in (1, 3, 5))
    return "#" + "".join(f"{(of + 3 * to + 2) // 4:02x}" for of, to in channels)


def change_layers(sides: Sides, n_classes: int) -> Mapping[str, NDArray[np.uint8]]:
    """The map of changes as it is stored, (rows, columns) uint8 each: `classes` (`change_value`) and `confidence`.

    Confidence is the product of both, in steps of 1/250 again, halves rounded up. Where a side has no data, both are 255.
    """
    table = np.full((256, 256), NODATA, np.uint8)
    for of in range(n_classes):
        table[of, :n_classes] = [change_value(of, to, n_classes) for to in range(n_classes)]
    values = table[sides.before, sides.after]
    products = sides.before_confidence.astype(np.uint16) * sides.after_confidence
    trust = ((products + CONFIDENCE_STEPS // 2) // CONFIDENCE_STEPS).astype(np.uint8)
    return {"classes": values, "confidence": np.where(values == NODATA, np.uint8(NODATA), trust)}
