from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from earthloom.tiling.errors import DamagedPartError, PublishError, TilingError
from earthloom.tiling.grid import Grid
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.writing import cog, cog_parts
from earthloom.tiling.writing.cog import CogProfile, encode_tile
from earthloom.tiling.writing.cog_parts import CogAssembly, ShardPart, TileIndex, pack
from earthloom.tiling.writing.overview import reduce_mean, reduce_mode
from earthloom.tiling.writing.pyramid import Place, Pyramid, Reduce
from tests import newer_gdal
from tests.oracles import votes_of_cells

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
    coarse = rng.integers(0, 5, (ceil_div(grid.height, 3), ceil_div(grid.width, 3)))
    pixels = np.kron(coarse, np.ones((3, 3))).astype(np.uint8)[: grid.height, : grid.width]
    pixels[: grid.height // 3, : grid.width // 3] = 255
    return np.ascontiguousarray(pixels)


def mode(pixels: NDArray[Any]) -> NDArray[Any]:
    return reduce_mode(pixels[0])[None]


@contextmanager
def assembly_of(
    profile: CogProfile, pixels: NDArray[Any], shard_px: int, reduce: Reduce = mode,
    damage: Callable[[dict[str, bytes]], object] = lambda _: None, fetched: Callable[[int], object] = lambda _: None,
) -> Iterator[CogAssembly]:  # fmt: skip
    """A file's parts in a dictionary, as they lie in storage; `fetched` hears how many bytes are taken."""
    pyramid = Pyramid(height=profile.grid.height, width=profile.grid.width, shard_px=shard_px)
    stored: dict[str, bytes] = {}
    shards: dict[tuple[int, int], ShardPart | None] = {}
    for row in range(pyramid.shard_grid[0]):
        for col in range(pyramid.shard_grid[1]):
            part = pixels[(slice(None), *pyramid.part(0, row, col).slices(profile.grid.window))]
            data, index = pack(profile, pyramid, pyramid.levels_of(part, reduce))
            empty = (part == profile.nodata).all()
            stored[f"{row}_{col}"] = b"another file's" + data
            shards[row, col] = None if empty else ShardPart(key=f"{row}_{col}", start=14, index=index)
    damage(stored)

    def fetch(key: str, start: int, length: int) -> bytes:
        fetched(length)
        return stored[key][start : start + length]

    with CogAssembly(profile, pyramid, shards, fetch) as assembly:
        yield assembly


def put_together(
    profile: CogProfile, pixels: NDArray[Any], shard_px: int, reduce: Reduce = mode,
    damage: Callable[[dict[str, bytes]], object] = lambda _: None,
) -> tuple[bytes, dict[Place, NDArray[Any]]]:  # fmt: skip
    """The file's bytes, and the tiles made on the way."""
    made: dict[Place, NDArray[Any]] = {}
    with assembly_of(profile, pixels, shard_px, reduce, damage) as assembly:
        assembly.make_further(reduce, lambda place, tile: made.update({place: tile}))
        first, rest = assembly.finish(profile)
        return first + b"".join(rest), made


def write(grid: Grid, pixels: NDArray[np.uint8], target: Path, shard_px: int = 512) -> CogProfile:
    profile = CogProfile(
        grid=grid,
        descriptions=("class",),
        colormap={value: (value * 40, 255 - value * 40, 9) for value in range(5)},
        dataset_tags={"MODEL": "x"},
        band_tags=({"CLASS_0": "a & b", "STATISTICS_MINIMUM": "0"},),
    )
    target.write_bytes(put_together(profile, pixels[None], shard_px)[0])
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
        pixels = votes_of_cells(pixels)
        with rasterio.open(target, overview_level=level - 1) as overview:
            assert (overview.read(1) == pixels).all()


@pytest.mark.parametrize("shard_px", [512, 1024, 1536, 2048, 8192])
@pytest.mark.parametrize("shape", [(2100, 1603), (513, 2048), (4097, 40)])
def test_overviews_are_the_cascade_over_the_whole_scene_whatever_the_shards(
    shape: tuple[int, int], shard_px: int, tmp_path: Path
) -> None:
    grid, target = replace(GRIDS["utm"], height=shape[0], width=shape[1]), tmp_path / "map.tif"
    pixels = class_map(grid)
    profile = write(grid, pixels, target, shard_px)
    assert cog_validate(target, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(target) as dataset:
        assert (dataset.read(1) == pixels).all()
    for level in range(1, len(profile.shapes)):
        pixels = votes_of_cells(pixels)
        with rasterio.open(target, overview_level=level - 1) as overview:
            assert (overview.read(1) == pixels).all()


def test_gdal_s_own_driver_makes_the_same_pixels(tmp_path: Path) -> None:
    grid, ours, theirs = GRIDS["utm"], tmp_path / "ours.tif", tmp_path / "theirs.tif"
    pixels = class_map(grid)
    write(grid, pixels, ours)
    rasterio.shutil.copy(ours, theirs, driver="COG", COMPRESS="DEFLATE", BLOCKSIZE=512, OVERVIEWS="IGNORE_EXISTING")
    with rasterio.open(ours) as mine, rasterio.open(theirs) as gdals:
        assert (mine.read() == gdals.read()).all()
        assert mine.profile == gdals.profile
        assert mine.overviews(1) == gdals.overviews(1)
        assert mine.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == gdals.tags(ns="IMAGE_STRUCTURE")["LAYOUT"]


def test_a_file_with_a_missing_tile_is_never_written(tmp_path: Path) -> None:
    grid = GRIDS["utm"]
    profile = CogProfile(grid=grid, descriptions=("class",))
    pyramid = Pyramid(height=grid.height, width=grid.width, shard_px=512)
    with CogAssembly(profile, pyramid, {(0, 0): None}, lambda *_: b"") as assembly:
        with pytest.raises(PublishError, match="13 of 14 tiles are missing"):
            assembly.finish(profile)


@pytest.mark.parametrize("at", [20, -3])
def test_a_flipped_bit_in_a_part_is_found_and_its_object_named(at: int) -> None:
    grid = GRIDS["utm"]

    def flip(stored: dict[str, bytes]) -> None:
        data = bytearray(stored["1_2"])
        data[at] ^= 4
        stored["1_2"] = bytes(data)

    profile = CogProfile(grid=grid, descriptions=("class",))
    with pytest.raises(DamagedPartError, match="does not hold the tiles") as caught:
        put_together(profile, class_map(grid)[None], 512, damage=flip)
    assert caught.value.key == "1_2"


def test_no_more_of_a_large_file_is_in_memory_than_is_fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = replace(GRIDS["utm"], height=4096, width=1024)
    pixels = np.random.default_rng(0).integers(0, 200, (1, *grid.shape)).astype(np.uint8)
    profile = CogProfile(grid=grid, descriptions=("noise",))
    whole = put_together(profile, pixels, 1024)[0]
    monkeypatch.setattr(cog_parts, "_AHEAD_BYTES", 30_000)
    taken: list[int] = []
    with assembly_of(profile, pixels, 1024, fetched=taken.append) as assembly:
        assembly.make_further(mode, lambda *_: None)
        out, rest = assembly.finish(profile)
        held = [sum(taken) - len(out)]
        for piece in rest:
            out += piece
            held.append(sum(taken) - len(out))
        assert 0 < len(out) - assembly.tile_bytes < 2000, "the rest is the header"
    assert out == whole
    assert max(held) < len(whole) / 8


def test_an_index_comes_back_from_json_as_it_was() -> None:
    index = TileIndex.from_json([9, 4_000_000_000, 7, 1])
    assert TileIndex.from_json(index.to_json()) == index
    assert index.size_bytes == 16
    for damaged in ([], [1], [1 << 32, 1], [-1, 2]):
        with pytest.raises(ValueError, match="pairs"):
            TileIndex.from_json(damaged)


def test_the_same_tiles_give_the_same_bytes(tmp_path: Path) -> None:
    pixels = class_map(GRIDS["utm"])
    write(GRIDS["utm"], pixels, tmp_path / "one.tif")
    write(GRIDS["utm"], pixels, tmp_path / "two.tif")
    assert (tmp_path / "one.tif").read_bytes() == (tmp_path / "two.tif").read_bytes()


def test_tiles_of_the_wrong_size_or_kind_are_refused() -> None:
    with pytest.raises(TilingError, match="at most 512"):
        encode_tile(np.zeros((1, 513, 1), np.uint8))
    profile, pyramid = CogProfile(grid=GRIDS["utm"], descriptions=("class",)), Pyramid(height=9, width=9, shard_px=512)
    with pytest.raises(TilingError, match="1 bands of uint8"):
        pack(profile, pyramid, [np.zeros((2, 9, 9), np.uint8)])
    with pytest.raises(TilingError, match="1 bands of uint8"):
        pack(profile, pyramid, [np.zeros((1, 9, 9), np.int16)])


def test_scale_reaches_the_reader(tmp_path: Path) -> None:
    grid = GRIDS["one pixel"]
    profile = CogProfile(grid=grid, descriptions=("confidence",), scales=(1 / 250,))
    (tmp_path / "c.tif").write_bytes(put_together(profile, np.full((1, 1, 1), 125, np.uint8), 512)[0])
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

    def mean(image: NDArray[Any]) -> NDArray[Any]:
        return np.stack([reduce_mean(band, nodata) for band in image])

    target.write_bytes(put_together(profile, pixels, 512, mean)[0])
    assert cog_validate(target, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(target) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        assert (dataset.dtypes, dataset.descriptions) == ((dtype,) * n_bands, names)
        assert (dataset.scales, dataset.offsets) == (scales, offsets)
        assert ColorInterp.alpha not in dataset.colorinterp
        np.testing.assert_equal(dataset.nodata, nodata)
    with rasterio.open(target, overview_level=0) as overview:
        np.testing.assert_array_equal(overview.read(), mean(pixels))


TABLE = (
    '<GDALRasterAttributeTable tableType="thematic"><FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage>'
    '</FieldDefn><FieldDefn index="1"><Name>Class</Name><Type>2</Type><Usage>2</Usage></FieldDefn>'
    '<Row index="0"><F>0</F><F>forêt &amp; bois</F></Row><Row index="1"><F>1</F><F>water</F></Row></GDALRasterAttributeTable>'
)


@pytest.mark.parametrize("big", [False, True])
def test_class_names_travel_inside_the_file(big: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if big:
        monkeypatch.setattr(cog, "_CLASSIC_BYTES", 0)
    target = tmp_path / "map.tif"
    pixels = class_map(GRIDS["utm"])
    profile = CogProfile(grid=GRIDS["utm"], descriptions=("class",), colormap={0: (1, 2, 3)}, attribute_table=TABLE)
    target.write_bytes(put_together(profile, pixels[None], 512)[0])
    assert newer_gdal.attribute_table(target) == [
        {"Value": "0", "Class": "forêt & bois"}, {"Value": "1", "Class": "water"},
    ]  # fmt: skip
    assert cog_validate(target, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(target) as dataset:  # GDAL 3.10 reads it as it reads any other
        assert (dataset.read(1) == pixels).all()
        assert dataset.descriptions == ("class",)
