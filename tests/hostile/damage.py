"""Scenes of monstrous size, with damaged bytes, or whose values or place mean nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC

from tests.hostile import tiff
from tests.hostile.making import BANDS, DAMAGED, NOT_TIFF, Canary, empty, harmless, plain, refused
from tests.scenes import landscape, write_scene

# ---- sizes


@refused(r"internal tiles of 65536 x 65536 px, 8192 MiB decoded, over the limit of 256 MiB.*rewrite")
def one_huge_tile(path: Path, canary: Canary) -> None:
    empty(path, width=65536, height=65536, count=1, blockxsize=65536, blockysize=65536)


@refused(r"internal tiles of 30000 x 30000 px")
def one_huge_strip(path: Path, canary: Canary) -> None:
    empty(path, width=30000, height=30000, count=1, tiled=False, blockxsize=None, blockysize=30000)


@refused(r"internal tiles of 8192 x 8192 px, 1024 MiB decoded")
def interleaved_bands_in_one_tile(path: Path, canary: Canary) -> None:
    empty(path, width=8192, height=8192, count=8, interleave="pixel", blockxsize=8192, blockysize=8192)


@refused(r"declares 1048576 x 1048576 px in 2 bands; at most")
def huge_image(path: Path, canary: Canary) -> None:
    empty(path, width=2**20, height=2**20, blockxsize=8192, blockysize=8192, count=2)


@refused(r"declares 64 x 64 px in 600 bands; at most .* 512 bands")
def very_many_bands(path: Path, canary: Canary) -> None:
    empty(path, width=64, height=64, count=600, blockxsize=64, blockysize=64)


@refused(r"\(directory 2\) has internal tiles of 32768 x 32768 px")
def huge_tile_of_the_mask(path: Path, canary: Canary) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        plain(path)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.arange(90_000).reshape(300, 300) % 7 > 0)
    for tag in (tiff.TILE_WIDTH, tiff.TILE_HEIGHT):
        tiff.set_field(path, tag, 32768, directory=1)


@refused(r"internal tiles|" + DAMAGED)
def tile_size_that_overflows(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_field(path, tiff.TILE_WIDTH, 65520)
    tiff.set_field(path, tiff.TILE_HEIGHT, 65520)


@harmless
def width_that_outruns_the_index(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_field(path, tiff.WIDTH, 60000)


@harmless
def four_billion_tiles_declared(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_count(path, tiff.TILE_OFFSETS, 0xFFFFFFF0)


@refused(r"said more of it than the 16 MiB|would take more than|could not be checked")
def tags_without_end(path: Path, canary: Canary) -> None:
    plain(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(1, story="x" * (24 << 20))


@refused(DAMAGED)
def directories_in_a_circle(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_next_directory(path, 8)
    tiff.set_field(path, tiff.COMPRESSION, 7)


# ---- damage


def _cut(path: Path, share: float) -> None:
    """Keep the first part of a COG, whose headers come first."""
    whole = plain(path.with_suffix(".whole"))
    rasterio.shutil.copy(whole, path, driver="COG", blocksize=128)
    whole.unlink()
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@refused(NOT_TIFF + "|" + DAMAGED)
def cut_in_the_header(path: Path, canary: Canary) -> None:
    _cut(path, 0.0003)


@refused(r"is cut short: tile .* ends at byte \d+ but the file has \d+ bytes; fetch it again")
def cut_in_the_middle(path: Path, canary: Canary) -> None:
    _cut(path, 0.5)


@refused(r"is cut short: tile .* ends at byte")
def cut_at_the_end(path: Path, canary: Canary) -> None:
    _cut(path, 0.999)


@refused(DAMAGED)
def cut_before_the_tags(path: Path, canary: Canary) -> None:
    data = plain(path, date=None).read_bytes()
    path.write_bytes(data[: len(data) // 3])


@refused(r"is cut short: tile 1, 0 of band 1 ends at byte \d+ but the file has \d+ bytes; fetch it again")
def tile_past_the_end(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_array(path, tiff.TILE_OFFSETS, 1, 0xFFFFFF00)


@refused(r"tile 1, 0 of band 1 and tile 0, 0 of band 1 lie in the same bytes.*Fetch it again")
def two_tiles_in_one_place(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_array(path, tiff.TILE_OFFSETS, 1, tiff.get_array(path, tiff.TILE_OFFSETS)[0])


@harmless
def absent_tiles(path: Path, canary: Canary) -> None:
    plain(path, nodata=0)
    for index in range(2):
        tiff.set_array(path, tiff.TILE_OFFSETS, index, 0)
        tiff.set_array(path, tiff.TILE_SIZES, index, 0)


@refused(DAMAGED)
def pixels_of_noise(path: Path, canary: Canary) -> None:
    data = bytearray(plain(path).read_bytes())
    start = tiff.get_array(path, tiff.TILE_OFFSETS)[0]
    data[start : start + 400] = np.random.default_rng(2).bytes(400)
    path.write_bytes(data)


@refused(DAMAGED)
def unknown_compression(path: Path, canary: Canary) -> None:
    plain(path)
    tiff.set_field(path, tiff.COMPRESSION, 60001)


# ---- values


@harmless
def not_a_number_anywhere(path: Path, canary: Canary) -> None:
    write_scene(path, np.full((2, 300, 300), np.nan, np.float32), BANDS)


@harmless
def infinite_everywhere(path: Path, canary: Canary) -> None:
    write_scene(path, np.full((2, 300, 300), np.inf, np.float32), BANDS)


@harmless
def nodata_everywhere(path: Path, canary: Canary) -> None:
    write_scene(path, np.zeros((2, 300, 300), np.uint16), BANDS, nodata=0)


@refused(r"band 1 holds complex64 values; models read real numbers: take the intensity")
def complex_numbers(path: Path, canary: Canary) -> None:
    write_scene(path, landscape(300, 300, 2).astype(np.complex64), BANDS)


@refused(r"band 1 holds complex_int16 values")
def complex_integers(path: Path, canary: Canary) -> None:
    empty(path, width=300, height=300, dtype="complex_int16")


@refused(r"band 1 declares the scale nan and offset 0.0; mend them")
def scale_that_is_no_number(path: Path, canary: Canary) -> None:
    plain(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (np.nan, 1.0)


# ---- places


@refused(r"has no CRS, so its map would lie nowhere; set it: gdal_edit")
def no_crs(path: Path, canary: Canary) -> None:
    plain(path, crs=None)


@refused(r"only located by ground control points.*warp it first")
def control_points_only(path: Path, canary: Canary) -> None:
    plain(path, crs=None)
    with rasterio.open(path, "r+") as dataset:
        points = [GroundControlPoint(row=r, col=c, x=c / 99, y=-r / 99) for r, c in ((0, 0), (0, 99), (99, 0))]
        dataset.gcps = (points, CRS.from_epsg(4326))


@refused(r"only located by an RPC model")
def rational_polynomials_only(path: Path, canary: Canary) -> None:
    unit = [1.0] + [0.0] * 19
    plain(path, crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.rpcs = RPC(
            height_off=0, height_scale=1, lat_off=0, lat_scale=1, line_den_coeff=unit, line_num_coeff=unit, line_off=0,
            line_scale=1, long_off=0, long_scale=1, samp_den_coeff=unit, samp_num_coeff=unit, samp_off=0, samp_scale=1,
            err_bias=None, err_rand=None,
        )  # fmt: skip


@refused(r"CRS of kind LOCAL_CS, which is not tied to Earth's surface; set the real one")
def building_plan(path: Path, canary: Canary) -> None:
    plain(path, crs=CRS.from_wkt('LOCAL_CS["site plan",UNIT["metre",1]]'))


@refused(r"rotated or sheared transform .*warp it to a north-up grid first")
def rotated(path: Path, canary: Canary) -> None:
    plain(path, transform=Affine(10, 3, 3e5, 3, -10, 4.5e6))


@refused(r"is no scene of Earth: .* the Moon, of 1737\.4 km radius, and Earth has 6378\.1 km; leave it out")
def map_of_the_moon(path: Path, canary: Canary) -> None:
    plain(path, crs=CRS.from_proj4("+proj=eqc +R=1737400 +units=m"))


@refused(r"EPSG:4326 and covers latitudes from .* to 4500000 degrees, where only -90 to 90 are possible.*gdal_edit")
def metres_called_degrees(path: Path, canary: Canary) -> None:
    plain(path, crs="EPSG:4326", transform=Affine(10, 0, 3e5, 0, -10, 4.5e6))


@refused(r"in EPSG:32633, which is nowhere on Earth: its CRS or its geotransform is wrong.*gdal_edit")
def place_off_the_earth(path: Path, canary: Canary) -> None:
    plain(path, crs="EPSG:32633", transform=Affine(10, 0, 1e8, 0, -10, 1e8))


@refused(r"EPSG:2056, which is around .*, but that CRS is used from .* degrees away .*gdalwarp -t_srs")
def place_far_from_its_crs(path: Path, canary: Canary) -> None:
    plain(path, crs="EPSG:2056", transform=Affine(10, 0, 0, 0, -10, 0))


@refused(r"geostationary image with space around the Earth.*onto.*gdalwarp -t_srs EPSG:4326")
def disc_in_space(path: Path, canary: Canary) -> None:
    plain(
        path,
        crs=CRS.from_proj4("+proj=geos +h=35785831 +lon_0=0 +ellps=WGS84"),
        transform=Affine(1.1e5, 0, -5.5e6, 0, -1.1e5, 5.5e6),
    )


@refused(r"no CRS and no geotransform.*world_file\.tfw beside it is not read.*gdal_translate")
def world_file(path: Path, canary: Canary) -> None:
    with warnings.catch_warnings(action="ignore"):
        plain(path, crs=None, transform=Affine.identity())
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n300005\n4499995\n")


@refused(r"has a CRS but no geotransform")
def crs_without_a_place(path: Path, canary: Canary) -> None:
    with warnings.catch_warnings(action="ignore"):
        plain(path, transform=Affine.identity())


@refused(r"unusable transform|no geotransform")
def place_that_is_no_number(path: Path, canary: Canary) -> None:
    plain(path, transform=Affine(float("nan"), 0, 3e5, 0, -10, 4.5e6))
