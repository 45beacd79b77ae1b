"""The scene-anchored chip grid and the blocks cut from it. Pure arithmetic: no arrays, no files.

A chip owns a core of side S and reads S + 2h, on a grid whose origin is the scene's corner. S and h are multiples of
the model's total stride, so the pooling grids of neighbouring chips coincide and a pixel gets the same value whichever
chip, block or worker computes it. Chips reach past the scene: it is reflected by exactly h; beyond that they hold zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from earthloom.tiling.errors import TilingError
from earthloom.tiling.rounding import round_up
from earthloom.tiling.window import Block, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipGrid:
    """Chips of one scene.

    Args:
        scene: extent to cover, in pixels; its corner (0, 0) is the grid's origin.
        core_px: side S of what a chip owns.
        halo_px: context h per side.
        stride_px: total stride of the model, which must divide both.
        blend: True when neighbouring chips are cross-faded over 2h instead of cropped to their cores.
        margin_px: pixels beyond the scene, per side, that a later stage of a chain wants as its context.

    Raises:
        TilingError: if S or h is not a multiple of the stride, or a blend's ramps would meet (2h > S).
    """

    scene: Window
    core_px: int
    halo_px: int
    stride_px: int
    blend: bool = False
    margin_px: int = 0

    def __post_init__(self) -> None:
        if self.core_px <= 0 or self.halo_px < 0 or self.stride_px <= 0 or self.margin_px < 0:
            raise TilingError(
                f"need core > 0, halo >= 0, stride > 0 and margin >= 0, got {self.core_px}, {self.halo_px}, "
                f"{self.stride_px} and {self.margin_px} px"
            )
        for name, value in (("core", self.core_px), ("halo", self.halo_px)):
            if value % self.stride_px:
                raise TilingError(
                    f"{name} {value} px is not a multiple of the model's stride {self.stride_px} px: pooling grids would "
                    f"shift between chips; use {round_up(value, self.stride_px)}"
                )
        if self.blend and (2 * self.halo_px > self.core_px or not self.halo_px):
            raise TilingError(
                f"blending needs 0 < 2 * halo <= core, got halo {self.halo_px} px and core {self.core_px} px"
            )
        if (self.scene.col_off, self.scene.row_off) != (0, 0) or not self.scene:
            raise TilingError(f"a chip grid is anchored on the corner of a scene with pixels, got {self.scene}")

    @property
    def chip_px(self) -> int:
        """Side of every chip, S + 2h: one static shape."""
        return self.core_px + 2 * self.halo_px

    @property
    def domain(self) -> Window:
        """All pixels that are decided: the scene and its margin."""
        return self.scene.grow(self.margin_px)

    @property
    def context(self) -> Window:
        """All pixels that say something: the domain and the halo. Beyond, chips hold zeros."""
        return self.domain.grow(self.halo_px)

    @property
    def extent(self) -> Window:
        """All that any chip reads: whole cores over the domain, plus the halo."""
        return self.domain.align(self.core_px).grow(self.halo_px)

    def cores(self, window: Window) -> list[Window]:
        """Cores (unclipped, side S) of the chips that decide pixels of `window`, row-major.

        With `blend` these are all chips whose read window touches it; chips outside the domain do not exist.
        """
        reach = window.grow(self.halo_px) if self.blend else window
        return list((reach & self.domain).align(self.core_px).split(self.core_px)) if window & self.domain else []

    def read(self, window: Window) -> Window:
        """What must be loaded to compute `window`: its chips' cores and their halo."""
        reach = (window.grow(self.halo_px) if self.blend else window) & self.domain
        return reach.align(self.core_px).grow(self.halo_px)


def check_core(core_px: int, shard_px: int) -> None:
    """Whether chips of this core lie in one shard each.

    Raises:
        TilingError: if the shard is not a multiple of the core.
    """
    if shard_px <= 0 or shard_px % core_px:
        raise TilingError(
            f"shard {shard_px} px is not a multiple of the chip core {core_px} px, so blocks would cut chips; "
            f"set `shard` to a multiple of {core_px} or `core` to a divisor of {shard_px}"
        )


def split_blocks(
    scene: Window, *, core_px: int, block_px: int, shard_px: int, strip: int | None = None
) -> Iterator[Block]:
    """Cut a result into blocks that workers can write without locks.

    Each pixel belongs to exactly one `core`, and a core is made of whole shards (cut only by the scene's edge).

    Args:
        scene: extent of the result; its corner is (0, 0).
        core_px: side of what a chip of the last stage owns there.
        strip: width, in blocks, of the strips in which blocks come, so that neighbours come close in time; None for
            the width of the scene.

    Yields:
        Blocks, strip by strip and row-major within; smaller at the right and bottom edges.

    Raises:
        TilingError: if the block is not a multiple of the shard, or the shard not a multiple of the chip's core where
            the scene has more than one shard.
    """
    if max(scene.shape) > shard_px:
        check_core(core_px, shard_px)
    if block_px <= 0 or block_px % shard_px:
        raise TilingError(
            f"block {block_px} px is not a multiple of the shard {shard_px} px, so two workers would write one shard; "
            f"set `block` to {max(1, round(block_px / shard_px)) * shard_px}"
        )
    width = strip * block_px if strip else scene.width
    for col in range(0, scene.width, width):
        for core in (Window(col, 0, width, scene.height) & scene).split(block_px):
            yield Block(row=core.row_off // shard_px, col=core.col_off // shard_px, core=core)


def reflect_indices(start: int, stop: int, length: int, halo_px: int) -> list[int]:
    """Source index of each position in `[start, stop)` on an axis of `length` pixels; -1 where a chip holds zeros.

    The axis is mirrored about its end pixels (which are not repeated) as often as it takes to reach `halo_px`
    on each side; positions farther out are -1.
    """
    period = 2 * (length - 1)
    indices = []
    for position in range(start, stop):
        if not -halo_px <= position < length + halo_px:
            indices.append(-1)
        elif length == 1:
            indices.append(0)
        else:
            folded = position % period
            indices.append(folded if folded < length else period - folded)
    return indices
