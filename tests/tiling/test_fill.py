"""Undeclared fill, wherever it lies, against counts by numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling

from earthloom.tiling.reading.fill import Fill
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.preflight import inspect
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import landscape, write_scene

LOWEST = float(np.finfo(np.float32).min)


def signs(path: Path) -> tuple[Fill, ...]:
    return inspect(pin(ObjectRef.parse(str(path)))).fill


def pixels(dtype: str, side: int = 200) -> NDArray[Any]:
    hills = landscape(side, side, 2)
    return (hills % 200 + 20).astype(dtype) if dtype == "uint8" else hills.astype(dtype)


def a_wedge(side: int) -> NDArray[np.bool_]:
    rows, cols = np.mgrid[:side, :side]
    where: NDArray[np.bool_] = rows + 6 * cols < side // 2
    return where


def a_hole(side: int) -> NDArray[np.bool_]:
    where = np.zeros((side, side), np.bool_)
    where[90:115, 70:150] = True
    return where


def lines(side: int) -> NDArray[np.bool_]:
    where = np.zeros((side, side), np.bool_)
    where[50::40, 5:-30] = True
    return where


@pytest.mark.parametrize("shape", [a_wedge, a_hole, lines])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("uint8", 0), ("uint16", 0), ("uint16", 65535), ("int16", -9999), ("int16", -32768), ("float32", 0),
     ("float32", LOWEST), ("float32", -3.4e38), ("float32", -9999), ("float32", 1e20)],
)  # fmt: skip
def test_fill_is_found_in_every_shape_and_spelling(shape: Any, dtype: str, fill: float, tmp_path: Path) -> None:
    if fill == 65535 and shape is not a_hole:
        pytest.skip("the highest value of whole numbers is saturation as well, and only squares of it are told")
    where = shape(200)
    scene = pixels(dtype)
    scene[:, where] = np.dtype(dtype).type(fill)
    (sign,) = signs(write_scene(tmp_path / "a.tif", scene))
    assert sign.value == float(np.dtype(dtype).type(fill))
    assert f"`nodata={sign.value:.9g}`" in sign.text
    assert signs(write_scene(tmp_path / "b.tif", scene, nodata=sign.value)) == ()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, 120), col=st.integers(0, 120), height=st.integers(1, 80), width=st.integers(1, 80))
def test_a_rectangle_of_fill_is_told_if_a_side_of_it_is_long(
    row: int, col: int, height: int, width: int, tmp_path: Path
) -> None:
    scene = pixels("uint16")
    scene[:, row : row + height, col : col + width] = 0
    found = signs(write_scene(tmp_path / "a.tif", scene))
    if max(height, width) < 16:
        assert found == ()
    else:
        (sign,) = found
        share, _, rest = sign.text.partition(" % ")
        # of two digits; a tie may be rounded either way
        assert float(share) == pytest.approx(100 * height * width / 200**2, rel=0.05)
        assert rest.startswith("of the pixels looked at")


@pytest.mark.parametrize(
    ("n_corners", "words"),
    [(0, "long stretches, and"), (1, "at one of the four corners, and"), (2, "two of the four corners among them, and"),
     (4, "all of the four corners among them, and")],
)  # fmt: skip
def test_corners_that_are_fill_are_counted(n_corners: int, words: str, tmp_path: Path) -> None:
    scene = pixels("uint16")
    scene[:, 90:110, 90:110] = 0
    for row, col in [(0, 0), (0, 160), (160, 0), (160, 160)][:n_corners]:
        scene[:, row : row + 40, col : col + 40] = 0
    (sign,) = signs(write_scene(tmp_path / "a.tif", scene))
    assert words in sign.text


def test_fill_in_one_band_alone_or_in_short_runs_is_none(tmp_path: Path) -> None:
    scene = pixels("uint16")
    scene[0, :, :60] = 0
    scene[:, 100:115, 100:115] = 0
    assert signs(write_scene(tmp_path / "a.tif", scene)) == ()


def test_fill_beside_another_declared_nodata_is_told_with_both(tmp_path: Path) -> None:
    scene = pixels("int16")
    scene[:, :20], scene[:, -20:] = -9999, 0
    (sign,) = signs(write_scene(tmp_path / "a.tif", scene, nodata=-9999))
    assert (sign.value, "the declared nodata is -9999" in sign.text) == (0, True)
    assert "make both one: gdalwarp -srcnodata 0 -dstnodata -9999 in.tif out.tif" in sign.text


@pytest.mark.parametrize("overviews", [True, False])
def test_of_a_large_file_a_sample_is_read(overviews: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthloom.tiling.reading.fill.SAMPLE_PX", 100_000)
    side = 1200
    scene = np.tile(pixels("uint16"), (1, 6, 6))
    rows, cols = np.mgrid[:side, :side]
    scene[:, rows + 2 * cols < 700] = 0
    path = write_scene(tmp_path / "a.tif", scene)
    if overviews:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews([2, 4, 8], Resampling.nearest)
    (sign,) = signs(path)
    share = float(sign.text.partition(" %")[0])
    assert share == pytest.approx(100 * (scene[0] == 0).mean(), rel=0.05 if overviews else 1)
