"""Pixel rectangles. Knows nothing of files, coordinates or models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from earthloom.tiling.errors import TilingError
from earthloom.tiling.rounding import round_up


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open pixel rectangle, in rasterio's sense: columns `[col_off, col_end)`, rows `[row_off, row_end)`.

    Offsets may be negative or past the scene: a read window reaches beyond it by the halo.
    """

    col_off: int
    row_off: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 0 or self.height < 0:
            raise TilingError(f"a window cannot have a negative size, got {self.width} x {self.height} px")

    @property
    def col_end(self) -> int:
        return self.col_off + self.width

    @property
    def row_end(self) -> int:
        return self.row_off + self.height

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.height, self.width

    @property
    def size_px(self) -> int:
        return self.width * self.height

    def __bool__(self) -> bool:
        return self.size_px > 0

    def __and__(self, other: Window) -> Window:
        """The common part; empty (zero size) when there is none."""
        col_off, row_off = max(self.col_off, other.col_off), max(self.row_off, other.row_off)
        width = max(0, min(self.col_end, other.col_end) - col_off)
        height = max(0, min(self.row_end, other.row_end) - row_off)
        return Window(col_off, row_off, width, height)

    def contains(self, other: Window) -> bool:
        return self & other == other

    def grow(self, halo_px: int) -> Window:
        """This window plus `halo_px` on each of its four sides."""
        return Window(
            self.col_off - halo_px, self.row_off - halo_px, self.width + 2 * halo_px, self.height + 2 * halo_px
        )

    def align(self, step_px: int) -> Window:
        """The smallest window around this one whose four edges are multiples of `step_px`."""
        col_off, row_off = self.col_off // step_px * step_px, self.row_off // step_px * step_px
        return Window(col_off, row_off, round_up(self.col_end, step_px) - col_off,
                      round_up(self.row_end, step_px) - row_off)  # fmt: skip

    def zoom(self, factor: int) -> Window:
        """This window in the pixels of a grid that is `factor` times finer."""
        return Window(self.col_off * factor, self.row_off * factor, self.width * factor, self.height * factor)

    def unzoom(self, factor: int) -> Window:
        """The pixels of a grid `factor` times coarser that this window touches."""
        whole = self.align(factor)
        return Window(whole.col_off // factor, whole.row_off // factor, whole.width // factor, whole.height // factor)

    def slices(self, base: Window) -> tuple[slice, slice]:
        """(rows, columns) that pick this window out of an array that covers `base`.

        Raises:
            TilingError: if part of this window lies outside `base`; a negative slice would silently wrap around.
        """
        if not base.contains(self):
            raise TilingError(f"{self} is not inside {base}")
        row, col = self.row_off - base.row_off, self.col_off - base.col_off
        return slice(row, row + self.height), slice(col, col + self.width)

    def split(self, step_px: int) -> Iterator[Window]:
        """Cut into squares of `step_px` counted from this window's own corner, row-major, smaller at the far edges."""
        if step_px <= 0:
            raise TilingError(f"cannot split into squares of {step_px} px; give a positive size")
        for row in range(self.row_off, self.row_end, step_px):
            for col in range(self.col_off, self.col_end, step_px):
                yield Window(col, row, step_px, step_px) & self


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of work, which writes whole Zarr shards.

    Workers read more than `core` and write only `core`, so a block that runs twice stores the same pixels twice.
    """

    row: int
    """Row of its first shard in the scene's shard grid."""
    col: int
    core: Window
    """Pixels of the result that it owns."""

    @property
    def name(self) -> str:
        return f"{self.row}_{self.col}"
