"""The frame of a JPEG 2000 file, against files that GDAL writes and what damage makes of them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.codestream import tile_shape
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.preflight import Limits, inspect
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef
from tests.acquisitions import write_jp2


def asset(path: Path) -> Asset:
    pinned = pin(ObjectRef.parse(str(path)))
    return Asset(ref=pinned.ref, identity=pinned.identity, driver="JP2OpenJPEG")


def written(path: Path, rows: int = 300, cols: int = 200, tile: int = 128) -> bytes:
    write_jp2(path, np.arange(rows * cols, dtype=np.uint16).reshape(rows, cols), 10, blockxsize=tile, blockysize=tile)
    return path.read_bytes()


def declaring(data: bytes, **changes: int) -> bytes:
    """The file with other numbers in its SIZ marker."""
    names = ("width", "height", "left", "top", "cols", "rows", "tiles_left", "tiles_top")
    start = data.index(b"\xff\x4f\xff\x51") + 8
    numbers = dict(zip(names, struct.unpack_from(">8I", data, start), strict=True)) | changes
    return data[:start] + struct.pack(">8I", *numbers.values()) + data[start + 32 :]


@pytest.mark.parametrize(("tile", "shape"), [(64, (64, 64)), (128, (128, 128)), (4096, (300, 200))])
def test_tiles_are_as_large_as_they_were_written(tile: int, shape: tuple[int, int], tmp_path: Path) -> None:
    written(tmp_path / "a.jp2", tile=tile)
    assert tile_shape(asset(tmp_path / "a.jp2")) == shape


def test_an_image_whose_one_tile_would_fill_memory_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jp2"
    path.write_bytes(declaring(written(path, tile=4096), width=60_000, height=60_000, cols=60_000, rows=60_000))
    with pytest.raises(SceneError, match=r"internal tiles of 60000 x 60000 px, 13733 MiB decoded"):
        inspect(asset(path))


def test_an_image_larger_than_any_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.jp2"
    path.write_bytes(declaring(written(path), width=2**31 - 1, height=2**31 - 1))
    with pytest.raises(SceneError):
        inspect(asset(path), limits=Limits())


def test_an_image_that_ends_early_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    data = written(path)
    for kept in (len(data) - 1, len(data) - 200, len(data) // 2, 100):
        path.write_bytes(data[:kept])
        with pytest.raises(SceneError, match=r"a\.jp2 (is cut short|holds no JPEG 2000 image)"):
            tile_shape(asset(path))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 300), byte=st.integers(0, 255), size=st.integers(0, 400))
def test_whatever_the_first_bytes_are_the_answer_is_a_shape_or_a_refusal(
    place: int, byte: int, size: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.jp2"
    kept = tmp_path / "kept.jp2"
    data = bytearray(kept.read_bytes() if kept.exists() else written(kept))
    data[place] = byte
    path.write_bytes(bytes(data if size == 0 else data[: len(data) - size]))
    words, shape = "a.jp2", (1, 1)
    try:
        shape = tile_shape(asset(path))
    except SceneError as error:
        words = str(error)
    assert "a.jp2" in words
    assert min(shape) > 0
