from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.windows import Window

from earthloom.tiling.errors import SceneError, StorageError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.preflight import Header, Limits, inspect, inspect_apart
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from tests.http_range_server import serve
from tests.scenes import landscape, write_scene


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHLOOM_CACHE", str(tmp_path / "cache"))


def asset(path: Path) -> Asset:
    return pin(ObjectRef.parse(str(path)))


def header(path: Path, **limits: Any) -> Header:
    return inspect(asset(path), limits=Limits(**limits))


def ramp(count: int = 1, dtype: str = "uint8", side: int = 300) -> np.ndarray[Any, np.dtype[Any]]:
    """Values of which no corner is constant."""
    return (np.arange(count * side * side).reshape(count, side, side) % 251 + 1).astype(dtype)


def test_the_header_says_what_rasterio_says(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", landscape(700, 500, 3), ("B02", None, "nir"), nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4, 1e-4, 1.0), (0.0, -0.1, 0.0)
        dataset.update_tags(2, solar="1959")
    found = header(path)
    with rasterio.open(path) as dataset:
        assert found.grid.affine == dataset.transform
        assert found.grid.shape == dataset.shape
        assert found.block_shape == dataset.block_shapes[0]
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


@pytest.mark.parametrize("content", [b"not a raster at all", b"", b"<VRTDataset rasterXSize='1'></VRTDataset>"])
def test_what_is_not_a_tiff_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"a\.tif is not a GeoTIFF(; convert it|: it is )"):
        header(path)


def test_a_vrt_called_tif_is_not_opened(tmp_path: Path) -> None:
    inner = write_scene(tmp_path / "inner.tif", ramp())
    path = tmp_path / "a.tif"
    path.write_text(
        "<VRTDataset rasterXSize='300' rasterYSize='300'><GeoTransform>9,1,0,9,0,-1</GeoTransform>"
        "<VRTRasterBand dataType='Byte' band='1'><SimpleSource>"
        f"<SourceFilename>{inner}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(SceneError, match="is not a GeoTIFF"):
        header(path)


def test_overviews_in_another_file_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp())
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE="/etc/passwd")
    with pytest.raises(SceneError, match=r"a\.tif names another file as its overviews \(OVERVIEW_FILE\)"):
        header(path)


def test_too_many_pixels_or_bands_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp(3))
    with pytest.raises(SceneError, match=r"declares 300 x 300 px in 3 bands; at most 80000 px"):
        header(path, size_px=80_000)
    with pytest.raises(SceneError, match=r"in 3 bands; at most .* px and 2 bands"):
        header(path, bands=2)


def test_a_tile_that_would_fill_memory_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    profile = {
        "driver": "GTiff", "width": 16384, "height": 16384, "count": 2, "dtype": "uint8", "crs": "EPSG:32617",
        "transform": Affine(10, 0, 0, 0, -10, 0), "tiled": True, "blockxsize": 16384, "blockysize": 16384,
        "compress": "deflate", "interleave": "pixel", "sparse_ok": True,
    }  # fmt: skip
    rasterio.open(path, "w", **profile).close()
    assert path.stat().st_size < 10_000
    with pytest.raises(SceneError, match=r"tiles of 16384 x 16384 px, 512 MiB decoded, over the limit of 256 MiB"):
        header(path)
    with rasterio.open(tmp_path / "by_band.tif", "w", **{**profile, "interleave": "band"}):
        pass
    assert header(tmp_path / "by_band.tif").block_shape == (16384, 16384)  # one band at a time: 256 MiB


def test_a_mask_with_tiles_that_would_fill_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_scene(path, ramp())
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(ramp()[0] > 9)
    assert header(path, block_bytes=256 * 256).mask == "internal"
    with pytest.raises(SceneError, match=r"a\.tif \(directory 2\) has internal tiles"):
        inspect_with_larger_mask_tiles(path)


def inspect_with_larger_mask_tiles(path: Path) -> None:
    """Patch TileWidth and TileLength of the second directory, as an attacker would."""
    data = bytearray(path.read_bytes())
    assert data[:4] == b"II*\0"
    first = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[first : first + 2], "little")
    after = first + 2 + entries * 12
    second = int.from_bytes(data[after : after + 4], "little")
    for number in range(int.from_bytes(data[second : second + 2], "little")):
        entry = second + 2 + number * 12
        if int.from_bytes(data[entry : entry + 2], "little") in (322, 323):
            width = 2 if data[entry + 2] == 3 else 4
            data[entry + 8 : entry + 8 + width] = (32768).to_bytes(width, "little")
    path.write_bytes(data)
    header(path)


