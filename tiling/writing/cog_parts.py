"""A COG from the tiles of many workers: each packs its shard's tiles into one object, and the file is copied together.

Publishing makes only the levels that no shard holds whole (`tiling.writing.pyramid`), then streams header, overview tiles
(smallest level first) and full-resolution tiles, row-major: the layout of GDAL's COG driver. At most a few rows of tiles
are in memory, and no file of the scene's size is made on the way. Knows no store: bytes come through a function.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import deflate
import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import DamagedPartError, PublishError, TilingError
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.writing.cog import CogProfile, encode_tile, header
from earthloom.tiling.writing.pyramid import Place, Pyramid, Reduce

_FRAME_BYTES = 8
"""Bytes around each tile: its size before it, its last four bytes again behind it, as the file's ghost area promises."""

_AHEAD_BYTES = 8 << 20
_AHEAD_PARTS = 32
_MEMORY_BYTES = 8 << 20
"""Encoded tiles of the further levels beyond this go to a temporary file."""

Fetch: TypeAlias = Callable[[str, int, int], bytes]
"""Key of an object, start and length to those bytes of it."""


@dataclass(frozen=True, slots=True)
class TileIndex:
    """What lies one after another of one file in a shard's object: framed tiles level by level, row-major; then the seed."""

    packed: bytes
    """Little-endian uint32 pairs, bytes and crc32 of each: compact, because a driver keeps one per shard and file."""

    @property
    def entries(self) -> NDArray[np.uint32]:
        """(n, 2): bytes and crc32."""
        return np.frombuffer(self.packed, "<u4").reshape(-1, 2)

    @property
    def size_bytes(self) -> int:
        return int(self.entries[:, 0].sum(dtype=np.int64))

    def to_json(self) -> list[int]:
        return [int(number) for number in self.entries.ravel()]

    @classmethod
    def from_json(cls, numbers: Sequence[int]) -> TileIndex:
        """Inverse of `to_json`; ValueError or TypeError where it is none."""
        if not numbers or len(numbers) % 2 or not all(0 <= number < 1 << 32 for number in numbers):
            raise ValueError(f"an index of tiles is pairs of numbers of 32 bits, got {len(numbers)} numbers")
        return cls(np.asarray(numbers, "<u4").tobytes())


