"""Files that are refused before a pixel of them is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from earthloom.tiling.errors import SceneError
from tests.scenes import write_scene
from tests.tiling.headers import header, ramp

pytestmark = pytest.mark.usefixtures("own_cache")


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
    assert header(tmp_path / "by_band.tif").count == profile["count"]  # one band at a time: 256 MiB


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
    with pytest.raises(SceneError, match=r"a\.tif has no CRS.*: gdal_edit\.py -a_srs EPSG:<code> a\.tif$"):
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


def test_two_tiles_in_the_same_bytes_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", ramp(side=600), compress=None)
    with rasterio.open(path) as dataset:
        first, second = (int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_0", "TIFF", bidx=1)) for col in (0, 1))
    data = path.read_bytes()
    assert data.count(second.to_bytes(4, "little")) == 1
    path.write_bytes(data.replace(second.to_bytes(4, "little"), first.to_bytes(4, "little")))
    with pytest.raises(SceneError, match=r"a\.tif: tile 1, 0 of band 1 and tile 0, 0 of band 1 lie in the same bytes"):
        header(path)


def test_a_file_that_is_cut_short_behind_its_pixels_is_refused(tmp_path: Path) -> None:
    """GDAL opens it, but without scale, offset and names of bands, which would be taken for unsaid."""
    path = write_scene(tmp_path / "a.tif", ramp(), ("red",), nodata=-9999 if ramp().dtype.kind == "i" else None)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4,), (-0.1,)
    data = path.read_bytes()
    assert header(path).offsets == (-0.1,)
    path.write_bytes(data[:-5])
    with rasterio.open(path) as dataset:
        assert (dataset.offsets, dataset.descriptions) == ((0.0,), (None,)), "GDAL goes on without them"
    with pytest.raises(SceneError, match=r"a\.tif is cut short: what its tags GDALMetadata say .*; fetch it again"):
        header(path)
