"""What a file is that is not the GeoTIFF that its name promises, told from its first bytes, and what to do about it.

Downloads bring login pages, clones bring pointers, disks from elsewhere bring companion files. Opens nothing.
"""

from __future__ import annotations

import re

HEAD_BYTES = 512
"""How many of the first bytes tell."""

_TRANSLATE = "gdal_translate -of COG"
_CONVERT = f"convert it: {_TRANSLATE} <this> out.tif"
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), lesson)
    for pattern, lesson in (
        (rb"\A\Z", "is empty (0 bytes): its copy was broken off before it began; fetch it again"),
        (rb"\0+\Z", "holds nothing but zeros here: its space was reserved and never filled; fetch it again"),
        (rb"version https://git-lfs", "is a Git LFS pointer, a text in place of the file; fetch the file itself: git lfs pull"),
        (rb"\0\x05\x16[\0\x07]", "is a companion file of macOS (AppleDouble), no image; name the file without ._ before it"),
        (rb"(?i)\s*(<!doctype html|<html|<head|<!--.{0,300}<html)",
         "is a web page (HTML), not an image: the server asked for a login or a consent; fetch it as a user who has that"),
        (rb"\s*<\?xml.{0,200}<Error>|\s*<Error>",
         "is an error message of object storage (XML), saved in place of the file; fetch it again with credentials"),
        (rb"(?i)\s*\{\s*\"", "is a JSON text, not an image: a message of the server, or STAC, whose names end in .json; "
         "look into it, and fetch the file again"),
        (rb"\s*<", f"is an XML text, as VRT and other descriptions of images are, not an image; {_CONVERT}"),
        (rb"PK\x03\x04", "is a ZIP archive; unpack it, and name the file inside"),
        (rb"\x1f\x8b", "is compressed as a whole (gzip); unpack it: gunzip, or tar xzf for an archive"),
        (rb".{257}ustar", "is a tar archive; unpack it: tar xf, and name the file inside"),
        (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", f"is a JPEG 2000 image; {_CONVERT}"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP",
         f"is a picture without a place (PNG, JPEG, GIF or WebP); convert it: {_TRANSLATE} -a_srs EPSG:<code> -a_ullr <x0> "
         "<y0> <x1> <y1> <this> out.tif, without -a_ullr where a world file lies beside it"),
        (rb"\x89HDF|CDF[\x01\x02\x05]", "is a netCDF or HDF5 file; convert the variable that you mean: "
         f"{_TRANSLATE} NETCDF:in.nc:variable out.tif"),
        (rb"\x0e\x03\x13\x01", "is an HDF4 file; convert the subdataset that you mean, as gdalinfo names it: "
         f"{_TRANSLATE} <subdataset> out.tif"),
        (rb"GRIB", f"is a GRIB file; {_CONVERT}"),
        (rb"NITF|NSIF", f"is an NITF file; {_CONVERT}"),
        (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "begins like a TIFF, but its directory cannot be read: it is damaged or cut short; "
         "fetch it again"),
    )
)  # fmt: skip


def lesson_of(head: bytes) -> str:
    """`is not a GeoTIFF: it is …; what to do`, to be put behind the file's name.

    Args:
        head: the first HEAD_BYTES of the file, or all of it.
    """
    found = what_it_is(head)
    return f"is not a GeoTIFF: {found}" if found else f"is not a GeoTIFF; {_CONVERT}"


def what_it_is(head: bytes) -> str | None:
    """`it is …; what to do`, or None where the first bytes do not tell."""
    return next((f"it {lesson}" for pattern, lesson in _KINDS if pattern.match(head)), None)
