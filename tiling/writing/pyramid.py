"""Who makes which part of the overview levels, and in what order the rest is made. Knows no file format.

The owner of a shard makes every level whose tiles lie whole inside the shard, while it holds the pixels. Of the next
level it keeps its own piece, the seed, from which whoever publishes makes all further levels, tile by tile: one tile per
level is in memory, whatever the size of the scene. Levels are cascaded 2 x 2 reductions on even offsets, so the result
does not depend on who makes which part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.window import Window
from earthloom.tiling.writing.overview import level_shapes

TILE_PX = 512
"""Side of a TIFF's internal tile and of a Zarr chunk, where a shard is no smaller."""

Place: TypeAlias = tuple[int, int, int]
"""Level, row and column of a tile."""

Reduce: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]
"""(C, h, w) to (C, ceil(h / 2), ceil(w / 2))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """The levels of a raster that is written in shards."""

    height: int
    width: int
    shard_px: int

    @property
    def tile_px(self) -> int:
        """Side of a tile: a result of few large pixels has shards that are smaller than the usual one."""
        return min(TILE_PX, self.shard_px)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) of level 0, 1, … down to the first that fits one tile."""
        return level_shapes(self.height, self.width, smallest_px=self.tile_px)

    def level_within(self, side_px: int) -> int:
        """The first level whose sides are at most so long; the last one where none is."""
        fitting = (level for level, shape in enumerate(self.shapes) if max(shape) <= side_px)
        return next(fitting, len(self.shapes) - 1)

    @property
    def own(self) -> int:
        """The highest level that the owners of shards make whole."""
        level, last = 0, len(self.shapes) - 1
        while level < last and self.shard_px % (self.tile_px << (level + 1)) == 0:
            level += 1
        return level

    @property
    def seeded(self) -> bool:
        """Whether there are levels beyond those."""
        return self.own + 1 < len(self.shapes)

    def shard_px_at(self, level: int) -> int:
        """Side of what one writer owns at a level: its part of a shard, or one tile."""
        return self.shard_px >> level if level <= self.own else self.tile_px

    @property
    def shard_grid(self) -> tuple[int, int]:
        """(rows, columns) of shards."""
        return ceil_div(self.height, self.shard_px), ceil_div(self.width, self.shard_px)

    def tile_grid(self, level: int) -> tuple[int, int]:
        """(rows, columns) of tiles."""
        rows, cols = self.shapes[level]
        return ceil_div(rows, self.tile_px), ceil_div(cols, self.tile_px)

    def part(self, level: int, row: int, col: int, side_px: int | None = None) -> Window:
        """What a shard, or a square of `side_px`, covers of a level; up to `own + 1`, where seeds are pieces of it."""
        rows, cols = self.shapes[level]
        side = side_px or self.shard_px >> level
        return Window(col * side, row * side, side, side) & Window(0, 0, cols, rows)

    def levels_of(self, pixels: NDArray[Any], reduce: Reduce) -> list[NDArray[Any]]:
        """A shard's (C, h, w) at level 0, 1, … `own`, and the seed if there are further levels."""
        levels = [pixels]
        for _ in range(self.own + self.seeded):
            levels.append(reduce(levels[-1]))
        return levels

    def further(self) -> Iterator[Place]:
        """Tiles of all levels beyond `own`, each right after those that it is made from."""

        def visit(level: int, row: int, col: int) -> Iterator[Place]:
            if level > self.own + 1:
                rows, cols = self.tile_grid(level - 1)
                for below in ((row * 2 + i, col * 2 + j) for i in (0, 1) for j in (0, 1)):
                    if below[0] < rows and below[1] < cols:
                        yield from visit(level - 1, *below)
            yield level, row, col

        if self.seeded:
            yield from visit(len(self.shapes) - 1, 0, 0)

    def seeds_of(self, row: int, col: int) -> list[tuple[int, int]]:
        """(row, column) of the shards whose seeds a tile of level `own + 1` is made from."""
        level = self.own + 1
        tile, side = self.part(level, row, col, self.tile_px), self.shard_px >> level
        return [
            (i, j)
            for i in range(tile.row_off // side, ceil_div(tile.row_end, side))
            for j in range(tile.col_off // side, ceil_div(tile.col_end, side))
        ]

    def make_further(
        self, seed: Callable[[int, int], NDArray[Any]], reduce: Reduce
    ) -> Iterator[tuple[Place, NDArray[Any]]]:
        """Every tile of `further()` with its pixels (C, h, w).

        Args:
            seed: (row, column) of a shard to its piece of level `own + 1`, (C, h, w).
        """
        unfinished: dict[int, NDArray[Any]] = {}  # of each level the one tile that is being put together
        for level, row, col in self.further():
            window = self.part(level, row, col, self.tile_px)
            pixels = self._from_seeds(window, row, col, seed) if level == self.own + 1 else unfinished.pop(level)
            yield (level, row, col), pixels
            if level + 1 < len(self.shapes):
                half = reduce(pixels)
                above = self.part(level + 1, row // 2, col // 2, self.tile_px)
                if level + 1 not in unfinished:
                    unfinished[level + 1] = np.empty((len(half), *above.shape), half.dtype)
                top, left = row % 2 * self.tile_px // 2, col % 2 * self.tile_px // 2
                unfinished[level + 1][:, top : top + half.shape[1], left : left + half.shape[2]] = half

    def _from_seeds(self, window: Window, row: int, col: int, seed: Callable[[int, int], NDArray[Any]]) -> NDArray[Any]:
        pixels: NDArray[Any] | None = None
        for place in self.seeds_of(row, col):
            piece, covers = seed(*place), self.part(self.own + 1, *place)
            common = covers & window
            if pixels is None:
                pixels = np.empty((len(piece), *window.shape), piece.dtype)
            pixels[(slice(None), *common.slices(window))] = piece[(slice(None), *common.slices(covers))]
        assert pixels is not None, "every tile lies over a shard"
        return pixels
