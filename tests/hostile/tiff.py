"""Changing single fields of a classic little-endian TIFF, as an attacker would."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC = 256, 257, 259, 262
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_SIZES = 322, 323, 324, 325
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8, 16: 8}


def entries(data: bytes | bytearray, directory: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """(tag, type, count, position of the 12-byte entry) of a directory."""
    assert data[:4] == b"II*\0", "a classic little-endian TIFF"
    start = struct.unpack_from("<I", data, 4)[0]
    for _ in range(directory):
        start = struct.unpack_from("<I", data, start + 2 + 12 * struct.unpack_from("<H", data, start)[0])[0]
    for number in range(struct.unpack_from("<H", data, start)[0]):
        position = start + 2 + 12 * number
        yield (*struct.unpack_from("<HHI", data, position), position)


def set_field(path: Path, tag: int, value: int, *, directory: int = 0) -> None:
    """Overwrite the single value that an entry holds."""
    data = bytearray(path.read_bytes())
    _, kind, _, position = next(entry for entry in entries(data, directory) if entry[0] == tag)
    struct.pack_into("<H" if kind == 3 else "<I", data, position + 8, value)
    path.write_bytes(data)


def set_count(path: Path, tag: int, count: int) -> None:
    """Make an entry declare another number of values."""
    data = bytearray(path.read_bytes())
    position = next(entry[3] for entry in entries(data) if entry[0] == tag)
    struct.pack_into("<I", data, position + 4, count)
    path.write_bytes(data)


def set_array(path: Path, tag: int, index: int, value: int) -> None:
    """Overwrite one of several values that an entry points to."""
    data = bytearray(path.read_bytes())
    start, _, form = _array(data, tag)
    struct.pack_into(f"<{form}", data, start + struct.calcsize(form) * index, value)
    path.write_bytes(data)


def get_array(path: Path, tag: int) -> list[int]:
    data = path.read_bytes()
    start, count, form = _array(data, tag)
    return list(struct.unpack_from(f"<{count}{form}", data, start))


def _array(data: bytes | bytearray, tag: int) -> tuple[int, int, str]:
    """Where the values of an entry begin, how many there are, and of which form."""
    _, kind, count, position = next(entry for entry in entries(data) if entry[0] == tag)
    inside = _SIZES[kind] * count <= 4
    start = position + 8 if inside else struct.unpack_from("<I", data, position + 8)[0]
    return start, count, "H" if kind == 3 else "I"


def set_next_directory(path: Path, value: int) -> None:
    """Where the file says that its second directory lies."""
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], value)
    path.write_bytes(data)
