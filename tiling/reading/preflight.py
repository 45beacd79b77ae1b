"""Checking an asset's header before its pixels are trusted, in a disposable process where the caller asks for it.

What could exhaust memory is refused before any tile is decoded. Knows nothing of band names, value scales or models.
"""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from earthloom.tiling.errors import EngineError, SceneError
from earthloom.tiling.grid import MAX_SIZE_PX, Grid
from earthloom.tiling.reading import codestream, identity
from earthloom.tiling.reading.fill import Fill, signs_of_fill
from earthloom.tiling.reading.georeference import read_grid
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.sandbox import CrashError, Disposables
from earthloom.tiling.reading.sidecars import Sidecars, read_sidecars
from earthloom.tiling.reading.sound import sound_tiff
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_MIB = 2**20
_SHARED_TILES = 64  # that are decoded to see whether they are flat: one per value that a writer kept once
_MASK_DIRECTORIES = 64  # an image, its mask and the overviews of both; a COG of 2^20 px has 24
_TIFF_TIME = re.compile(r"^(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\uffff]+")


MaskKind: TypeAlias = Literal["none", "alpha", "internal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a header may ask for before it is taken for an attack."""

    size_px: int = MAX_SIZE_PX
    """Pixels per band."""
    bands: int = 512
    block_bytes: int = 256 * _MIB
    """Decoded size of one internal tile or strip; reading a single pixel costs that much memory."""
    indexed_blocks: int = 200_000
    """Tiles and strips whose position in the file is checked; beyond it, a regular sample and both ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself; one entry per band where a field is a tuple."""

    grid: Grid
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    """None where undeclared, or where the declared value cannot occur in the dtype."""
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    descriptions: tuple[str | None, ...]
    colors: tuple[str, ...]
    """Colour interpretation: `red`, `gray`, `alpha`, `undefined` …"""
    tags: tuple[tuple[tuple[str, str], ...], ...]
    """Each band's own (name, value) tags, sorted."""
    mask: MaskKind
    """What GDAL takes for the mask of all bands: a mask inside the file, an alpha band, or nothing."""
    datetime: str | None
    """Acquisition or creation time in the file, RFC 3339 without a zone, because TIFF has none."""
    warnings: tuple[str, ...] = ()
    fill: tuple[Fill, ...] = ()
    """Signs of fill that the file does not declare; the same nodata from elsewhere settles them."""

    @property
    def count(self) -> int:
        """Number of bands."""
        return len(self.dtypes)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel, in all bands."""
        return sum(np.dtype(_numpy_name(dtype)).itemsize for dtype in self.dtypes)


def inspect(asset: Asset, *, limits: Limits | None = None) -> Header:
    """Read and check a header, the index of its tiles, what lies beside the file, and a bounded sample of its pixels.

    Raises:
        SceneError: naming the file, what is wrong with it, and the remedy.
        StorageError: if the storage failed.
    """
    limits = limits or Limits()
    with open_asset(asset) as dataset:
        name = asset.ref.name
        if _item(dataset, "OVERVIEW_FILE", "OVERVIEWS") is not None:
            raise SceneError(
                f"{name} names another file as its overviews (OVERVIEW_FILE), which could read any file or host; "
                "rewrite it without: gdal_translate -of COG"
            )
        _check_size(name, dataset, limits)
        is_tiff = asset.driver == "GTiff"
        if is_tiff:
            _check_masks(asset, dataset, limits)
        else:
            rows, cols = codestream.tile_shape(asset)
            _check_block(name, rows, cols, codestream.PIXEL_BYTES * dataset.count, limits)
        grid = read_grid(asset.ref, dataset)
        beside = read_sidecars(asset.ref, dataset)
        _check_values(name, dataset)
        sparse = _check_index(asset, dataset, limits) if is_tiff else 0
        colors = tuple(beside.of(i).color or color.name for i, color in enumerate(dataset.colorinterp, 1))
        nodata, doubts = _nodata(dataset, beside)
        mask = _mask(dataset)
        fill: list[Fill] = []
        if mask == "none" and not {"alpha", "palette"} & set(colors):
            if sparse and all(value is None for value in nodata):
                text = f"{sparse} tiles are absent from the file and read as 0, but no nodata is declared"
                fill.append(Fill(0.0, f"{text}: if they are fill, give `nodata=0`"))
            far = asset.ref.scheme != "file"
            signs = signs_of_fill(dataset, nodata, lambda number: _overview(asset, number, limits), far=far)
            fill += [sign for sign in signs if not (fill and sign.value == 0)]
        return Header(
            grid=grid,
            dtypes=tuple(dataset.dtypes),
            nodata=nodata,
            scales=tuple(_first(beside.of(i).scale, float(scale)) for i, scale in enumerate(dataset.scales, 1)),
            offsets=tuple(_first(beside.of(i).offset, float(offset)) for i, offset in enumerate(dataset.offsets, 1)),
            descriptions=tuple(
                _printable(beside.of(i).description or text) for i, text in enumerate(_descriptions(dataset, doubts), 1)
            ),
            colors=colors,
            tags=tuple(tuple(sorted(_tags(dataset, band, doubts).items())) for band in dataset.indexes),
            mask=mask,
            datetime=_written_at(dataset),
            warnings=tuple(dict.fromkeys((*doubts, *beside.notes))),
            fill=tuple(fill),
        )


def inspect_apart(pool: Disposables, asset: Asset, *, limits: Limits | None = None) -> Header:
    """Inspect a file as `inspect` does, in a child of `pool`: whatever it does to its reader, this process goes on.

    Raises:
        SceneError: as `inspect` does, and if the file crashed, stalled or overfilled its reader.
        StorageError: if the storage failed.
        EngineError: if the reader dies of a sound file too, so that the installation is at fault.
    """
    memory = identity.memory_of(asset) if asset.ref.scheme == "file" else None
    try:
        return pool.call(asset.ref.name, _inspect, asset, limits, memory)
    except CrashError as error:
        if not pool.is_sound(check_sound):
            raise EngineError(
                f"{error.how}, and dies in the same way of a file that Earthloom makes itself: this installation is at fault, "
                f"not {asset.ref.name}; earthloom doctor says what is wrong with it"
            ) from None
        raise


def check_sound() -> Header:
    """The header of a scene that we make ourselves."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sound.tif"
        path.write_bytes(sound_tiff())
        return _inspect(identity.pin(ObjectRef.parse(str(path))), None, None)


def _inspect(asset: Asset, limits: Limits | None, memory: identity.Memory | None) -> Header:
    os.environ |= {"GDAL_CACHEMAX": "64", "GDAL_NUM_THREADS": "1"}  # MiB; threads would decode that many tiles at once
    identity.remember(memory)
    return inspect(asset, limits=limits)


def _check_size(name: str, dataset: DatasetReader, limits: Limits) -> None:
    size_px = dataset.width * dataset.height
    if size_px > limits.size_px or dataset.count > limits.bands:
        raise SceneError(
            f"{name} declares {dataset.width} x {dataset.height} px in {dataset.count} bands; at most "
            f"{limits.size_px} px and {limits.bands} bands are read. If that is real, cut it into scenes"
        )
    rows, cols = dataset.block_shapes[0]
    pixel_bytes = max(np.dtype(_numpy_name(dtype)).itemsize for dtype in dataset.dtypes)
    _check_block(name, rows, cols, pixel_bytes * (1 if _by_band(dataset) else dataset.count), limits)


def _check_block(name: str, rows: int, cols: int, pixel_bytes: int, limits: Limits) -> None:
    block_bytes = rows * cols * pixel_bytes
    if block_bytes > limits.block_bytes:
        raise SceneError(
            f"{name} has internal tiles of {cols} x {rows} px, {block_bytes / _MIB:.0f} MiB decoded, over the limit of "
            f"{limits.block_bytes / _MIB:.0f} MiB: one pixel would cost that much memory; "
            "rewrite it with tiles of 512 px: gdal_translate -of COG"
        )


def _check_masks(asset: Asset, dataset: DatasetReader, limits: Limits) -> None:
    """An internal mask has tiles of its own, which only its directory in the file tells."""
    import rasterio
    from rasterio.errors import RasterioIOError

    if "per_dataset" not in _flags(dataset, 1) or "alpha" in _flags(dataset, 1):
        return
    for number in range(1, _MASK_DIRECTORIES):
        try:
            with rasterio.open(f"GTIFF_DIR:{number}:{asset.ref.gdal_path}", driver="GTiff") as directory:
                rows, cols = directory.block_shapes[0]
                pixel_bytes = np.dtype(_numpy_name(directory.dtypes[0])).itemsize * directory.count
                _check_block(f"{asset.ref.name} (directory {number})", rows, cols, pixel_bytes, limits)
        except RasterioIOError:
            return
    raise SceneError(
        f"{asset.ref.name} holds {_MASK_DIRECTORIES} images or more beside its mask, so the mask cannot be checked; "
        "rewrite it: gdal_translate -of COG"
    )


def _check_values(name: str, dataset: DatasetReader) -> None:
    for band, dtype in enumerate(dataset.dtypes, 1):
        if np.dtype(_numpy_name(dtype)).kind not in "uif":
            raise SceneError(
                f"{name}: band {band} holds {dtype} values; models read real numbers: "
                "take the intensity or amplitude first (radar scenes come as complex)"
            )
    for band, (scale, offset) in enumerate(zip(dataset.scales, dataset.offsets, strict=True), 1):
        if not (math.isfinite(scale) and math.isfinite(offset) and scale):
            raise SceneError(
                f"{name}: band {band} declares the scale {scale} and offset {offset}; mend them in the file"
            )


def _check_index(asset: Asset, dataset: DatasetReader, limits: Limits) -> int:
    """Check that tiles lie inside the file, each in bytes of its own unless it holds one value only. Returns how many are
    absent (sparse)."""
    size, absent, seen = identity.size_bytes(asset), 0, dict[int, tuple[str, int]]()
    shared: set[int] = set()
    rows, cols = dataset.block_shapes[0]
    n_cols = ceil_div(dataset.width, cols)
    n_blocks = n_cols * ceil_div(dataset.height, rows)
    planes = dataset.indexes if _by_band(dataset) else (1,)
    step = max(1, n_blocks * len(planes) // limits.indexed_blocks)
    for band in planes:
        for number in {*range(0, n_blocks, step), n_blocks - 1}:
            where = f"{number % n_cols}_{number // n_cols}"
            text = dataset.get_tag_item(f"BLOCK_OFFSET_{where}", "TIFF", bidx=band)
            if text is None:
                absent += 1
                continue
            offset, tile = int(text), f"tile {where.replace('_', ', ')} of band {band}"
            end = offset + int(dataset.get_tag_item(f"BLOCK_SIZE_{where}", "TIFF", bidx=band) or 0)
            if end > size:
                raise SceneError(
                    f"{asset.ref.name} is cut short: {tile} ends at byte {end} but the file has {size} bytes; "
                    "fetch it again"
                )
            other, other_end = seen.setdefault(offset, (tile, end))
            if other == tile or (offset in shared and end == other_end):
                continue
            shared.add(offset)
            if end != other_end or len(shared) > _SHARED_TILES or not _is_flat(dataset, band, *divmod(number, n_cols)):
                raise SceneError(
                    f"{asset.ref.name}: {tile} and {other} lie in the same bytes, from {offset} on, and hold more than one "
                    "value: its index is damaged, or its writer kept equal tiles once. Fetch it again or look at it; if "
                    "it is as it should be, rewrite it with tiles of their own: gdal_translate -of COG"
                )
    return absent


def _is_flat(dataset: DatasetReader, band: int, row: int, col: int) -> bool:
    """Whether a tile holds one value per band, as tiles do that writers keep once for several places."""
    bands = (band,) if _by_band(dataset) else dataset.indexes
    window = dataset.block_window(band, row, col)
    for number in bands:
        pixels = dataset.read(number, window=window)
        if (pixels != pixels.flat[0]).any():
            return False
    return True


def _overview(asset: Asset, number: int, limits: Limits) -> DatasetReader | None:
    """An overview inside the file, unless its tiles are too large."""
    import rasterio

    overview = rasterio.open(asset.ref.gdal_path, driver=asset.driver, overview_level=number)
    try:
        _check_size(asset.ref.name, overview, limits)
    except SceneError:
        overview.close()
        return None
    return overview


def _mask(dataset: DatasetReader) -> MaskKind:
    flags = set.union(*(_flags(dataset, band) for band in dataset.indexes))
    return "alpha" if "alpha" in flags else "internal" if "per_dataset" in flags else "none"


def _nodata(dataset: DatasetReader, beside: Sidecars) -> tuple[tuple[float | None, ...], list[str]]:
    """Declared nodata per band, without values that the dtype cannot hold, and warnings about those."""
    values: list[float | None] = []
    doubts: list[str] = []
    declared = [_first(beside.of(i).nodata, value) for i, value in enumerate(dataset.nodatavals, 1)]
    for value, dtype in zip(declared, dataset.dtypes, strict=True):
        if value is not None and not representable(value, dtype):
            doubts.append(f"the declared nodata {value:g} cannot occur in {dtype} values and is ignored")
            value = None
        values.append(value)
    return tuple(values), list(dict.fromkeys(doubts))


def representable(value: float, dtype: str) -> bool:
    """Whether a stored value can occur in an array of `dtype`."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(kind).max)
    return math.isfinite(value) and value == int(value) and np.iinfo(kind).min <= value <= np.iinfo(kind).max


def _written_at(dataset: DatasetReader) -> str | None:
    for text in (_item(dataset, "ACQUISITIONDATETIME", "IMAGERY"), _item(dataset, "TIFFTAG_DATETIME")):
        if found := _TIFF_TIME.match((text or "").strip()):
            day, time = "-".join(found.groups()[:3]), ":".join(found.groups()[3:])
            with suppress(ValueError):  # all zeros, as scanners write it
                return datetime.fromisoformat(f"{day}T{time}").isoformat()
    return None


def _item(dataset: DatasetReader, name: str, domain: str | None = None) -> str | None:
    """One entry of a file's metadata; its text with marks in place of what is not UTF-8."""
    try:
        found = dataset.get_tag_item(name, domain)
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")
    return None if found is None else str(found)


def _descriptions(dataset: DatasetReader, doubts: list[str]) -> tuple[str | None, ...]:
    """What the bands are called in the file; none where a name is not UTF-8, because GDAL passes bytes on as they are."""
    try:
        found: tuple[str | None, ...] = dataset.descriptions
        return tuple([_printable(text) for text in found])
    except UnicodeDecodeError as error:
        text = error.object.decode("latin1")
        doubts.append(
            f"the band descriptions are not UTF-8 text (as Latin-1, one would be {_printable(text)!r}) and were passed over; "
            "name bands by `bands`"
        )
        return tuple(None for _ in dataset.indexes)


def _tags(dataset: DatasetReader, band: int, doubts: list[str]) -> dict[str, str]:
    try:
        return dict(dataset.tags(band))
    except UnicodeDecodeError:
        doubts.append("tags of a band are not UTF-8 text and were passed over")
        return {}


def _flags(dataset: DatasetReader, band: int) -> set[str]:
    return {flag.name for flag in dataset.mask_flag_enums[band - 1]}


def _first(*values: float | None) -> Any:
    return next((value for value in values if value is not None), None)


def _by_band(dataset: DatasetReader) -> bool:
    return str(dataset.profile.get("interleave", "pixel")).lower() == "band"


def _numpy_name(dtype: str) -> str:
    return "complex64" if dtype.startswith("complex_int") else dtype


def _printable(text: str | None) -> str | None:
    cleaned = _UNPRINTABLE.sub(" ", text or "").strip()[:64]
    return cleaned or None
