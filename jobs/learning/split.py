"""Splits labelled pixels into training, validation and test: by scene, by block or by region, never by chip.

Whole scenes, squares or regions go to one part. Scenes of the same ground count as one. Pure arithmetic on the index of
chips; reads nothing but regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.config import SplitTable
from earthloom.jobs.learning.corpus import LabelledScene
from earthloom.jobs.learning.ground import Ground
from earthloom.jobs.learning.index import ChipIndex
from earthloom.jobs.learning.labels import IGNORE, LabelClass, LabelOptions, LabelSource, label_source
from earthloom.jobs.learning.options import spellings
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.rounding import ceil_div, round_up
from earthloom.tiling.suggest import did_you_mean
from earthloom.tiling.window import Window


class Part(IntEnum):
    """The part of the data that a pixel belongs to."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


NO_PART = IGNORE
"""Part of a pixel outside all regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Who is in which part.

    Attributes:
        table: what was asked for.
        part: (n,) the part of each row of the index.
        of_scene: part of each scene, where whole scenes are split.
        of_block: of each scene, the parts of its squares (rows, columns), where squares are split.
        of_region: part of each region by its number, where regions are split.
        regions: what gives the region of a pixel.
    """

    table: SplitTable
    part: NDArray[np.uint8]
    of_scene: tuple[int, ...] = ()
    of_block: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    of_region: tuple[int, ...] = ()
    regions: LabelSource | None = None

    def parts(self, number: int, each: LabelledScene, window: Window) -> NDArray[np.uint8]:
        """The part of every pixel of a window inside a scene, (rows, columns); NO_PART where it is in none."""
        if self.of_scene:
            return np.full(window.shape, self.of_scene[number], np.uint8)
        if self.regions is not None:
            table = np.full(256, NO_PART, np.uint8)
            table[: len(self.of_region)] = self.of_region
            return table[self.regions.read(each.scene.grid, window)]
        side = self.table.block_px
        rows = np.arange(window.row_off, window.row_end) // side
        cols = np.arange(window.col_off, window.col_end) // side
        return self.of_block[number][np.ix_(rows, cols)]

    def room(self, each: LabelledScene, box: Window) -> Window:
        """The window inside which a crop around a labelled window is to lie, if it fits: its square, or the scene."""
        whole = each.scene.grid.window
        if not self.of_block:
            return whole
        side = self.table.block_px
        return Window(box.col_off // side * side, box.row_off // side * side, side, side) & whole

    def pixels(self, index: ChipIndex) -> dict[str, list[int]]:
        """Labelled pixels of each class in each part."""
        return {
            part.name.lower(): [int(n) for n in index.counts[self.part == part].sum(axis=0)]
            for part in Part
        }  # fmt: skip


def open_regions(table: SplitTable) -> LabelSource | None:
    """The regions of pixels, numbered as train, validation and test name them; None where regions do not split.

    Raises:
        ConfigError: if a region is named twice or more than 254 are.
        SceneError: if the file cannot be read, or holds regions that nobody named.
    """
    if table.regions is None:
        return None
    names = [name for _, names in _named(table) for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"region {twice[0]} is in two parts; the test part would judge what was trained on")
    if len(names) >= IGNORE:
        raise ConfigError(
            f"{len(names)} regions are named; at most {IGNORE - 1} can be told apart: join some in the file"
        )
    classes = tuple(LabelClass(value=number, name=name, stored=spellings(name)) for number, name in enumerate(names))
    return label_source(table.regions, LabelOptions(classes=classes, class_column=table.column))


def split(
    index: ChipIndex, scenes: Sequence[LabelledScene], table: SplitTable, regions: LabelSource | None, *, seed: int,
    chip_px: int,
) -> Split:  # fmt: skip
    """Assign every row of the index to a part.

    Shares are of labelled pixels, and as far as whole scenes or squares allow, of each class alike.

    Args:
        index: index of these scenes.
        regions: what `open_regions` gave.
        seed: decides among equals.
        chip_px: side of a chip of the index.

    Raises:
        ConfigError: if a part that is wanted stays empty, or a name is unknown.
    """
    if table.by == "region":
        parts = [part for part, names in _named(table) for _ in names]
        made = Split(table=table, part=np.array(parts, np.uint8)[index.region], of_region=tuple(parts), regions=regions)
    elif table.by == "scene":
        of_scene = _by_scene(index, scenes, table, seed)
        made = Split(table=table, part=np.array(of_scene, np.uint8)[index.scene], of_scene=of_scene)
    else:
        made = _by_block(index, scenes, table, seed, chip_px)
    for part, wanted in ((Part.TRAIN, True), (Part.VALIDATION, table.validation), (Part.TEST, table.test)):
        if wanted and not (made.part == part).any():
            raise ConfigError(
                f"the {part.name.lower()} part has no labelled pixel: split into smaller units ('by=block', a smaller "
                "'block_px'), name other scenes or regions, or set its share to 0"
            )
    return made


def _named(table: SplitTable) -> list[tuple[Part, tuple[str, ...]]]:
    every = ((Part.TRAIN, table.train), (Part.VALIDATION, table.validation), (Part.TEST, table.test))
    return [(part, names) for part, names in every if isinstance(names, tuple)]


def _by_scene(index: ChipIndex, scenes: Sequence[LabelledScene], table: SplitTable, seed: int) -> tuple[int, ...]:
    ids = [each.scene.id for each in scenes]
    chosen: dict[int, Part] = {}
    for part, names in _named(table):
        for name in names:
            if name not in ids:
                raise ConfigError(
                    f"{part.name.lower()} names the scene {name}{did_you_mean(name, ids)}; there are {', '.join(ids)}"
                )
            if ids.index(name) in chosen:
                raise ConfigError(f"scene {name} is in two parts; the test part would judge what was trained on")
            chosen[ids.index(name)] = part
    groups = [
        [number for number in group if number not in chosen]
        for group in Ground([each.scene.grid for each in scenes]).groups()
    ]
    groups = [group for group in groups if group]
    pixels = np.stack([index.counts[np.isin(index.scene, group)].sum(axis=0) for group in groups]) if groups else None
    if pixels is not None:
        for group, part in zip(groups, _assign(pixels, _shares(table), seed), strict=True):
            chosen |= dict.fromkeys(group, part)
    return tuple(chosen[number] for number in range(len(scenes)))


def _by_block(index: ChipIndex, scenes: Sequence[LabelledScene], table: SplitTable, seed: int, chip_px: int) -> Split:
    if table.block_px % chip_px:
        raise ConfigError(
            f"'block_px={table.block_px}' is not a multiple of 'crop_px={chip_px}'; use "
            f"{round_up(table.block_px, chip_px)}"
        )
    per_side = table.block_px // chip_px
    keys = np.stack([index.scene, index.row // per_side, index.col // per_side], axis=1)
    units, unit_of = np.unique(keys, axis=0, return_inverse=True)
    unit_of = unit_of.reshape(-1)
    pixels = np.zeros((len(units), index.counts.shape[1]), np.int64)
    np.add.at(pixels, unit_of, index.counts)
    parts = _assign(pixels, _shares(table), seed)
    of_block: dict[int, NDArray[np.uint8]] = {}
    for number, each in enumerate(scenes):
        grid = each.scene.grid
        shape = (ceil_div(grid.height, table.block_px), ceil_div(grid.width, table.block_px))
        of_block[number] = np.full(shape, NO_PART, np.uint8)
    for (number, row, col), part in zip(units.tolist(), parts, strict=True):
        of_block[number][row, col] = part
    return Split(table=table, part=np.array(parts, np.uint8)[unit_of], of_block=of_block)


def _shares(table: SplitTable) -> tuple[float, float, float]:
    """Shares of train, validation and test in what no name assigns to a part."""
    validation, test = (share if isinstance(share, float) else 0.0 for share in (table.validation, table.test))
    return 1 - validation - test, validation, test


def _assign(pixels: NDArray[np.int64], shares: tuple[float, float, float], seed: int) -> list[Part]:
    """A part for each unit, so that the parts' shares of each class come near those wanted.

    Units come in a random order; each goes where what it brings is missed most (Sechidis et al. 2011, On the
    stratification of multi-label data, ECML PKDD, with pixels for labels).

    Args:
        pixels: (units, K).
        shares: shares of the parts, in their order.
    """
    total = np.maximum(pixels.sum(axis=0), 1)
    brings = pixels / total  # (units, K)
    missing = np.repeat(np.array(shares)[:, None], pixels.shape[1], axis=1)  # (parts, K)
    parts = np.zeros(len(pixels), np.int64)
    for unit in np.random.default_rng((seed, len(pixels))).permutation(len(pixels)).tolist():
        wants = np.where(np.array(shares) > 0, missing @ brings[unit], -np.inf)
        parts[unit] = int(np.argmax(wants))
        missing[parts[unit]] -= brings[unit]
    _fill_empty(parts, brings.sum(axis=1), shares)
    return [Part(part) for part in parts.tolist()]


def _fill_empty(parts: NDArray[np.int64], sizes: NDArray[np.float64], shares: Sequence[float]) -> None:
    """Give a part that got nothing the smallest unit of one that has several."""
    for part, share in enumerate(shares):
        if share <= 0 or (parts == part).any():
            continue
        counts = np.bincount(parts, minlength=len(shares))
        spare = [unit for unit in np.argsort(sizes, kind="stable").tolist() if counts[parts[unit]] > 1]
        if spare:
            parts[spare[0]] = part
