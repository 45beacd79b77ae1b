"""Chips in folders named after their class become one scene that trains and judges like any other.

The pictures are laid side by side in one GeoTIFF, each in a square of its own, with their classes in a second one. Where on
Earth they lie is not known: the grid says how large a pixel is and nothing else. Both files lie in the cache under the digest
of all that was read, and are made again when they are gone.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.labels import IGNORE, LabelOptions
from earthloom.tiling.cache import cache_folder
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.rounding import ceil_div

_PICTURES, _TIFFS = (".jpg", ".jpeg", ".png"), (".tif", ".tiff")
_LARGEST_BYTES = 64 << 20
_ZONES = 60
_CORNER_M = (300_000.0, 5_000_000.0)  # amid a UTM zone
_GREY_16 = "I;16"  # as Pillow calls it
_LAYOUT = 3  # raised when the same chips are laid out otherwise
_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    """Chips side by side.

    Attributes:
        name: name of the scene.
        scene, labels: the two files.
        digests: sha256 of each chip's file, in order.
        notes: what of the folder is not used.
    """

    name: str
    scene: Path
    labels: Path
    digests: tuple[str, ...]
    notes: tuple[str, ...] = ()


def make_mosaic(
    folder: str, options: LabelOptions, *, name: str, core_px: int, gsd_m: float, number: int,
    named: frozenset[int] = frozenset(),
) -> Mosaic:  # fmt: skip
    """Lay out the chips of a folder.

    Args:
        folder: holds one folder per class, called by its name or by what is `stored` for it, with JPEG, PNG or TIFF files.
        options: the classes; folders to be ignored are passed over.
        name: name of the scene that they become.
        core_px: side of a square; larger chips are cut to their middle.
        gsd_m: side of a pixel on the ground.
        number: number of the table, which keeps different folders on different ground.
        named: numbers of bands that are data, whatever the files call them: alpha is a mask else.

    Raises:
        ConfigError: if there is no such folder, a folder in it is of no class, or a chip is of two classes.
        SceneError: if a file cannot be decoded, is smaller than a square, or has other bands than the first.
    """
    listed, unused = _files(Path(folder), options)
    if number >= _ZONES:
        raise ConfigError(f"{number + 1} tables of folders; at most {_ZONES} can be laid out: join some")
    by_digest = _once(listed)
    files, digests = list(by_digest.values()), tuple(by_digest)
    decides = (_LAYOUT, core_px, gsd_m, number, sorted(named), [c for _, c in files], digests)
    home = cache_folder() / "chips" / hashlib.sha256(repr(decides).encode()).hexdigest()[:32]
    made = Mosaic(
        name=name, scene=home / f"{name}.tif", labels=home / f"{name}-labels.tif", digests=digests,
        notes=tuple(_unused(folder, unused, len(listed) - len(files))),
    )  # fmt: skip
    if not (made.scene.is_file() and made.labels.is_file()):
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as temporary:  # whole or not at all, whoever else makes it
            _write(files, Path(temporary), made, core_px=core_px, gsd_m=gsd_m, number=number, named=named)
            home.mkdir(exist_ok=True)
            for path in (made.scene, made.labels):
                (Path(temporary) / path.name).replace(path)
    return made


def check_apart(mosaics: Sequence[Mosaic]) -> None:
    """
    Raises:
        ConfigError: if one chip lies in two tables: the test part would judge what was trained on.
    """
    for number, one in enumerate(mosaics):
        for other in mosaics[number + 1 :]:
            if shared := set(one.digests) & set(other.digests):
                raise ConfigError(
                    f"{len(shared)} chips of {one.name} are in {other.name} too, byte for byte; leave them in one of both"
                )


def _files(folder: Path, options: LabelOptions) -> tuple[list[tuple[Path, int]], list[Path]]:
    """Every chip with the value of its class, in the order of names; and what lies beside them."""
    if not folder.is_dir():
        raise ConfigError(f"'folder={folder}' is no folder of this machine; chips are read from local folders")
    classes = {str(text): each.value for each in options.classes for text in (each.name, *each.stored)}
    ignored = {str(value) for value in options.ignore}
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in ignored)
    if strange := [path.name for path in inside if path.name not in classes]:
        names = ", ".join(each.name for each in options.classes)
        raise ConfigError(
            f"{folder} holds {', '.join(map(repr, strange[:8]))}, which none of the classes {names} stands for; name them by "
            "'stored', or put them into 'ignore'"
        )
    chips, others = [], []
    for part in inside:
        for path in sorted(part.iterdir()):
            if path.suffix.lower() in (*_PICTURES, *_TIFFS) and path.is_file():
                chips.append((path, classes[part.name]))
            elif not path.name.startswith("."):
                others.append(path)
    if not chips:
        raise ConfigError(
            f"{folder} holds no chips: it wants a folder for each class, with JPEG, PNG or TIFF files in it"
        )
    return chips, others


def _once(files: Sequence[tuple[Path, int]]) -> dict[str, tuple[Path, int]]:
    """The files by their digests, each once: a copy in the test part would be judged by what was trained on.

    Raises:
        ConfigError: if some are of two classes.
    """
    found: dict[str, tuple[Path, int]] = {}
    torn = []
    for path, value in files:
        first, known = found.setdefault(_digest(path), (path, value))
        if known != value:
            torn.append(f"{first} and {path}")
    if torn:
        raise ConfigError(
            f"{len(torn)} chips are copies of others, byte for byte, and of another class: {', '.join(torn[:_NAMED])}"
            f"{', …' * (len(torn) > _NAMED)}; take one of each pair away"
        )
    return found


def _unused(folder: str, others: Sequence[Path], n_copies: int) -> Iterator[str]:
    if n_copies:
        yield f"{n_copies} files of {folder} are copies of others there, byte for byte, and are not used"
    if others:
        shown = ", ".join(path.name for path in others[:_NAMED])
        yield (
            f"{len(others)} files or folders among the chips of {folder} are no JPEG, PNG or TIFF by their names and are not "
            f"used: {shown}{', …' * (len(others) > _NAMED)}"
        )


def _digest(path: Path) -> str:
    if path.stat().st_size > _LARGEST_BYTES:
        raise SceneError(
            f"{path} has {path.stat().st_size} bytes, which is no chip; cut it, or train from it as a scene"
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(
    files: Sequence[tuple[Path, int]], folder: Path, made: Mosaic, *, core_px: int, gsd_m: float, number: int,
    named: frozenset[int],
) -> None:  # fmt: skip
    import rasterio
    from rasterio.transform import from_origin

    first, _ = _decoded(files[0][0], named)
    across = math.ceil(math.sqrt(len(files)))
    down = ceil_div(len(files), across)
    free = shutil.disk_usage(folder).free
    if (needed := across * down * core_px**2 * (len(first) * first.itemsize + 1)) > free:
        raise SceneError(
            f"{len(files)} chips need {needed >> 20} MiB in {folder.parent}, where {free >> 20} MiB are free"
        )
    shared = {
        "driver": "GTiff", "width": across * core_px, "height": down * core_px, "crs": f"EPSG:{32601 + number}",
        "transform": from_origin(*_CORNER_M, gsd_m, gsd_m), "compress": "deflate", "tiled": True, "BIGTIFF": "IF_SAFER",
    }  # fmt: skip
    if len(first) == 4:  # of four bands of 8 bits GDAL would make the last one transparency
        shared["photometric"] = "MINISBLACK"
    masks: dict[int, NDArray[np.bool_]] = {}  # of the rows of chips that have pixels without data
    with (
        rasterio.open(folder / made.scene.name, "w", count=len(first), dtype=first.dtype, **shared) as scene,
        rasterio.open(folder / made.labels.name, "w", count=1, dtype="uint8", nodata=IGNORE, **shared) as labels,
    ):
        for row in range(down):
            pixels = np.zeros((len(first), core_px, across * core_px), first.dtype)
            classes = np.full((1, core_px, across * core_px), IGNORE, np.uint8)
            valid = np.ones((core_px, across * core_px), np.bool_)
            for col, (path, value) in enumerate(files[row * across : (row + 1) * across]):
                place = slice(col * core_px, (col + 1) * core_px)
                pixels[:, :, place], valid[:, place] = _middle(path, first, core_px, named)
                classes[:, :, place] = value
            where = rasterio.windows.Window(0, row * core_px, across * core_px, core_px)
            scene.write(pixels, window=where)
            labels.write(classes, window=where)
            if not valid.all():
                masks[row] = valid
    if not masks:
        return
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / made.scene.name, "r+", driver="GTiff") as scene,
    ):
        whole = np.ones((core_px, across * core_px), np.bool_)
        for row in range(down):
            where = rasterio.windows.Window(0, row * core_px, across * core_px, core_px)
            scene.write_mask(masks.get(row, whole), window=where)


def _middle(
    path: Path, first: NDArray[np.generic], side_px: int, named: frozenset[int]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:  # fmt: skip
    chip, valid = _decoded(path, named)
    if (len(chip), chip.dtype) != (len(first), first.dtype):
        raise SceneError(f"{path} has {len(chip)} bands of {chip.dtype}, the first chip {len(first)} of {first.dtype}")
    if min(chip.shape[1:]) < side_px:
        raise SceneError(
            f"{path} has {chip.shape[2]} x {chip.shape[1]} px, less than the {side_px} x {side_px} px that a label is about; "
            f"set 'core_px' to {min(chip.shape[1:])}, or take the file away"
        )
    top, left = ((side - side_px) // 2 for side in chip.shape[1:])
    inside = slice(top, top + side_px), slice(left, left + side_px)
    return chip[:, *inside], valid[inside]


def _decoded(path: Path, named: frozenset[int]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """(C, h, w) of a file, and where it has data, (h, w); what is transparent has none. A palette becomes red, green, blue."""
    import rasterio
    from PIL import Image, UnidentifiedImageError

    try:
        if path.suffix.lower() in _TIFFS:
            return _of_tiff(path, named)
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            if picture.mode != _GREY_16 and _is_deep_png(path):
                raise SceneError(f"{path} has 16 bits for each colour, of which 8 would be read; save it as a TIFF")
            mode = picture.mode if picture.mode in ("L", "RGB", _GREY_16) else "RGB"
            values = np.asarray(picture.convert(mode))
            valid = np.ones(values.shape[:2], np.bool_)
            if picture.has_transparency_data:
                valid = np.asarray(picture.convert("RGBA"))[:, :, 3] != 0
            return values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0), valid
    except (
        OSError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        rasterio.errors.RasterioError,
        ValueError,
    ) as error:
        raise SceneError(f"{path} cannot be decoded: {error}") from error


def _of_tiff(path: Path, named: frozenset[int]) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    import rasterio
    from rasterio.enums import ColorInterp, MaskFlags

    with rasterio.open(path, driver="GTiff") as dataset:
        if dataset.colorinterp[0] == ColorInterp.palette:
            return _of_palette(dataset)
        alpha = {number for number, means in enumerate(dataset.colorinterp, 1) if means == ColorInterp.alpha}
        data = [number for number in dataset.indexes if number not in alpha - named]
        pixels = np.asarray(dataset.read(data))
        if alpha & named and MaskFlags.alpha in dataset.mask_flag_enums[0]:
            return pixels, np.ones(dataset.shape, np.bool_)
        return pixels, (dataset.read_masks(data) != 0).all(axis=0)


def _of_palette(dataset: Any) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Red, green and blue of a TIFF whose values are numbers of colours, and where it has data."""
    colors = np.zeros((np.iinfo(dataset.dtypes[0]).max + 1, 4), np.uint8)
    for number, color in dataset.colormap(1).items():
        colors[number] = color
    chosen = colors[dataset.read(1)]  # (h, w, 4)
    return np.moveaxis(chosen[:, :, :3], -1, 0), (dataset.read_masks(1) != 0) & (chosen[:, :, 3] != 0)


def _is_deep_png(path: Path) -> bool:
    """Whether a file is a PNG of 16 bits, as its header says (ISO/IEC 15948, 11.2.2)."""
    with path.open("rb") as file:
        head = file.read(25)
    return head.startswith(b"\x89PNG") and head[24:] == b"\x10"
