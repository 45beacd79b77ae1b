"""The format of a Cloud Optimized GeoTIFF: how a tile is encoded, and the header that says where all tiles lie.

The layout is that of GDAL's COG driver (https://gdal.org/drivers/raster/cog.html, "File format details"), which itself
needs the whole image twice and makes overviews by its own rule; here tiles are encoded where the pixels are and the file
is put together by copying (`tiling.writing.cog_parts`). What makes the TIFF a GeoTIFF (geo keys, colour table, metadata) is
written by GDAL into a one-pixel template and lifted from it, so every CRS that GDAL can express is expressed in its way.
Knows nothing of models or Zarr.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import PublishError, TilingError
from earthloom.tiling.grid import Grid
from earthloom.tiling.writing.overview import level_shapes
from earthloom.tiling.writing.pyramid import TILE_PX

_LEVEL = 5
"""Level of libdeflate. With real class maps and their confidence, 6 takes 28 % more time for 0.9 % fewer bytes, and 4
takes 11 % less for 3.0 % more."""
_CLASSIC_BYTES = 4_000_000_000  # beyond, offsets need 64 bits: BigTIFF

_GHOST_BODY = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST_BODY) + _GHOST_BODY

# TIFF 6.0 tags, and those of GeoTIFF (33550, 33922, 34735-34737) and GDAL (42112 metadata, 42113 nodata)
_GREY, _RGB, _PALETTE = 1, 2, 3  # TIFF 6.0, PhotometricInterpretation
_METADATA = 42112
_LIFTED_EVERYWHERE = (320, 42113)
_LIFTED_FULL_RESOLUTION = (306, 33550, 33922, 34264, 34735, 34736, 34737, _METADATA)
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class CogProfile:
    """What the file says about its bands. Pixels are interleaved: a tile holds all of its bands."""

    grid: Grid
    descriptions: tuple[str, ...]
    """One per band."""
    dtype: str = "uint8"
    nodata: float = NODATA
    colormap: Mapping[int, tuple[int, int, int]] | None = None
    """Class value to RGB; a palette image of one band. None: grey bands, or those of `colors`."""
    colors: tuple[str, ...] = ()
    """What each band is to a viewer, `red`, `green`, `blue` or `undefined`; empty: bands of no colour."""
    scales: tuple[float, ...] = ()
    """Factor for each band: physical value = stored value * scale + offset; empty: stored values are the meaning."""
    offsets: tuple[float, ...] = ()
    dataset_tags: Mapping[str, str] = field(default_factory=dict)
    band_tags: tuple[Mapping[str, str], ...] = ()
    attribute_table: str = ""
    """XML of the first band's `GDALRasterAttributeTable`; GDAL reads it from the TIFF since 3.12, older ones pass it over."""
    tile_px: int = TILE_PX
    """Side of an internal tile, a multiple of 16 (TIFF 6.0, section 15); that of the pyramid it is written by."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) per level."""
        return level_shapes(*self.grid.shape, smallest_px=self.tile_px)

    @property
    def photometric(self) -> int:
        """TIFF's tag 262. Colours in another order stand in GDAL's metadata, for which TIFF has no word."""
        if self.colormap is not None:
            return _PALETTE
        return _RGB if self.colors[:3] == ("red", "green", "blue") and self.dtype in ("uint8", "uint16") else _GREY

    @property
    def predictor(self) -> int:
        """TIFF 6.0 section 14: 2, horizontal differencing, for integer images; 1, none, for class maps and floats."""
        return 2 if self.colormap is None and self.dtype[0] in "iu" and self.dtype != "uint8" else 1


