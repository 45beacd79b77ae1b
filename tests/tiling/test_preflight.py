"""What the header of a file says, against rasterio, and what a warning is for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from earthloom.tiling.errors import SceneError, StorageError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.preflight import inspect, inspect_apart
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.storage.objects import ObjectRef
from tests.http_range_server import serve
from tests.scenes import landscape, write_scene
from tests.tiling.headers import asset, header, ramp

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_header_says_what_rasterio_says(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(700, 500, 3), ("B02", None, "nir"), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4, 1e-4, 1.0), (0.0, -0.1, 0.0)
        dataset.update_tags(2, solar="1959")
    found = header(path)
    with rasterio.open(path) as dataset:
        assert found.grid.affine == dataset.transform
        assert found.grid.shape == dataset.shape
        assert found.colors == tuple(color.name for color in dataset.colorinterp)
    assert found.grid.crs == "EPSG:32617"
    assert found.count == 3
    assert found.dtypes == ("uint16",) * 3
    assert found.nodata == (0.0, 0.0, 0.0)
    assert found.descriptions == ("B02", None, "nir")
    assert (found.scales, found.offsets) == ((1e-4, 1e-4, 1.0), (0.0, -0.1, 0.0))
    assert dict(found.tags[1])["solar"] == "1959"
    assert found.datetime == "2026-07-01T10:00:00"
    assert found.mask == "none"
    assert (found.warnings, found.fill) == ((), ())


def test_a_date_of_zeros_is_no_date(tmp_path: Path) -> None:
    assert header(write_scene(tmp_path / "a.tif", ramp(), date="0000:00:00 00:00:00")).datetime is None


def test_an_internal_mask_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_scene(path, ramp())
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(ramp()[0] > 9)
    assert header(path).mask == "internal"


def test_a_crs_near_to_a_code_keeps_its_wkt(tmp_path: Path) -> None:
    almost_utm_17 = "+proj=tmerc +lat_0=0 +lon_0=-81 +k=0.9996 +x_0=500001 +y_0=0 +datum=WGS84"
    path = write_scene(tmp_path / "a.tif", ramp(), crs=almost_utm_17)
    assert header(path).grid.crs.startswith("PROJCS")


def test_absent_tiles_without_nodata_are_a_warning(tmp_path: Path) -> None:
    pixels = np.zeros((1, 600, 600), "uint8")
    pixels[:, :256, :256] = 7
    path = write_scene(tmp_path / "a.tif", pixels, sparse_ok=True)
    (sign,) = header(path).fill
    assert "8 tiles are absent" in sign.text
    assert header(write_scene(tmp_path / "b.tif", pixels, sparse_ok=True, nodata=0)).fill == ()


def test_nodata_that_cannot_occur_is_dropped_with_a_warning(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp(dtype="uint8"))
    data = path.read_bytes()
    with rasterio.open(write_scene(tmp_path / "b.tif", ramp(dtype="uint8"), nodata=200)) as dataset:
        assert dataset.nodata == 200
    patched = (tmp_path / "b.tif").read_bytes().replace(b"200\x00", b"300\x00")
    assert data != patched
    (tmp_path / "b.tif").write_bytes(patched)
    found = header(tmp_path / "b.tif")
    assert found.nodata == (None,)
    assert found.warnings == () or "nodata 300 cannot occur in uint8" in found.warnings[0]


@pytest.mark.parametrize(("fill", "dtype"), [(0, "uint8"), (255, "uint8"), (65535, "uint16"), (0, "float32")])
def test_a_constant_border_without_nodata_is_a_warning(tmp_path: Path, fill: int, dtype: str) -> None:
    pixels = ramp(2, dtype)
    pixels[:, :80, :80] = fill
    (sign,) = header(write_scene(tmp_path / "a.tif", pixels)).fill
    assert sign.value == fill
    assert sign.text.startswith(f"7.1 % of the pixels looked at hold nothing but {fill} in every band")  # 80^2 / 300^2
    assert f"`nodata={fill}`" in sign.text
    assert header(write_scene(tmp_path / "b.tif", pixels, nodata=fill)).fill == ()


def test_a_dark_band_alone_is_no_border(tmp_path: Path) -> None:
    pixels = ramp(2)
    pixels[0] = 0
    assert header(write_scene(tmp_path / "a.tif", pixels)).fill == ()


def test_inspection_in_another_process_finds_the_same_and_hashes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = asset(write_scene(tmp_path / "a.tif", landscape(700, 500, 2), nodata=0))
    expected = inspect(pinned)
    memory = identity.memory_of(pinned)
    assert memory is not None
    assert "sha256:" + memory[1] == pinned.identity
    with Disposables() as pool:
        assert inspect_apart(pool, pinned) == expected
        forged = dataclasses.replace(pinned, identity="sha256:" + "0" * 64)
        monkeypatch.setattr(identity, "_seen", {memory[0]: "0" * 64})
        assert inspect_apart(pool, forged) == expected, "the child believed its parent and did not hash"


def test_a_header_that_was_read_before_and_fails_without_a_reason_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "a.tif", landscape(70, 50, 3), nodata=0)

    def fails(*_: Any, **__: Any) -> Any:
        raise rasterio.errors.RasterioIOError("TIFFReadDirectory:Failed to read directory at offset 648824")

    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))
        monkeypatch.setattr(rasterio, "open", fails)
        with pytest.raises(StorageError, match="the storage faltered") as caught, open_asset(remote, checked=True):
            pytest.fail("nothing is there")
        assert caught.value.transient
        with pytest.raises(SceneError, match="damaged or cut short"), open_asset(remote):
            pytest.fail("nothing is there")
