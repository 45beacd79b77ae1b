"""Mutated GeoTIFFs through the header check and one small read, in disposable processes: `fuzz(1000, seed=1)`.

Each must end as a header or as one clean error of its own; the caller's process must come to no harm.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil

from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.preflight import inspect_apart
from earthloom.tiling.reading.sandbox import Cap, Disposables
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef
from tests.scenes import landscape, write_scene

CAP = Cap(deadline_s=20.0)
_LOST = "cannot be trusted: checking it "
_TAGS = (
    254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 339, 33550, 33922, 34735, 42113,
)  # fmt: skip
_INTERESTING = (0, 1, 2, 3, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(slots=True)
class Counts:
    """How the mutants ended."""

    mutants: int = 0
    read: int = 0
    """Opened and read without complaint."""
    refused: int = 0
    """By a clean error, those below included."""
    killed: list[str] = field(default_factory=list)
    """Messages of those that crashed their process, ran over the deadline, or wanted too much memory: contained."""
    unclean: list[str] = field(default_factory=list)
    """Errors of another kind, or messages without the scene's name: must be empty."""
    seconds: float = 0.0


def fuzz(n: int, seed: int) -> Counts:
    """Make `n` mutants from a fixed seed and read each; nothing is raised for what they do."""
    counts, begun = Counts(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        Disposables(1, CAP, ("earthloom.tiling.reading.preflight", "rasterio")) as pool,
    ):
        for number, data in enumerate(mutants(n, seed, Path(folder))):
            path = Path(folder) / f"mutant-{number}.tif"
            path.write_bytes(data)
            counts.mutants += 1
            try:
                asset = pin(ObjectRef.parse(str(path)))
                inspect_apart(pool, asset)
                pool.call(path.name, read_a_little, asset)
                counts.read += 1
            except SceneError as error:
                counts.refused += 1
                if path.name not in str(error) or not str(error).isprintable():
                    counts.unclean.append(str(error))
                if _LOST in str(error):
                    counts.killed.append(str(error))
            except Exception as error:
                counts.unclean.append(f"{path.name}: {type(error).__name__}: {error}")
            path.unlink()
    counts.seconds = time.monotonic() - begun
    return counts


def read_a_little(asset: Asset) -> int:
    """One window across four tiles where there are as many, as a block's reader does; its sum."""
    with open_asset(asset) as dataset:
        rows, cols = dataset.block_shapes[0]
        row, col = min(rows, dataset.height) - 1, min(cols, dataset.width) - 1
        window = ((max(0, row - 8), min(dataset.height, row + 8)), (max(0, col - 8), min(dataset.width, col + 8)))
        return int(np.nan_to_num(dataset.read(window=window).astype(np.float64)).sum() % 2**31)


def mutants(n: int, seed: int, folder: Path) -> Iterator[bytes]:
    """Files that were whole: bytes flipped, fields set to borders, parts cut, moved or repeated."""
    rng = np.random.default_rng(seed)
    originals = list(_originals(folder))
    for _ in range(n):
        data = bytearray(originals[rng.integers(len(originals))])
        for _ in range(rng.integers(1, 5)):
            _mutate(data, rng)
        yield bytes(data)


def _mutate(data: bytearray, rng: np.random.Generator) -> None:
    kind = rng.integers(6)
    if kind <= 1:  # a field of a directory
        for position in _fields(data, int(rng.choice(_TAGS))):
            struct.pack_into("<I", data, position + int(rng.choice([4, 8, 8, 8])), int(rng.choice(_INTERESTING)))
    elif kind == 2:  # a byte of the header or of a directory
        data[int(rng.integers(min(len(data), 1024)))] = int(rng.integers(256))
    elif kind == 3:  # bytes anywhere
        for place in rng.integers(len(data), size=int(rng.integers(1, 30))):
            data[int(place)] = int(rng.integers(256))
    elif kind == 4:
        del data[int(rng.integers(8, len(data))) :]
    else:
        start, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
        target = int(rng.integers(len(data)))
        data[target : target + length] = data[start : start + length]
    if len(data) < 16:
        data.extend(bytes(16))


def _fields(data: bytearray, tag: int) -> Iterator[int]:
    """Positions of a tag's entry, in every place that looks like one."""
    with suppress(struct.error):
        start = struct.unpack_from("<I", data, 4)[0]
        for number in range(min(64, struct.unpack_from("<H", data, start)[0])):
            if struct.unpack_from("<H", data, start + 2 + 12 * number)[0] == tag:
                yield start + 2 + 12 * number


def _originals(folder: Path) -> Iterator[bytes]:
    names = ("green", "swir16")
    forms: list[dict[str, Any]] = [
        {"compress": "deflate", "predictor": 2}, {"compress": "lzw", "interleave": "band"}, {"compress": "zstd"},
        {"compress": None, "tiled": False}, {"compress": "packbits", "nodata": 0},
        {"compress": "deflate", "blockxsize": 64, "blockysize": 64}, {"compress": "lerc"}, {"compress": "lzma"},
    ]  # fmt: skip
    for number, form in enumerate(forms):
        options = {"blockxsize": 128, "blockysize": 128} | form
        if options.get("tiled") is False:
            options |= {"blockxsize": None, "blockysize": 16}
        path = write_scene(folder / f"original-{number}.tif", landscape(200, 180, 2, seed=number), names, **options)
        yield path.read_bytes()
    photo = (landscape(200, 180, 3) // 40).astype(np.uint8)
    yield write_scene(folder / "jpeg.tif", photo, None, compress="jpeg", photometric="ycbcr", interleave="pixel",
                      blockxsize=128, blockysize=128).read_bytes()  # fmt: skip
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        masked = write_scene(folder / "mask.tif", landscape(200, 180, 1), ("green",), blockxsize=128, blockysize=128)
        with rasterio.open(masked, "r+") as dataset:
            dataset.write_mask(np.arange(180 * 200).reshape(180, 200) % 5 > 0)
    yield masked.read_bytes()
    rasterio.shutil.copy(folder / "original-0.tif", folder / "cog.tif", driver="COG", blocksize=128)
    yield (folder / "cog.tif").read_bytes()