def pack(profile: CogProfile, pyramid: Pyramid, levels: Sequence[NDArray[Any]]) -> tuple[bytes, TileIndex]:
    """One shard's share of a file.

    Args:
        levels: what `Pyramid.levels_of` gives for the shard, (C, h, w) each.

    Raises:
        TilingError: if pixels are not what the profile says.
    """
    wanted = (profile.dtype, len(profile.descriptions))
    for pixels in levels:
        if (str(pixels.dtype), len(pixels)) != wanted:
            raise TilingError(
                f"pixels are {pixels.dtype} {pixels.shape}, but the file has {wanted[1]} bands of {wanted[0]}"
            )
    side = pyramid.tile_px
    pieces = [
        _framed(_encoded(pixels[:, row : row + side, col : col + side], profile))
        for pixels in levels[: pyramid.own + 1]
        for row in range(0, pixels.shape[1], side)
        for col in range(0, pixels.shape[2], side)
    ]
    if pyramid.seeded:
        seed = np.ascontiguousarray(levels[-1], levels[-1].dtype.newbyteorder("<"))
        pieces.append(bytes(deflate.zlib_compress(seed.tobytes(), 1)))
    numbers = [number for piece in pieces for number in (len(piece), zlib.crc32(piece))]
    return b"".join(pieces), TileIndex.from_json(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPart:
    """The place of a shard's share of one file."""

    key: str
    start: int
    index: TileIndex


class CogAssembly:
    """One file on its way from parts to bytes. Use as a context manager; call `make_further`, then `finish`.

    Args:
        shards: by (row, column) of every shard of the scene; None where all of it is nodata.
        fetch: called from several threads.
    """

    def __init__(
        self, profile: CogProfile, pyramid: Pyramid, shards: Mapping[tuple[int, int], ShardPart | None], fetch: Fetch
    ) -> None:
        self._profile, self._pyramid, self._shards, self._fetch = profile, pyramid, shards, fetch
        self._void = _framed(_encoded(np.empty((len(profile.descriptions), 0, 0), profile.dtype), profile))
        self._sizes = [np.full(pyramid.tile_grid(level), -1, np.int64) for level in range(len(pyramid.shapes))]
        self._rows: dict[tuple[int, int, int], _Rows] = {}
        for place, part in shards.items():
            self._register(place, part)
        self._spool = tempfile.SpooledTemporaryFile(_MEMORY_BYTES)  # noqa: SIM115 - closed on exit
        self._further: dict[Place, tuple[int, int]] = {}
        self._pool = ThreadPoolExecutor(_AHEAD_PARTS, "tiles")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._spool.close()

    def make_further(self, reduce: Reduce, keep: Callable[[Place, NDArray[Any]], None]) -> None:
        """Make the tiles of the levels that shards do not hold whole.

        Args:
            keep: is given every tile's place and pixels (C, h, w).

        Raises:
            PublishError: if a part is damaged.
        """
        pyramid, profile = self._pyramid, self._profile
        wanted = dict.fromkeys(
            seed for level, *tile in pyramid.further() if level == pyramid.own + 1 for seed in pyramid.seeds_of(*tile)
        )
        seeds = _Ahead(self._pool, wanted, self._seed)
        for place, pixels in pyramid.make_further(seeds, reduce):
            tile = _framed(_encoded(pixels, profile))
            self._further[place] = self._spool.seek(0, 2), len(tile)
            self._spool.write(tile)
            self._sizes[place[0]][place[1:]] = len(tile) - _FRAME_BYTES
            keep(place, pixels)

    @property
    def tile_bytes(self) -> int:
        """Bytes of all tiles, with their frames: all of the file but its header."""
        return sum(int(sizes.sum()) + _FRAME_BYTES * sizes.size for sizes in self._sizes)

    def finish(self, profile: CogProfile) -> tuple[bytes, Iterator[bytes]]:
        """The file: everything up to the smallest level's tiles, which can be read alone; and the rest, in pieces.

        Args:
            profile: may hold tags that were not known before.

        Raises:
            PublishError: if a tile is missing; and, from the pieces, if a part is damaged.
        """
        missing = sum(int((sizes < 0).sum()) for sizes in self._sizes)
        if missing:
            total = sum(sizes.size for sizes in self._sizes)
            raise PublishError(f"{missing} of {total} tiles are missing; the scene's blocks are not complete")
        pieces = self._tiles()
        return header(profile, self._sizes) + next(pieces), pieces

    def _register(self, place: tuple[int, int], part: ShardPart | None) -> None:
        """Note the sizes of a shard's tiles, and where each of their rows begins in its object."""
        entries = part.index.entries if part else None
        at, position = 0, part.start if part else 0
        for level in range(self._pyramid.own + 1):
            window = self._pyramid.part(level, *place)
            side = self._pyramid.tile_px
            first_row, first_col = window.row_off // side, window.col_off // side
            rows, cols = ceil_div(window.height, side), ceil_div(window.width, side)
            where = np.s_[first_row : first_row + rows, first_col : first_col + cols]
            if entries is None:
                self._sizes[level][where] = len(self._void) - _FRAME_BYTES
                continue
            tiles = entries[at : at + rows * cols]
            if len(tiles) != rows * cols:
                return  # `finish` says what is missing
            self._sizes[level][where] = tiles[:, 0].reshape(rows, cols).astype(np.int64) - _FRAME_BYTES
            lengths = tiles[:, 0].reshape(rows, cols).sum(axis=1, dtype=np.int64)
            starts = position + np.concatenate([[0], np.cumsum(lengths)])
            self._rows[level, *place] = _Rows(starts, tiles.reshape(rows, cols, 2))
            at, position = at + rows * cols, int(starts[-1])

    def _seed(self, place: tuple[int, int]) -> NDArray[Any]:
        part, profile = self._shards[place], self._profile
        shape = (len(profile.descriptions), *self._pyramid.part(self._pyramid.own + 1, *place).shape)
        if part is None:
            return np.full(shape, profile.nodata, profile.dtype)
        length, crc = (int(number) for number in part.index.entries[-1])
        data = self._fetch(part.key, part.start + part.index.size_bytes - length, length)
        _check(part.key, data, length, crc)
        values = np.frombuffer(zlib.decompress(data), np.dtype(profile.dtype).newbyteorder("<"))
        return values.astype(profile.dtype, copy=False).reshape(shape)

    def _tiles(self) -> Iterator[bytes]:
        """All tiles, framed, in pieces; the first piece is the whole smallest level."""
        for level in range(len(self._pyramid.shapes) - 1, self._pyramid.own, -1):
            rows, cols = self._pyramid.tile_grid(level)
            for row in range(rows):
                yield b"".join(self._spooled((level, row, col)) for col in range(cols))
        groups = self._groups()
        ahead: deque[tuple[int, list[Callable[[], list[bytes]]]]] = deque()
        n_bytes = n_parts = 0
        while True:
            while n_bytes <= _AHEAD_BYTES and n_parts <= _AHEAD_PARTS and (spans := next(groups, None)):
                size = sum(span.n_bytes for span in spans)
                rows_of = [self._pool.submit(span.load).result if span.n_bytes else span.load for span in spans]
                ahead.append((size, rows_of))
                n_bytes, n_parts = n_bytes + size, n_parts + len(spans)
            if not ahead:
                return
            size, rows_of = ahead.popleft()
            for across in zip(*(rows() for rows in rows_of), strict=True):
                yield b"".join(across)
            n_bytes, n_parts = n_bytes - size, n_parts - len(rows_of)

    def _spooled(self, place: Place) -> bytes:
        offset, length = self._further[place]
        self._spool.seek(offset)
        return self._spool.read(length)

    def _groups(self) -> Iterator[list[_Span]]:
        """Rows of tiles that are fetched together, one span of bytes per shard."""
        n_rows, n_cols = self._pyramid.shard_grid
        for level in range(self._pyramid.own, -1, -1):
            for shard_row in range(n_rows):
                known = [self._rows.get((level, shard_row, col)) for col in range(n_cols)]
                height = ceil_div(self._pyramid.part(level, shard_row, 0).height, self._pyramid.tile_px)
                total = sum(rows.length(0, height) for rows in known if rows)
                step = min(height, max(1, height * _AHEAD_BYTES // max(total, 1)))
                for first in range(0, height, step):
                    last = min(first + step, height)
                    yield [self._span(level, shard_row, col, first, last) for col in range(n_cols)]

    def _span(self, level: int, row: int, col: int, first: int, last: int) -> _Span:
        part, rows = self._shards[row, col], self._rows.get((level, row, col))
        if part is None or rows is None:
            across = ceil_div(self._pyramid.part(level, row, col).width, self._pyramid.tile_px)
            return _Span(0, lambda: [self._void * across] * (last - first))
        start, length, key = int(rows.starts[first]), rows.length(first, last), part.key

        def load() -> list[bytes]:
            data = self._fetch(key, start, length)
            return rows.cut(key, data, first, last)

        return _Span(length, load)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of tiles of one shard and level: where each begins in the shard's object, and (rows, cols, 2) its entries."""

    starts: NDArray[np.int64]
    entries: NDArray[np.uint32]

    def length(self, first: int, last: int) -> int:
        return int(self.starts[last] - self.starts[first])

    def cut(self, key: str, data: bytes, first: int, last: int) -> list[bytes]:
        """Each row's bytes, every tile checked."""
        at, view = 0, memoryview(data)
        for length, crc in self.entries[first:last].reshape(-1, 2).tolist():
            _check(key, view[at : at + length], length, crc)
            at += length
        base = self.starts[first]
        return [data[self.starts[row] - base : self.starts[row + 1] - base] for row in range(first, last)]


@dataclass(frozen=True, slots=True)
class _Span:
    """Rows of tiles of one shard, each in one piece."""

    n_bytes: int
    """Bytes that have to be fetched; 0 for a shard without data."""
    load: Callable[[], list[bytes]]


class _Ahead:
    """A function whose next answers are being made already, in the order in which they will be asked for first."""

    def __init__(
        self, pool: ThreadPoolExecutor, order: Mapping[tuple[int, int], Any],
        function: Callable[[tuple[int, int]], NDArray[Any]],
    ) -> None:  # fmt: skip
        self._pool, self._function, self._order = pool, function, iter(order)
        self._coming: dict[tuple[int, int], Future[NDArray[Any]]] = {}

    def __call__(self, row: int, col: int) -> NDArray[Any]:
        while len(self._coming) < _AHEAD_PARTS and (place := next(self._order, None)) is not None:
            self._coming[place] = self._pool.submit(self._function, place)
        coming = self._coming.pop((row, col), None)
        return coming.result() if coming else self._function((row, col))  # a seed that two tiles share comes again


def _encoded(pixels: NDArray[Any], profile: CogProfile) -> bytes:
    return encode_tile(pixels, profile.nodata, profile.predictor, profile.tile_px)


def _framed(tile: bytes) -> bytes:
    return struct.pack("<I", len(tile)) + tile + tile[-4:]


def _check(key: str, data: bytes | memoryview, length: int, crc: int) -> None:
    if len(data) != length or zlib.crc32(data) != crc:
        raise DamagedPartError(f"{key} does not hold the tiles that its block wrote", key)
