"""Pixels of one block: windowed reads of the required bands onto the scene's grid, with their mask, reflected at borders.

The result does not depend on how a scene is cut: bands on another grid go through one warp over the *whole* scene grid
with windows on it, and reflection is counted in scene coordinates. Knows nothing of models or chips' values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiling.chips import reflect_indices
from tiling.errors import SceneError
from tiling.grid import Grid
from tiling.preflight import open_asset
from tiling.scene import Band, Scene
from tiling.window import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_EXACT = 1e-12  # px; GDAL then computes every pixel's place by itself, so cuts agree (it refuses 0)


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a block's chips are cut from.

    Attributes:
        values: (C, h, w) stored values in the bands' common dtype, 0 beyond the reflected border.
        valid: (h, w) bool, true where every band is valid.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]


def read_pixels(scene: Scene, bands: tuple[Band, ...], read: Window, halo_px: int) -> Pixels:
    """Load `bands` over `read`, which may reach past the scene: reflected by `halo_px`, invalid beyond.

    Raises:
        SceneError: if a file cannot be decoded; the message names scene, file and window.
    """
    rows = np.asarray(reflect_indices(read.row_off, read.row_end, scene.grid.height, halo_px))
    cols = np.asarray(reflect_indices(read.col_off, read.col_end, scene.grid.width, halo_px))
    inside_rows, inside_cols = rows >= 0, cols >= 0
    row_off, col_off = int(rows[inside_rows].min()), int(cols[inside_cols].min())
    source = Window(col_off, row_off, int(cols.max()) + 1 - col_off, int(rows.max()) + 1 - row_off)
    raw, raw_valid = _read_source(scene, bands, source)
    if source == read:
        return Pixels(raw, raw_valid)
    pick = np.ix_(np.where(inside_rows, rows - row_off, 0), np.where(inside_cols, cols - col_off, 0))
    beyond = ~(inside_rows[:, None] & inside_cols[None, :])
    values = np.empty((len(bands), *read.shape), raw.dtype)
    for channel, band in enumerate(raw):  # one band at a time: half the memory of indexing all at once
        values[channel] = band[pick]
        values[channel][beyond] = 0
    return Pixels(values, raw_valid[pick] & ~beyond)


def _read_source(scene: Scene, bands: tuple[Band, ...], window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    from rasterio import windows

    part = windows.Window(window.col_off, window.row_off, window.width, window.height)
    values = np.empty((len(bands), *window.shape), np.result_type(*(band.dtype for band in bands)))
    valid = np.ones(window.shape, np.bool_)
    order = sorted(range(len(bands)), key=lambda channel: _source(bands[channel]))
    for _, group in groupby(order, key=lambda channel: _source(bands[channel])):  # one read per file and kind
        channels = list(group)
        first = bands[channels[0]]
        asset, categorical, nodata = scene.assets[first.asset], first.categorical, first.nodata
        try:
            with open_asset(asset) as dataset, _on_grid(dataset, scene.grid, categorical, nodata) as (source, alpha):
                indexes = sorted({bands[channel].index for channel in channels})  # GDAL's threads garble repeated bands
                read = source.read(indexes, window=part)
                if alpha:  # read as a band: GDAL takes it for the mask of one or three bands only
                    valid &= source.read(source.count, window=part) > 0
                elif _has_mask(source, indexes):
                    valid &= source.read_masks(indexes[0], window=part) > 0  # one mask for the whole file
        except SceneError as error:
            raise SceneError(f"{scene.id}: {error} (reading {window})") from error
        for channel in channels:
            band_values = read[indexes.index(bands[channel].index)]
            values[channel] = band_values
            if nodata is not None:
                valid &= ~np.isnan(band_values) if np.isnan(nodata) else band_values != nodata
            if band_values.dtype.kind == "f":
                valid &= np.isfinite(band_values)
    if values.dtype.kind == "f":
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)  # 0 * inf would be NaN inside a chip
    return values, valid


def _source(band: Band) -> tuple[int, bool, str]:
    return band.asset, band.categorical, repr(band.nodata)  # repr: NaN equals itself, None sorts


def _has_mask(dataset: DatasetReader, indexes: list[int]) -> bool:
    """Whether the file holds a mask of its own.

    GDAL takes the fourth of four 8-bit bands for alpha; where it is read as data (near infrared), it is no mask.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    flags = dataset.mask_flag_enums[indexes[0] - 1]
    if MaskFlags.alpha in flags:
        return ColorInterp.alpha not in [dataset.colorinterp[index - 1] for index in indexes]
    return MaskFlags.per_dataset in flags


@contextmanager
def _on_grid(
    dataset: DatasetReader, grid: Grid, categorical: bool, nodata: float | None
) -> Iterator[tuple[DatasetReader, bool]]:
    """The dataset on `grid`, and whether its mask is an alpha band made by the warp."""
    from rasterio.crs import CRS
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    crs = CRS.from_string(grid.crs)
    same = dataset.shape == grid.shape and dataset.transform == grid.affine and dataset.crs == crs
    if same:
        yield dataset, False
        return
    options: dict[str, Any] = {"src_nodata": nodata, "nodata": nodata} if nodata is not None else {"add_alpha": True}
    with WarpedVRT(
        dataset, crs=crs, transform=grid.affine, width=grid.width, height=grid.height, tolerance=_EXACT,
        resampling=Resampling.nearest if categorical else Resampling.bilinear, **options,
    ) as warped:  # fmt: skip
        yield warped, nodata is None