def encode_tile(pixels: NDArray[Any], nodata: float = NODATA, predictor: int = 1, tile_px: int = TILE_PX) -> bytes:
    """One tile, DEFLATE; padded with nodata at the scene's far edges. (C, h, w), h and w at most `tile_px`."""
    if pixels.ndim != 3 or max(pixels.shape[1:]) > tile_px:
        raise TilingError(f"a tile is a (C, h, w) array of at most {tile_px} px, got {pixels.shape}")
    rows, cols = pixels.shape[1:]
    if (rows, cols) != (tile_px, tile_px):
        pixels = np.pad(pixels, ((0, 0), (0, tile_px - rows), (0, tile_px - cols)), constant_values=nodata)
    woven = pixels.transpose(1, 2, 0)
    if predictor == 2:
        woven = np.diff(woven, axis=1, prepend=woven.dtype.type(0))  # wraps around, as the format wants
    return bytes(deflate.zlib_compress(np.ascontiguousarray(woven, woven.dtype.newbyteorder("<")).tobytes(), _LEVEL))


@dataclass(frozen=True, slots=True)
class _Tag:
    code: int
    kind: int
    """TIFF field type: 2 ascii, 3 uint16, 4 uint32, 12 double, 16 uint64."""
    data: bytes

    @property
    def count(self) -> int:
        return len(self.data) // _TYPE_BYTES[self.kind]


def header(profile: CogProfile, sizes: Sequence[NDArray[np.int64]]) -> bytes:
    """Everything before the first tile.

    Args:
        sizes: sizes of each level, (rows, columns) bytes of its encoded tiles. Tiles follow the header without gaps, smallest
            level first, row-major, each between its size as uint32 and its last four bytes once more.
    """
    # two passes: the length does not depend on the offsets' values
    lifted = _lift(profile)
    payload = sum(int(level.sum()) + 8 * level.size for level in sizes)
    big = payload > _CLASSIC_BYTES
    draft = _layout(profile, lifted, sizes, [np.zeros_like(level) for level in sizes], big=big)
    offsets, position = [], len(draft)
    for level in reversed(sizes):
        with_frame = level.ravel() + 8  # 4 bytes before and after each tile
        starts = position + 4 + np.concatenate([[0], np.cumsum(with_frame)[:-1]])
        offsets.append(starts.reshape(level.shape))
        position += int(with_frame.sum())
    return _layout(profile, lifted, sizes, offsets[::-1], big=big)


def _layout(
    profile: CogProfile, lifted: dict[int, _Tag], sizes: Sequence[NDArray[np.int64]],
    offsets: Sequence[NDArray[np.int64]], *, big: bool,
) -> bytes:  # fmt: skip
    pointer, entry_bytes, inline = ("<Q", 20, 8) if big else ("<I", 12, 4)
    start = 16 if big else 8
    out = bytearray(struct.pack("<2sHHH", b"II", 43, 8, 0) if big else struct.pack("<2sH", b"II", 42))
    ghost = _GHOST + b" " * (len(_GHOST) % 2)
    out += struct.pack(pointer, start + len(ghost)) + ghost
    for level, (rows, cols) in enumerate(profile.shapes):
        tags = _tags(profile, lifted, level, rows, cols, sizes[level], offsets[level], big=big)
        here = len(out)
        count_format = "<Q" if big else "<H"
        values_at = here + struct.calcsize(count_format) + len(tags) * entry_bytes + struct.calcsize(pointer)
        entries, values = bytearray(struct.pack(count_format, len(tags))), bytearray()
        for tag in tags:
            entries += struct.pack("<HHQ" if big else "<HHI", tag.code, tag.kind, tag.count)
            if len(tag.data) <= inline:
                entries += tag.data.ljust(inline, b"\0")
            else:
                entries += struct.pack(pointer, values_at + len(values))
                values += tag.data + b"\0" * (len(tag.data) % 2)
        last = level == len(profile.shapes) - 1
        out += entries + struct.pack(pointer, 0 if last else values_at + len(values)) + values
    return bytes(out)


