"""A shard's bytes are those that zarr-python writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from earthloom.tiling.writing.zarr_shard import ZSTD_LEVEL, shard_bytes


def written_by_zarr(pixels: NDArray[Any], shard_px: int, chunk_px: int, nodata: float, *, steps: bool) -> bytes:
    objects: dict[str, Any] = {}
    lead = (1,) if steps else ()
    array = zarr.create_array(
        MemoryStore(objects), shape=(*lead, *pixels.shape), dtype=pixels.dtype, chunks=(*lead, chunk_px, chunk_px),
        shards=(*lead, shard_px, shard_px), compressors=[ZstdCodec(level=ZSTD_LEVEL, checksum=True)],
        fill_value=pixels.dtype.type(nodata).item(),
    )  # fmt: skip
    array[:] = pixels.reshape(*lead, *pixels.shape)
    (shard,) = (value.to_bytes() for key, value in objects.items() if "c/" in key)
    return bytes(shard)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 6),
    height=st.integers(1, 96),
    width=st.integers(1, 96),
    kind=st.sampled_from([("u1", 255), ("u2", 0), ("i2", -9999), ("f4", float("nan")), ("f4", 0.0), ("f8", -1.0)]),
    share=st.sampled_from([0.0, 0.5, 0.99]),
    steps=st.booleans(),
    seed=st.integers(0, 9),
)
def test_bytes_are_those_of_zarr_python(
    n: int, height: int, width: int, kind: tuple[str, float], share: float, steps: bool, seed: int
) -> None:
    dtype, nodata = kind
    rng = np.random.default_rng(seed)
    shape = min(height, 16 * n), min(width, 16 * n)
    pixels = rng.integers(0, 200, shape).astype(dtype)
    holes = np.kron(rng.random((6, 6)) < share, np.ones((16, 16), np.bool_))[: shape[0], : shape[1]]
    pixels[holes] = nodata
    pixels[-1, -1] = 7  # else a shard of nothing is not stored at all
    if np.dtype(dtype).kind == "f":
        pixels[0, 0] = -0.0
    assert shard_bytes(pixels, 16 * n, 16, nodata) == written_by_zarr(pixels, 16 * n, 16, nodata, steps=steps)


def test_pixels_that_do_not_lie_side_by_side_in_memory_are_stored_as_if_they_did() -> None:
    woven = np.arange(64 * 64 * 2, dtype=np.uint16).reshape(64, 64, 2)
    band = woven[:, ::-1, 1]
    assert shard_bytes(band, 64, 16, 0) == written_by_zarr(band.copy(), 64, 16, 0, steps=False)


@pytest.mark.parametrize("big", [">u2", ">f4"])
def test_the_byte_order_of_memory_does_not_matter(big: str) -> None:
    pixels = np.arange(32 * 32, dtype=big).reshape(32, 32)
    native = pixels.astype(pixels.dtype.newbyteorder("="))
    assert shard_bytes(pixels, 32, 16, 0) == shard_bytes(native, 32, 16, 0)
