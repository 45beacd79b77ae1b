"""A scene that is known to be sound, because we make it ourselves, byte by byte and with no library.

If a process that reads it dies, the installation is at fault and not the file. Knows nothing of who reads it.
"""

from __future__ import annotations

import struct

SIDE_PX = 64
WATER_COLS = 24
"""The first columns hold water, the others land."""
_GREEN, _SWIR = (800, 900), (200, 2500)
_METADATA = (
    b'<GDALMetadata><Item name="DESCRIPTION" sample="0" role="description">green</Item>'
    b'<Item name="DESCRIPTION" sample="1" role="description">swir16</Item></GDALMetadata>\0'
)
_GEO_KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32617)


def sound_tiff() -> bytes:
    """A GeoTIFF of 64 × 64 px, uint16, bands `green` and `swir16` as 1/10000 of reflectance, EPSG:32617, nodata 0."""
    bands = b"".join(
        struct.pack(f"<{SIDE_PX}H", *[water] * WATER_COLS, *[land] * (SIDE_PX - WATER_COLS)) * SIDE_PX
        for water, land in (_GREEN, _SWIR)
    )
    plane = len(bands) // 2
    fields: list[tuple[int, str, tuple[float, ...] | bytes]] = [
        (256, "H", (SIDE_PX,)), (257, "H", (SIDE_PX,)), (258, "H", (16, 16)), (259, "H", (1,)), (262, "H", (1,)),
        (273, "I", (8, 8 + plane)), (277, "H", (2,)), (278, "H", (SIDE_PX,)), (279, "I", (plane, plane)), (284, "H", (2,)),
        (338, "H", (0,)), (339, "H", (1, 1)), (33550, "d", (10.0, 10.0, 0.0)),
        (33922, "d", (0.0, 0.0, 0.0, 300000.0, 4500000.0, 0.0)), (34735, "H", _GEO_KEYS), (42112, "s", _METADATA),
        (42113, "s", b"0\0"),
    ]  # fmt: skip
    directory, beside = 8 + len(bands), b""
    entries = []
    after = directory + 2 + 12 * len(fields) + 4
    for tag, kind, values in fields:
        data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{kind}", *values)
        if len(data) <= 4:
            place = data.ljust(4, b"\0")
        else:
            place = struct.pack("<I", after + len(beside))
            beside += data + b"\0" * (len(data) % 2)
        entries.append(struct.pack("<HHI", tag, {"s": 2, "H": 3, "I": 4, "d": 12}[kind], len(values)) + place)
    head = struct.pack("<2sHI", b"II", 42, directory)
    return head + bands + struct.pack("<H", len(fields)) + b"".join(entries) + b"\0" * 4 + beside