def test_no_crs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"a\.tif has no CRS"):
        header(write_scene(tmp_path / "a.tif", ramp(), crs=None))


def test_a_scene_located_only_by_control_points_is_refused_as_such(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp(), crs=None)
    with rasterio.open(path, "r+") as dataset:
        points = [GroundControlPoint(row=r, col=c, x=c / 99, y=-r / 99) for r, c in ((0, 0), (0, 99), (99, 0))]
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    with pytest.raises(SceneError, match=r"only located by ground control points.*warp it first"):
        header(path)


def test_a_scene_located_only_by_an_rpc_model_is_refused_as_such(tmp_path: Path) -> None:
    coefficients = [1.0] + [0.0] * 19
    rpc = RPC(
        height_off=0, height_scale=1, lat_off=0, lat_scale=1, line_den_coeff=coefficients, line_num_coeff=coefficients,
        line_off=0, line_scale=1, long_off=0, long_scale=1, samp_den_coeff=coefficients, samp_num_coeff=coefficients,
        samp_off=0, samp_scale=1, err_bias=None, err_rand=None,
    )  # fmt: skip
    path = write_scene(tmp_path / "a.tif", ramp(), crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.rpcs = rpc
    with pytest.raises(SceneError, match="only located by an RPC model"):
        header(path)


def test_an_engineering_crs_is_refused(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site plan",UNIT["metre",1]]'
    with pytest.raises(SceneError, match="CRS of kind LOCAL_CS, which is not tied to Earth"):
        header(write_scene(tmp_path / "a.tif", ramp(), crs=rasterio.crs.CRS.from_wkt(local)))


def test_a_rotated_transform_is_refused_with_its_numbers(tmp_path: Path) -> None:
    rotated = Affine.translation(300000, 4500000) * Affine.rotation(10) * Affine.scale(10, -10)
    with pytest.raises(SceneError, match=r"rotated or sheared transform \(9\.84.*gdalwarp"):
        header(write_scene(tmp_path / "a.tif", ramp(), transform=rotated))


def test_complex_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="band 1 holds complex64 values"):
        header(write_scene(tmp_path / "a.tif", ramp(dtype="complex64")))


def test_a_scale_of_zero_is_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp())
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (0.0,)
    with pytest.raises(SceneError, match=r"band 1 declares the scale 0\.0"):
        header(path)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_file_that_is_cut_short_is_refused_though_gdal_opens_it(tmp_path: Path, interleave: str) -> None:
    rng = np.random.default_rng(1).integers(1, 255, (3, 600, 600)).astype("uint8")
    whole = write_scene(tmp_path / "whole.tif", rng, interleave=interleave, date=None)  # its directory comes first
    path = tmp_path / "a.tif"
    path.write_bytes(whole.read_bytes()[:-1000])
    with rasterio.open(path) as dataset:
        assert dataset.shape == (600, 600)
    with pytest.raises(SceneError, match=r"cut short: tile \d, \d of band \d ends at byte \d+ but the file has \d+"):
        header(path)
    with pytest.raises(SceneError, match="cut short"):
        header(path, indexed_blocks=2)  # a sample holds both ends


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


def test_a_web_scene_is_read_under_its_etag_and_refused_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "a.tif", landscape(700, 500, 3), nodata=0)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))
        server.requests.clear()
        assert inspect(remote).dtypes == ("uint16",) * 3
        assert server.requests
        tag = f'"{remote.identity.split(":")[1]}"'
        assert {headers.get("If-Match") for _, _, headers in server.requests} == {tag}
        with open_asset(remote) as dataset, rasterio.open(tmp_path / "a.tif") as local:
            np.testing.assert_array_equal(dataset.read(), local.read())

        write_scene(tmp_path / "a.tif", landscape(700, 500, 3, seed=5), nodata=0)
        with pytest.raises(SceneError, match=r"changed since it was checked: it was etag:"), open_asset(remote):
            pytest.fail("the old identity opened the new bytes")
        (tmp_path / "a.tif").unlink()
        with pytest.raises(SceneError, match=r"a\.tif is gone"), open_asset(remote):
            pytest.fail("nothing is there")


