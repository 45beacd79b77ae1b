"""Writing a class map of 20000 x 20000 px: ours, GDAL's COG driver, and odc-geo, each in a process of its own.

    python -m tests.bench.writers ours-cog SOURCE TARGET     # one of them; what the process took, as JSON

All read the same tiled GeoTIFF, use DEFLATE of level 6 (ours of level 5, by libdeflate), tiles of 512 px, overviews by
mode, two threads and 256 MB of GDAL's cache. odc-geo is looked for in the environment EARTHLOOM_PEERS
(`pip install odc-geo[xr] dask tifffile imagecodecs rasterio`).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from earthloom.tiling.grid import Grid
from earthloom.tiling.writing.overview import reduce_mode
from earthloom.tiling.writing.pyramid import Pyramid
from tests.bench.command import command

_SIDE_PX = 20000
_SHARD_PX = 2048
_THREADS = 2
_NODATA = 255
_MIB = 2**20


def writers(folder: Path) -> list[dict[str, Any]]:
    """COG and Zarr of a class map of 20000² px, 8 classes and nodata, with overviews by mode."""
    source = class_map(folder / "source.tif", _SIDE_PX)
    peers = Path(os.environ.get("EARTHLOOM_PEERS", "~/.cache/earthloom/peers-venv")).expanduser() / "bin" / "python"
    rows = []
    for name, (title, _) in WRITERS.items():
        target, python = folder / f"{name}.tif", str(peers) if name == "odc-geo" else sys.executable
        if not Path(python).exists():
            print(f"{name}: skipped, there is no {python}; EARTHLOOM_PEERS names another environment", file=sys.stderr)
            continue
        output = command("tests.bench.writers", name, str(source), str(target), python=python).printed
        files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
        rows.append(
            {
                "writer": title, "wall s": f"{output['wall_s']:.1f}", "CPU s": f"{output['cpu_s']:.1f}",
                "peak MiB": f"{output['peak_bytes'] / _MIB:.0f}",
                "size MB": f"{sum(path.stat().st_size for path in files) / 1e6:.1f}", "result": _checked(target, source),
            }
        )  # fmt: skip
    return rows


def class_map(path: Path, side_px: int) -> Path:
    """Eight classes in patches of some 100 px with ragged borders and specks, no data outside a turned square."""
    rng = np.random.default_rng(0)
    profile = {
        "driver": "GTiff", "width": side_px, "height": side_px, "count": 1, "dtype": "uint8", "nodata": _NODATA,
        "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd", "zstd_level": 1, "num_threads": 2,
        "crs": "EPSG:32617", "transform": Affine(10, 0, 300000, 0, -10, 4500000),
    }  # fmt: skip
    cols = np.arange(side_px, dtype=np.float32)
    with rasterio.open(path, "w", **profile) as dataset:
        for row in range(0, side_px, 512):
            rows = np.arange(row, min(row + 512, side_px), dtype=np.float32)[:, None]
            hills = np.sin(rows / 97 + np.sin(cols / 211)) + np.cos(cols / 131) + np.sin((rows + 2 * cols) / 173)
            hills += rng.normal(0, 0.1, hills.shape).astype(np.float32)
            pixels = np.clip((hills + 3) * (8 / 6), 0, 7).astype(np.uint8)
            pixels[np.abs(rows - side_px / 2) + np.abs(cols - side_px / 2) > 0.85 * side_px] = _NODATA
            dataset.write(pixels, 1, window=Window(0, row, side_px, len(rows)))
    return path


def ours_cog(source: Path, target: Path) -> None:
    """Shards leave their encoded tiles in files, from which the COG is copied together, as workers and publishing do."""
    from earthloom.tiling.writing.cog import CogProfile
    from earthloom.tiling.writing.cog_parts import CogAssembly, ShardPart, pack

    grid, pyramid = _grid(source)
    profile = CogProfile(grid=grid, descriptions=("classes",), colormap={v: (v, v, v) for v in range(8)})
    parts = target.with_suffix(".parts")
    parts.mkdir()

    def work(place: tuple[int, int]) -> ShardPart:
        data, index = pack(profile, pyramid, pyramid.levels_of(_shard(source, pyramid, place), _reduce))
        key = str(parts / f"{place[0]}_{place[1]}")
        Path(key).write_bytes(data)
        return ShardPart(key=key, start=0, index=index)

    def fetch(key: str, start: int, length: int) -> bytes:
        with Path(key).open("rb") as file:
            file.seek(start)
            return file.read(length)

    places = _places(pyramid)
    with ThreadPoolExecutor(_THREADS) as pool:
        shards = dict(zip(places, pool.map(work, places), strict=True))
    with CogAssembly(profile, pyramid, shards, fetch) as assembly, target.open("wb") as file:
        assembly.make_further(_reduce, lambda _place, _pixels: None)
        first, rest = assembly.finish(profile)
        file.write(first)
        file.writelines(rest)
    shutil.rmtree(parts)


def ours_zarr(source: Path, target: Path) -> None:
    """Shards of the levels that a shard holds whole, then those of the further levels from the shards' seeds."""
    from earthloom.tiling.writing.zarr_sink import Layer, ZarrLayout

    grid, pyramid = _grid(source)
    layout = ZarrLayout(grid=grid, layers=(Layer(name="classes"),), shard_px=_SHARD_PX)

    def put(key: str, data: bytes) -> None:
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        (target / key).write_bytes(data)

    def keep(place: tuple[int, int, int], pixels: NDArray[Any]) -> None:
        level, row, col = place
        if (data := layout.encode_shard(level, "classes", pixels[0])) is not None:
            put(layout.shard_key(level, "classes", row, col), data)

    def work(place: tuple[int, int]) -> NDArray[Any]:
        made = pyramid.levels_of(_shard(source, pyramid, place), _reduce)
        for level, pixels in enumerate(made[: pyramid.own + 1]):
            keep((level, *place), pixels)
        return made[-1]

    for key, data in layout.metadata().items():
        put(key, data)
    places = _places(pyramid)
    with ThreadPoolExecutor(_THREADS) as pool:
        seeds = dict(zip(places, pool.map(work, places), strict=True))
    for place, pixels in pyramid.make_further(lambda row, col: seeds[row, col], _reduce):
        keep(place, pixels)


