"""Maps of errors, as COGs of one band: 0 where a map is right, a value for each pair of classes that are taken for each
other, nodata where nothing is scored. Written like every other product: tiles as they are made, put together at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.comparison import MOST_PAIRS, error_codes
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.cog_parts import CogAssembly, ShardPart, pack
from earthloom.tiling.writing.overview import reduce_mode
from earthloom.tiling.writing.pyramid import Pyramid

_MEMORY_BYTES = 16 * 2**20  # of encoded tiles; beyond, they lie in a temporary file
_RIGHT_COLOR = (221, 226, 222)
_WRONG_COLOR = (214, 39, 40)
_PAIR_COLORS = (
    (214, 39, 40), (31, 119, 180), (255, 127, 14), (148, 103, 189), (23, 190, 207), (227, 119, 194), (140, 86, 75),
    (188, 189, 34), (44, 160, 44), (255, 187, 120), (174, 199, 232), (152, 223, 138), (255, 152, 150), (197, 176, 213),
    (247, 182, 210), (158, 218, 229), (196, 156, 148), (219, 219, 141),
)  # fmt: skip
"""Colours of Vega's scheme `category20` (BSD-3-Clause), without its greys."""


def legend(names: tuple[str, ...]) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Meaning and colour of each value of the error map."""
    K, codes = len(names), error_codes(len(names))
    entries = {0: ("right", _RIGHT_COLOR)}
    if K * (K - 1) > MOST_PAIRS:
        return entries | {1: ("wrong", _WRONG_COLOR)}
    for pair, code in enumerate(codes[:-1].tolist()):
        if code:
            text = f"{names[pair // K]} mapped as {names[pair % K]}"
            entries[code] = (text, _PAIR_COLORS[(code - 1) % len(_PAIR_COLORS)])
    return entries


class ErrorMap:
    """One error map on its way: `add` every shard in any order, then `publish`; `close` it in any case."""

    def __init__(self, grid: Grid, shard_px: int, names: tuple[str, ...], tags: dict[str, str]) -> None:
        entries = legend(names)
        self._pyramid = Pyramid(height=grid.height, width=grid.width, shard_px=shard_px)
        self._profile = CogProfile(
            grid=grid, descriptions=("error",), dataset_tags=tags, tile_px=self._pyramid.tile_px,
            colormap={value: color for value, (_, color) in entries.items()},
            band_tags=({f"CLASS_{value}": text for value, (text, _) in entries.items()},),
        )  # fmt: skip
        self._parts: dict[tuple[int, int], ShardPart | None] = {}
        self._file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 - closed on exit
        self._shard_px = shard_px

    def close(self) -> None:
        """Forget the tiles."""
        self._file.close()

    def add(self, window: Window, errors: NDArray[np.uint8]) -> None:
        """Take the pixels of one shard, (rows, columns)."""
        data, index = pack(self._profile, self._pyramid, self._pyramid.levels_of(errors[None], _reduce))
        start = self._file.seek(0, 2)
        self._file.write(data)
        place = window.row_off // self._shard_px, window.col_off // self._shard_px
        self._parts[place] = ShardPart(key="errors", start=start, index=index)

    def publish(self, store: Store, key: str) -> None:
        """Write the file.

        Raises:
            PublishError: if a shard is missing.
            StorageError: if the storage failed.
        """
        from threading import Lock

        lock = Lock()

        def fetch(_: str, start: int, length: int) -> bytes:
            with lock:  # tiles are fetched by several threads
                self._file.seek(start)
                return self._file.read(length)

        with CogAssembly(self._profile, self._pyramid, self._parts, fetch) as assembly:
            assembly.make_further(_reduce, lambda *_: None)
            first, others = assembly.finish(self._profile)
            pieces: Iterator[bytes] = chain([first], others)
            store.upload(key, pieces, assembly.tile_bytes)


def _reduce(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([reduce_mode(band) for band in pixels])
