from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from tiling import cog
from tiling.cog import CogProfile, TileSpool, encode_tile
from tiling.errors import PublishError, TilingError
from tiling.grid import Grid
from tiling.overview import reduce_mean, reduce_mode

WKT = (
    'PROJCS["own",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",47],'
    'PARAMETER["longitude_of_center",11],PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
GRIDS = {
    "utm": Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=1500, height=1101),
    "degrees": Grid(crs="EPSG:4326", transform=(0.000269, 0, -112.9, 0, -0.000269, 41), width=513, height=40),
    "south up": Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, 10, 4500000), width=30, height=700),
    "own crs": Grid(crs=WKT, transform=(30, 0, -5000, 0, -30, 5000), width=1025, height=1024),
    "one pixel": Grid(crs="EPSG:3857", transform=(30, 0, -5000, 0, -30, 5000), width=1, height=1),
}


def class_map(grid: Grid) -> NDArray[np.uint8]:
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 5, (-(-grid.height // 3), -(-grid.width // 3)))
    pixels = np.kron(coarse, np.ones((3, 3))).astype(np.uint8)[: grid.height, : grid.width]
    pixels[: grid.height // 3, : grid.width // 3] = 255
    return np.ascontiguousarray(pixels)


def write(grid: Grid, pixels: NDArray[np.uint8], target: Path) -> CogProfile:
    profile = CogProfile(
        grid=grid,
        descriptions=("class",),
        colormap={value: (value * 40, 255 - value * 40, 9) for value in range(5)},
        dataset_tags={"MODEL": "x"},
        band_tags=({"CLASS_0": "a & b", "STATISTICS_MINIMUM": "0"},),
    )
    with TileSpool(profile, target.with_suffix(".tiles")) as spool:
        for level in range(len(profile.shapes)):
            for row in reversed(range(0, pixels.shape[0], 512)):  # any order of arrival
                spool.add_pixels(level, row, 0, pixels[None, row : row + 512])
            pixels = reduce_mode(pixels)
        spool.write(target, profile)
    return profile


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("big", [False, True])
def test_gdal_reads_the_same_pixels_and_the_validator_finds_nothing(
    name: str, big: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if big:
        monkeypatch.setattr(cog, "_CLASSIC_BYTES", 0)
    grid, target = GRIDS[name], tmp_path / "map.tif"
    pixels = class_map(grid)
    profile = write(grid, pixels, target)
    assert target.read_bytes()[2] == (43 if big else 42)
    assert cog_validate(target, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(target) as dataset:
        assert (dataset.read(1) == pixels).all()
        assert dataset.crs == CRS.from_string(grid.crs)
        assert dataset.transform == grid.affine
        assert dataset.nodata == 255
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.tags()["MODEL"] == "x"
        assert dataset.tags(1)["CLASS_0"] == "a & b"
        assert dataset.descriptions == ("class",)
        assert dataset.colorinterp == (ColorInterp.palette,)
        assert dataset.colormap(1)[2] == (80, 175, 9, 255)
        assert len(dataset.overviews(1)) == len(profile.shapes) - 1
    for level in range(1, len(profile.shapes)):
        pixels = reduce_mode(pixels)
        with rasterio.open(target, overview_level=level - 1) as overview:
            assert (overview.read(1) == pixels).all()


def test_a_file_with_a_missing_tile_is_never_written(tmp_path: Path) -> None:
    grid = GRIDS["utm"]
    target = tmp_path / "map.tif"
    profile = CogProfile(grid=grid, descriptions=("class",))
    with TileSpool(profile, tmp_path / "tiles") as spool:
        spool.add_pixels(0, 0, 0, np.zeros((1, 1101, 1500), np.uint8))
        with pytest.raises(PublishError, match="5 of 14 tiles are missing"):
            spool.write(target, profile)
    assert not target.exists()
    assert not (tmp_path / "tiles").exists(), "scratch is left behind"


def test_the_same_tiles_give_the_same_bytes(tmp_path: Path) -> None:
    pixels = class_map(GRIDS["utm"])
    write(GRIDS["utm"], pixels, tmp_path / "one.tif")
    write(GRIDS["utm"], pixels, tmp_path / "two.tif")
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()


def test_tiles_of_the_wrong_size_or_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TilingError, match="at most 512"):
        encode_tile(np.zeros((1, 513, 1), np.uint8))
    profile = CogProfile(grid=GRIDS["utm"], descriptions=("class",))
    with TileSpool(profile, tmp_path / "tiles") as spool, pytest.raises(TilingError, match="do not start on"):
        spool.add_pixels(0, 100, 0, np.zeros((1, 10, 10), np.uint8))
    with TileSpool(profile, tmp_path / "tiles") as spool, pytest.raises(TilingError, match="1 bands of uint8"):
        spool.add_pixels(0, 0, 0, np.zeros((2, 10, 10), np.uint8))


def test_scale_reaches_the_reader(tmp_path: Path) -> None:
    grid = GRIDS["one pixel"]
    profile = CogProfile(grid=grid, descriptions=("confidence",), scales=(1 / 250,))
    with TileSpool(profile, tmp_path / "tiles") as spool:
        spool.add_pixels(0, 0, 0, np.full((1, 1, 1), 125, np.uint8))
        spool.write(tmp_path / "c.tif", profile)
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.read(1)[0, 0] * dataset.scales[0] == pytest.approx(0.5)
        assert dataset.colorinterp == (ColorInterp.gray,)


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0.0), ("uint16", 0.0), ("int16", -32768.0), ("float32", float("nan"))]
)
@pytest.mark.parametrize("n_bands", [1, 4])
def test_an_image_of_any_dtype_comes_back_as_it_was(dtype: str, nodata: float, n_bands: int, tmp_path: Path) -> None:
    grid, target = GRIDS["utm"], tmp_path / "image.tif"
    rng = np.random.default_rng(3)
    pixels = (
        (rng.normal(0, 1, (n_bands, *grid.shape)) * 30000).clip(0 if dtype[0] == "u" else -32767, 65000).astype(dtype)
    )
    pixels[:, :200, :300] = nodata
    names = ("blue", "green", "red", "nir")[:n_bands]
    scales, offsets = (1e-4, 2e-4, 3e-4, 4e-4)[:n_bands], (-0.1, 0.0, 0.1, 0.2)[:n_bands]
    profile = CogProfile(grid=grid, descriptions=names, dtype=dtype, nodata=nodata, scales=scales, offsets=offsets)
    levels = [pixels]
    with TileSpool(profile, tmp_path / "tiles") as spool:
        for level in range(len(profile.shapes)):
            spool.add_pixels(level, 0, 0, levels[-1])
            levels.append(np.stack([reduce_mean(band, nodata) for band in levels[-1]]))
        spool.write(target, profile)
    assert cog_validate(target, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(target) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        assert (dataset.dtypes, dataset.descriptions) == ((dtype,) * n_bands, names)
        assert (dataset.scales, dataset.offsets) == (scales, offsets)
        assert ColorInterp.alpha not in dataset.colorinterp
        np.testing.assert_equal(dataset.nodata, nodata)
    with rasterio.open(target, overview_level=0) as overview:
        np.testing.assert_array_equal(overview.read(), levels[1])
