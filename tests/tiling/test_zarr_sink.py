from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
import zarr
from numpy.typing import NDArray

from earthloom.tiling.errors import TilingError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.writing.zarr_sink import Layer, ZarrLayout

GRID = Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=1500, height=1100)
LAYOUT = ZarrLayout(
    grid=GRID,
    layers=(
        Layer(name="classes", attributes={"flag_values": [0, 1], "flag_meanings": "land water"}),
        Layer(name="confidence", attributes={"scale_factor": 1 / 250}),
    ),
    shard_px=512,
)


def pixels() -> NDArray[np.uint8]:
    found = np.random.default_rng(0).integers(0, 5, GRID.shape).astype(np.uint8)
    found[:600, :600] = 255
    return found


def write(folder: Path) -> None:
    store = open_store(ObjectRef.parse(str(folder)))
    for key, data in LAYOUT.metadata().items():
        store.put(key, data)
    for window in GRID.window.split(512):
        shard = LAYOUT.encode_shard(0, "classes", pixels()[window.slices(GRID.window)])
        if shard is not None:
            store.put(LAYOUT.shard_key(0, "classes", window.row_off // 512, window.col_off // 512), shard)


def test_xarray_reads_the_pixels_with_crs_and_pixel_centres(tmp_path: Path) -> None:
    write(tmp_path)
    for level, size in ((0, 10.0), (1, 20.0)):
        with xr.open_zarr(tmp_path, group=str(level), mask_and_scale=False) as dataset:
            assert dataset.classes.rio.crs.to_epsg() == 32617
            assert tuple(dataset.classes.rio.transform())[:6] == (size, 0, 300000, 0, -size, 4500000)
            assert dataset.x.values[0] == 300000 + size / 2
            assert dataset.y.values[-1] == 4500000 - size * (dataset.sizes["y"] - 0.5)
            assert dataset.classes.rio.nodata == 255
    with xr.open_zarr(tmp_path, group="0", mask_and_scale=False) as dataset:
        assert (dataset.classes.values == pixels()).all()


def test_a_shard_is_byte_for_byte_what_zarr_itself_would_write(tmp_path: Path) -> None:
    write(tmp_path / "ours")
    theirs = open_store(ObjectRef.parse(str(tmp_path / "theirs")))
    for key, data in LAYOUT.metadata().items():
        theirs.put(key, data)
    zarr.open_array(theirs.zarr("0/classes"), mode="r+")[:] = pixels()
    ours = open_store(ObjectRef.parse(str(tmp_path / "ours")))
    shards = {head.key: ours.get(head.key) for head in ours.list("0/classes/c")}
    assert shards == {head.key: theirs.get(head.key) for head in theirs.list("0/classes/c")}
    assert len(shards) == 8, "the shard that is all nodata is not stored"


def test_a_flipped_bit_in_a_shard_is_an_error_and_not_a_pixel(tmp_path: Path) -> None:
    write(tmp_path)
    shard = tmp_path / "0/classes/c/2/2"
    damaged = bytearray(shard.read_bytes())
    damaged[200] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(Exception, match=r"(?i)checksum|corrupt|decompress|restored"):
        zarr.open_array(tmp_path / "0/classes", mode="r")[1024:, 1024:]


def test_metadata_is_deterministic_and_consolidated() -> None:
    documents = LAYOUT.metadata()
    assert documents == LAYOUT.metadata()
    root = json.loads(documents["zarr.json"])
    assert set(root["consolidated_metadata"]["metadata"]) >= {"0", "0/classes", "1/confidence", "2/x", "2/spatial_ref"}
    assert [level["asset"] for level in root["attributes"]["multiscales"]["layout"]] == ["0", "1", "2"]
    assert root["attributes"]["proj:code"] == "EPSG:32617"


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TilingError, match="shard 700 px is not a multiple"):
        ZarrLayout(grid=GRID, layers=LAYOUT.layers, shard_px=700)
    with pytest.raises(TilingError, match="at most 512 px"):
        LAYOUT.encode_shard(0, "classes", np.zeros((513, 2), np.uint8))