def gdal_cog(source: Path, target: Path) -> None:
    import rasterio.shutil

    rasterio.shutil.copy(
        source, target, driver="COG", compress="DEFLATE", level=6, blocksize=512, overview_resampling="MODE",
        num_threads=_THREADS,
    )  # fmt: skip


def odc_cog(source: Path, target: Path) -> None:
    import importlib

    array, delayed = importlib.import_module("dask.array"), importlib.import_module("dask").delayed
    geobox, xr = importlib.import_module("odc.geo.geobox"), importlib.import_module("odc.geo.xr")
    cog = importlib.import_module("odc.geo.cog")

    def read(row: int, col: int, height: int, width: int) -> NDArray[np.uint8]:
        with rasterio.open(source) as dataset:
            pixels: NDArray[np.uint8] = dataset.read(1, window=Window(col, row, width, height))
            return pixels

    with rasterio.open(source) as dataset:
        rows, cols = dataset.shape
        box = geobox.GeoBox((rows, cols), dataset.transform, dataset.crs.to_string())
    starts = [[(row, col) for col in range(0, cols, _SHARD_PX)] for row in range(0, rows, _SHARD_PX)]
    sides = [[(*at, min(_SHARD_PX, rows - at[0]), min(_SHARD_PX, cols - at[1])) for at in line] for line in starts]
    blocks = [[array.from_delayed(delayed(read)(*one), one[2:], np.uint8) for one in line] for line in sides]
    image = xr.wrap_xr(array.block(blocks), box, nodata=_NODATA)
    cog.save_cog_with_dask(
        image, str(target), compression="deflate", level=6, predictor=False, blocksize=512, overview_resampling="mode",
        stats=False,
    ).compute(scheduler="threads", num_workers=_THREADS)  # fmt: skip


WRITERS: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "ours-cog": ("Earthloom, COG", ours_cog),
    "ours-zarr": ("Earthloom, Zarr", ours_zarr),
    "gdal": ("GDAL's COG driver", gdal_cog),
    "odc-geo": ("odc-geo, save_cog_with_dask", odc_cog),
}


def _grid(source: Path) -> tuple[Grid, Pyramid]:
    with rasterio.open(source) as dataset:
        height, width = dataset.shape
        transform = tuple(dataset.transform)[:6]
    grid = Grid(crs="EPSG:32617", transform=transform, width=width, height=height)
    return grid, Pyramid(height=height, width=width, shard_px=_SHARD_PX)


def _places(pyramid: Pyramid) -> list[tuple[int, int]]:
    rows, cols = pyramid.shard_grid
    return [(row, col) for row in range(rows) for col in range(cols)]


def _shard(source: Path, pyramid: Pyramid, place: tuple[int, int]) -> NDArray[np.uint8]:
    """(1, h, w)"""
    part = pyramid.part(0, *place)
    with rasterio.open(source) as dataset:
        pixels: NDArray[np.uint8] = dataset.read(window=Window(part.col_off, part.row_off, part.width, part.height))
        return pixels


def _reduce(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return reduce_mode(pixels[0])[None]


def _checked(target: Path, source: Path) -> str:
    """What a reader finds: validity, size, and whether the pixels are those of the source."""
    if target.is_dir():
        import zarr

        found: Any = zarr.open_array(str(target), path="0/classes", mode="r", zarr_format=3)
        return f"Zarr v3, {found.shape[0]}², {_same(lambda window: found[window.toslices()], source)}"
    from rio_cogeo.cogeo import cog_validate

    valid, errors, warnings = cog_validate(target)
    with rasterio.open(target) as dataset:
        output = "valid COG" if valid else f"no valid COG: {'; '.join(errors)}"
        output = "; ".join([output, *warnings])
        return f"{output}, {dataset.shape[0]}², {_same(lambda window: dataset.read(1, window=window), source)}"


def _same(read: Callable[[Window], Any], source: Path) -> str:
    with rasterio.open(source) as dataset:
        for row in range(0, dataset.height, _SHARD_PX):
            window = Window(0, row, dataset.width, min(_SHARD_PX, dataset.height - row))
            if not np.array_equal(read(window), dataset.read(1, window=window)):
                return "other pixels"
    return "same pixels"


def main(name: str, source: str, target: str) -> None:
    begun, used = time.perf_counter(), time.process_time()
    with rasterio.Env(GDAL_CACHEMAX=256):
        WRITERS[name][1](Path(source), Path(target))
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - used
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_bytes": int(peak.split()[1]) * 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