def _tags(
    profile: CogProfile, lifted: dict[int, _Tag], level: int, rows: int, cols: int,
    sizes: NDArray[np.int64], offsets: NDArray[np.int64], *, big: bool,
) -> list[_Tag]:  # fmt: skip
    def short(code: int, value: int) -> _Tag:
        return _Tag(code, 3, struct.pack("<H", value))

    def long(code: int, value: int) -> _Tag:
        return _Tag(code, 4, struct.pack("<I", value))

    def shorts(code: int, *values: int) -> _Tag:
        return _Tag(code, 3, struct.pack(f"<{len(values)}H", *values))

    n_bands = len(profile.descriptions)
    wide = (16, "<u8") if big else (4, "<u4")
    tags = [
        long(254, 1 if level else 0),  # NewSubfileType: reduced-resolution image
        long(256, cols), long(257, rows), short(259, 8),  # width, height, Adobe DEFLATE
        shorts(258, *[8 * np.dtype(profile.dtype).itemsize] * n_bands),
        short(262, profile.photometric),
        short(277, n_bands), short(284, 1), short(322, profile.tile_px), short(323, profile.tile_px),
        _Tag(324, wide[0], offsets.ravel().astype(wide[1]).tobytes()),
        _Tag(325, 4, sizes.ravel().astype("<u4").tobytes()),
        shorts(339, *[{"u": 1, "i": 2, "f": 3}[np.dtype(profile.dtype).kind]] * n_bands),  # sample format
    ]  # fmt: skip
    if n_extra := n_bands - (3 if profile.photometric == _RGB else 1):
        tags.append(shorts(338, *[0] * n_extra))  # extra samples of no special meaning
    if profile.predictor != 1:
        tags.append(short(317, profile.predictor))
    wanted = _LIFTED_EVERYWHERE + (() if level else _LIFTED_FULL_RESOLUTION)
    tags += [lifted[code] for code in wanted if code in lifted]
    return sorted(tags, key=lambda tag: tag.code)


def _lift(profile: CogProfile) -> dict[int, _Tag]:
    """The tags that GDAL writes for this grid, palette and metadata, from a one-pixel file in memory."""
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.io import MemoryFile
    from rasterio.session import DummySession

    # of memory alone: where boto3 is installed, rasterio would make a session of AWS first, which takes 20 ms
    with rasterio.Env(session=DummySession(), GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=1, height=1, count=len(profile.descriptions), dtype=profile.dtype,
            crs=profile.grid.crs, transform=profile.grid.affine, nodata=profile.nodata,
            **({"photometric": "MINISBLACK"} if profile.colors else {}),  # RGB would leave colours out of the metadata
        ) as template:  # fmt: skip
            template.update_tags(**({"AREA_OR_POINT": "Area"} | dict(profile.dataset_tags)))
            for index, description in enumerate(profile.descriptions, start=1):
                template.set_band_description(index, description)
            for index, tags_of_band in enumerate(profile.band_tags, start=1):
                template.update_tags(index, **tags_of_band)
            if profile.scales:
                template.scales = profile.scales
            if profile.offsets:
                template.offsets = profile.offsets
            if profile.colors:
                template.colorinterp = [ColorInterp[color] for color in profile.colors]
            if profile.colormap is not None:
                template.write_colormap(1, {value: (*rgb, 255) for value, rgb in profile.colormap.items()})
        data = memory.read()
    if data[:4] != b"II*\0":
        raise PublishError("GDAL wrote its template TIFF in a form that is not little-endian classic TIFF")
    (ifd,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, ifd)
    tags = {}
    for at in range(ifd + 2, ifd + 2 + 12 * count, 12):
        code, kind, n = struct.unpack_from("<HHI", data, at)
        length = n * _TYPE_BYTES[kind]
        start = at + 8 if length <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        tags[code] = _Tag(code, kind, data[start : start + length])
    if profile.attribute_table:
        tags[_METADATA] = _with_attribute_table(tags[_METADATA], profile.attribute_table)
    return tags


def _with_attribute_table(metadata: _Tag, table: str) -> _Tag:
    """GDAL's metadata with a raster attribute table, in the place where GDAL 3.12 writes it."""
    end = b"</GDALMetadata>"
    before, found, after = metadata.data.partition(end)
    item = f'<Item name="DEFAULT_RASTER_ATTRIBUTE_TABLE" sample="0" role="rat">{table}</Item>'
    if not found:
        raise PublishError("GDAL wrote the metadata of its template TIFF in a form that is not known")
    return _Tag(metadata.code, metadata.kind, before + b"  " + item.encode() + b"\n" + end + after)
