"""What the frame of a JPEG 2000 file says before GDAL decodes any of it: how large its tiles are, and that it is whole.

GDAL shows an image of one tile in pieces, but its decoder may hold the whole tile. Reads some hundred bytes.
"""

from __future__ import annotations

import struct

from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading import identity
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.store import Store, open_store

PIXEL_BYTES = 4
"""Memory of one pixel of one band while it is decoded, whatever its type."""

_BOXES = 64
"""Most boxes before the image; Sentinel-2 has five."""
_START = b"\xff\x4f\xff\x51"  # SOC and SIZ, ISO/IEC 15444-1, A.4.1 and A.5.1
_END = b"\xff\xd9"
_SIZ = struct.Struct(">4sHH8I")


def tile_shape(asset: Asset) -> tuple[int, int]:
    """(rows, columns) of a tile of the image.

    Raises:
        SceneError: if the file is no JPEG 2000 image, or ends before its image does.
        StorageError: if the storage failed.
    """
    store, size, name = open_store(asset.ref), identity.size_bytes(asset), asset.ref.name
    start, end = _image(store, size, name)
    head = store.get_range("", start, min(_SIZ.size, size - start))
    if len(head) < _SIZ.size or not head.startswith(_START):
        raise SceneError(f"{name} holds no JPEG 2000 image: fetch it again")
    if store.get_range("", end - len(_END), len(_END)) != _END:
        raise SceneError(
            f"{name} is cut short: its image does not end with the mark that ends every one; fetch it again"
        )
    width, height, left, top, cols, rows, tiles_left, tiles_top = _SIZ.unpack(head)[3:]
    if not (width > left and height > top and rows and cols and tiles_left <= left and tiles_top <= top):
        raise SceneError(
            f"{name} declares an image of {width} x {height} px in tiles of {cols} x {rows}: fetch it again"
        )
    return min(rows, height - top), min(cols, width - left)


def _image(store: Store, size: int, name: str) -> tuple[int, int]:
    """First byte of the image and the one after its last."""
    start = 0
    for _ in range(_BOXES):
        head = store.get_range("", start, max(0, min(16, size - start)))
        if head.startswith(_START):
            return start, size
        if len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head[:8])
        header = 8
        if length == 1 and len(head) == 16:
            (length,), header = struct.unpack(">Q", head[8:]), 16
        end = start + length if length else size
        if end > size:
            raise SceneError(f"{name} is cut short: it has {size} bytes of at least {end}; fetch it again")
        if kind == b"jp2c":
            return start + header, end
        if length < header:
            break
        start = end
    raise SceneError(f"{name} holds no JPEG 2000 image among its first {_BOXES} parts: fetch it again")
