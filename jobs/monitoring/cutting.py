"""Work on a shard of a cube window by window, as all of its dates at once would be the largest thing; and the memory that it
takes beside the work itself. One rule for composites and monitors over time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earthloom.jobs.monitoring.cube.cube import READS_AT_ONCE_BYTES
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import CHUNK_PX

_STACK_BYTES = 192 * 2**20
"""Size of all dates of a window, as far as a strip of a chunk allows; more is not faster, as work goes by small blocks."""
_LEAST_ROWS = 32
"""Least height of a window that is lower than a chunk, which is then decoded again for the next one."""
_WRITTEN = 3.5
"""Times a shard's layers: a copy with its overviews (4 / 3), and as tiles and in the Zarr, where nothing can be compressed."""
_AREA_STRIP_BYTES = 256 * 8 * 4
"""Memory per column: a strip of areas with temporaries, when classes are counted."""
_DECODED = 3
"""Times what is read of a layer at once: what zarr holds beside what it returns."""
LEAST_BYTES = 12 * 2**20
"""Buffers, metadata, threads that write."""


def part_name(part: Window, shard_px: int) -> str:
    """Row and column of a shard of `shard_px` a side among those of its grid."""
    return f"{part.row_off // shard_px}_{part.col_off // shard_px}"


def windows(part: Window, px_bytes: int) -> Iterator[Window]:
    """The windows of a shard that are worked on one after another, row-major.

    Args:
        part: the shard on the grid.
        px_bytes: that all dates of a pixel take.
    """
    most_px = max(1, _STACK_BYTES // px_bytes)
    across = part.width if most_px >= CHUNK_PX * part.width else min(part.width, CHUNK_PX)
    down = most_px // across // CHUNK_PX * CHUNK_PX or max(_LEAST_ROWS, most_px // across)
    for row in range(part.row_off, part.row_end, down):
        for col in range(part.col_off, part.col_end, across):
            yield Window(col, row, across, down) & part


def reading_bytes(n_dates: int, sizes: Sequence[int]) -> int:
    """Memory that reading all dates of a window takes; `sizes` are bytes of one date, per layer."""
    at_once = max(min(max(READS_AT_ONCE_BYTES, size), n_dates * size) for size in sizes)
    return n_dates * sum(sizes) + _DECODED * at_once


def writing_bytes(out_bytes: int, width_px: int) -> int:
    """Memory that publishing a shard takes beside its layers of `out_bytes`."""
    return int(_WRITTEN * out_bytes) + _AREA_STRIP_BYTES * width_px
