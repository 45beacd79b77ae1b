"""How much one worker does at once, decided by the memory plan and obeyed by the worker; and how large its blocks are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from earthloom.tiling.writing.zarr_sink import CHUNK_PX, SMALLEST_PX


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """What one worker does side by side. The default is the least that works."""

    lanes: int = 3
    """Tasks in the worker at once: blocks that are computed, read ahead and written; or scenes that are published."""
    passes: int = 1
    """Forward passes at once, at most."""
    computing: int = 1
    """Blocks that are computed at once, so that there are chips for all passes."""
    ahead: int = 1
    """Blocks that are read while others are computed."""
    kept_bytes: int = 0
    """Most memory with which a worker keeps freed pages for the next chip (`tiling.heap`); 0: it keeps none."""
    scene_bytes: int = 0
    """Memory that scenes which are surveyed or published at once may take together (`jobs.planning.memory`)."""

    def with_threads(self, threads: int) -> WorkerShape:
        """The shape for a worker that is given so many threads; more passes than threads would only wait."""
        passes = min(self.passes, threads)
        return replace(self, passes=passes, computing=min(self.computing, passes))


def common(shapes: Iterable[WorkerShape]) -> WorkerShape:
    """The shape that all scenes of a run have memory for; the default if there are none.

    Freed pages are kept only if every scene has memory for that, and as many as the largest one plans.
    """
    every = list(shapes)
    if not every:
        return WorkerShape(lanes=1)
    return WorkerShape(
        lanes=min(shape.lanes for shape in every),
        passes=min(shape.passes for shape in every),
        computing=min(shape.computing for shape in every),
        ahead=min(shape.ahead for shape in every),
        kept_bytes=max(shape.kept_bytes for shape in every) if all(shape.kept_bytes for shape in every) else 0,
        scene_bytes=max(shape.scene_bytes for shape in every),
    )


def result_sides(block_px: int, shard_px: int, pixel_px: int) -> tuple[int, int]:
    """Sides of a block and of a shard in pixels of the result, where each stands for `pixel_px` of a finer grid.

    A shard covers about the ground that it would cover there, and is made of whole tiles; it never has less than the
    smallest tile that a TIFF may have.

    Args:
        block_px, shard_px: in pixels of the finer grid.
    """
    if pixel_px == 1:
        return block_px, shard_px
    side = shard_px // pixel_px
    shard = max(SMALLEST_PX, side // SMALLEST_PX * SMALLEST_PX if side < CHUNK_PX else side // CHUNK_PX * CHUNK_PX)
    return max(1, block_px // (shard * pixel_px)) * shard, shard
