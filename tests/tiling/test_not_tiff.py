"""Files that are not what their name says: what they are is said, and never that they are damaged."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.not_tiff import HEAD_BYTES, lesson_of
from earthloom.tiling.reading.preflight import inspect
from earthloom.tiling.storage.objects import ObjectRef


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.tif", b"II*\0")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.tif"))
    return out.getvalue()


KINDS = {
    "empty": (b"", r"is empty \(0 bytes\).*fetch it again"),
    "zeros": (bytes(600), "nothing but zeros.*fetch it again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer.*git lfs pull"),
    "apple": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", r"AppleDouble.*without \._"),
    "login": (b"\n<!DOCTYPE html>\n<html><title>Earthdata Login</title>", r"web page \(HTML\).*login"),
    "html": (b"<html><head>", r"web page \(HTML\)"),
    "s3 error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "error message of object storage"),
    "json": (b'{"message": "Forbidden"}', "JSON text.*STAC"),
    "vrt": (b"<VRTDataset/>", "XML text.*gdal_translate -of COG"),
    "zip": (zipped(), "ZIP archive; unpack it"),
    "gzip": (gzip.compress(b"II*\0"), "gzip.*gunzip"),
    "tar": (tarred(), "tar archive; unpack it"),
    "jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 image; convert it"),
    "png": (b"\x89PNG\r\n\x1a\n", "picture without a place.*-a_srs"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "netCDF or HDF5.*NETCDF:"),
    "netcdf": (b"CDF\x01", "netCDF or HDF5"),
    "grib": (b"GRIB\0\0\0\x02", "GRIB file; convert it"),
    "nitf": (b"NITF02.10", "NITF file; convert it"),
    "words": (b"not a raster at all", "is not a GeoTIFF; convert it: gdal_translate -of COG"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_a_file_is_and_what_to_do_is_said(name: str, tmp_path: Path) -> None:
    content, lesson = KINDS[name]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(
        SceneError, match=rf"a\.tif is not a GeoTIFF.*{lesson.removeprefix('is not a GeoTIFF')}"
    ) as found:
        inspect(pin(ObjectRef.parse(str(path))))
    assert "damaged" not in str(found.value)


@pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="no gdal_translate: install gdal-bin")
@pytest.mark.parametrize("has_world_file", [True, False])
def test_what_is_said_of_a_picture_makes_a_scene_of_it(tmp_path: Path, has_world_file: bool) -> None:
    picture, scene = tmp_path / "a.png", tmp_path / "out.tif"
    Image.new("RGB", (8, 4), (60, 60, 60)).save(picture)
    with pytest.raises(SceneError) as found:
        inspect(pin(ObjectRef.parse(str(picture))))
    command = re.search(r"gdal_translate .* out\.tif", str(found.value))
    assert command
    bounds = " -a_ullr <x0> <y0> <x1> <y1>"
    words = command[0].replace("<code>", "32617").replace("<this>", str(picture)).replace("out.tif", str(scene))
    if has_world_file:
        picture.with_suffix(".pgw").write_text("10\n0\n0\n-10\n300005\n4499995\n")
        words = words.replace(bounds, "")
    else:
        words = words.replace(bounds, " -a_ullr 300000 4500000 300080 4499960")
    shell = {name: value for name, value in os.environ.items() if not name.startswith("GDAL_")}  # the user's, not ours
    subprocess.run(words.split(), check=True, capture_output=True, env=shell)
    grid = inspect(pin(ObjectRef.parse(str(scene)))).grid
    assert (grid.crs, grid.bounds) == ("EPSG:32617", (300000, 4499960, 300080, 4500000))


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=HEAD_BYTES), st.text(max_size=200).map(str.encode)))
def test_only_what_begins_like_a_tiff_is_called_damaged(head: bytes) -> None:
    lesson = lesson_of(head)
    assert lesson.startswith("is not a GeoTIFF")
    assert ";" in lesson, "a remedy follows"
    assert ("damaged" in lesson) is head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