def test_a_change_between_two_reads_is_an_error_and_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(2).integers(1, 60_000, (1, 2048, 2048)).astype("uint16")
    write_scene(tmp_path / "a.tif", noise)
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))

        def read_across_the_change() -> None:
            with open_asset(remote) as dataset:
                dataset.read(1, window=Window(0, 0, 64, 64))
                write_scene(tmp_path / "a.tif", noise[:, ::-1])
                dataset.read(1, window=Window(0, 1800, 2048, 248))

        with pytest.raises(SceneError, match="changed since it was checked"):
            read_across_the_change()


def test_a_busy_server_is_worth_another_try_and_a_damaged_local_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_scene(
        tmp_path / "a.tif", np.random.default_rng(2).integers(1, 60_000, (1, 1024, 1024)).astype("uint16")
    )

    def read_the_end(pinned: Asset) -> None:
        with open_asset(pinned) as dataset:
            server.busy = True
            dataset.read(1, window=Window(0, 1000, 1024, 24))

    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        with pytest.raises(StorageError, match="the storage faltered, or the file is damaged") as caught:
            read_the_end(pin(ObjectRef.parse(server.url("a.tif"))))
        assert caught.value.transient
    with rasterio.open(path) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 2000] = bytes(2000)
    path.write_bytes(damaged)
    with pytest.raises(SceneError, match=r"cannot decode .*a\.tif: .*damaged"):
        read_the_end(asset(path))


def test_nothing_but_the_asset_can_be_read_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.tif", "secret.tif"):
        write_scene(tmp_path / name, ramp())
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        remote = pin(ObjectRef.parse(server.url("a.tif")))
        with open_asset(remote), pytest.raises(rasterio.errors.RasterioIOError):
            rasterio.open(f"/vsicurl/{server.url('secret.tif')}")
        assert server.asked("GET", "secret.tif") == 0


def test_assets_are_open_side_by_side_in_threads_without_mixing_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_threads = 6
    for number in range(n_threads):
        write_scene(tmp_path / f"{number}.tif", landscape(300, 300, 1, seed=number))
    failures: list[BaseException] = []
    with serve(tmp_path) as server:
        monkeypatch.setenv("EARTHLOOM_HTTP_HOSTS", server.host)
        assets = [pin(ObjectRef.parse(server.url(f"{number}.tif"))) for number in range(n_threads)]
        barrier = threading.Barrier(n_threads)

        def read(number: int) -> None:
            try:
                barrier.wait(120)
                for _ in range(5):
                    with open_asset(assets[number]) as dataset, rasterio.open(tmp_path / f"{number}.tif") as local:
                        np.testing.assert_array_equal(dataset.read(), local.read())
            except BaseException as error:  # an assertion in a thread would be lost
                failures.append(error)

        with open_asset(assets[0]):  # options of the main thread must not reach the others
            threads = [threading.Thread(target=read, args=(number,)) for number in range(n_threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert failures == []


def test_a_local_file_replaced_after_pinning_is_not_opened(tmp_path: Path) -> None:
    pinned = asset(write_scene(tmp_path / "a.tif", ramp()))
    write_scene(tmp_path / "a.tif", ramp(2))
    with pytest.raises(SceneError, match="changed since it was checked"), open_asset(pinned):
        pytest.fail("other bytes were opened")


@pytest.mark.s3
@pytest.mark.usefixtures("s3_env")
def test_an_s3_scene_is_read_under_its_etag_and_refused_when_it_changes(tmp_path: Path) -> None:
    ref = ObjectRef.parse("s3://scenes/preflight/a.tif")
    path = write_scene(tmp_path / "a.tif", landscape(700, 500, 2), nodata=0)
    open_store(ref).put("", path.read_bytes())
    remote = pin(ref)
    assert inspect(remote).grid == header(path).grid
    with open_asset(remote) as dataset, rasterio.open(path) as local:
        np.testing.assert_array_equal(dataset.read(), local.read())
    open_store(ref).put("", write_scene(tmp_path / "b.tif", landscape(700, 500, 2, seed=3)).read_bytes())
    with pytest.raises(SceneError, match="changed since it was checked"), open_asset(remote):
        pytest.fail("the old identity opened the new bytes")


def test_two_tiles_in_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp(side=600), compress=None)
    with rasterio.open(path) as dataset:
        first, second = (int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_0", "TIFF", bidx=1)) for col in (0, 1))
    data = path.read_bytes()
    assert data.count(second.to_bytes(4, "little")) == 1
    path.write_bytes(data.replace(second.to_bytes(4, "little"), first.to_bytes(4, "little")))
    with pytest.raises(SceneError, match=r"a\.tif: tile 1, 0 of band 1 and tile 0, 0 of band 1 lie in the same bytes"):
        header(path)


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
