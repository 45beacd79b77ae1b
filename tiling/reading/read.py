"""Pixels of one block: windowed reads of the required bands onto the scene's grid, with their mask, reflected at borders.

The scene's grid is the finest of its files, or a given one. The result does not depend on how a scene is cut: bands on
another grid go through one warp over the *whole* scene grid with windows on it, and reflection is counted in scene
coordinates. Tiles of a file that neighbouring blocks share are decoded once as long as a cache keeps them. Knows nothing
of models or chips' values.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.chips import reflect_indices
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading.burn import burn
from earthloom.tiling.reading.fill import HUGE, IMPOSSIBLE
from earthloom.tiling.reading.opening import open_asset
from earthloom.tiling.reading.tile_cache import Cell, TileCache
from earthloom.tiling.reading.warp import (
    at_middles,
    has_mask,
    hiding,
    is_data,
    is_measured,
    load_burnt,
    load_own,
    load_warped,
    on_grid,
    seen_at_middles,
)  # fmt: skip
from earthloom.tiling.rounding import ceil_div, round_up
from earthloom.tiling.scene import Band, Scene
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

CELL_PX = 512
"""Side of what is kept of a file in one piece: whole tiles, of at least that."""

_LARGE_PX = 2048
"""Side of a tile that is decoded again rather than kept whole: a read would hold several of them."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a block's chips are cut from.

    Attributes:
        values: (C, h, w) stored values in the bands' common dtype, 0 beyond the reflected border.
        valid: (h, w) bool, true where every band is valid.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]
    cost: ReadCost


@dataclass(slots=True)
class ReadCost:
    """What a read had to do.

    Attributes:
        file_bytes: compressed bytes of the tiles that were decoded.
        decoded_px: pixels of all bands in those tiles; for a band on another grid, the pixels that the warp made.
        n_bands: number of bands that were asked for.
    """

    file_bytes: int = 0
    decoded_px: int = 0
    n_bands: int = 0


def read_pixels(
    scene: Scene, bands: tuple[Band, ...], read: Window, halo_px: int, *, decide: Window | None = None,
    cache: TileCache | None = None,
) -> Pixels:  # fmt: skip
    """Load `bands` over `read`, which may reach past the scene: reflected by `halo_px`, invalid beyond.

    Args:
        decide: pixels that the result is about; if the file's index says that none of them exists (sparse tiles),
            nothing is read and nothing is valid.
        cache: keeps tiles that the block to the right and the one below will want.

    Raises:
        SceneError: if a file cannot be decoded; the message names scene, file and window.
    """
    rows = np.asarray(reflect_indices(read.row_off, read.row_end, scene.grid.height, halo_px))
    cols = np.asarray(reflect_indices(read.col_off, read.col_end, scene.grid.width, halo_px))
    inside_rows, inside_cols = rows >= 0, cols >= 0
    row_off, col_off = int(rows[inside_rows].min()), int(cols[inside_cols].min())
    window = Window(col_off, row_off, int(cols.max()) + 1 - col_off, int(rows.max()) + 1 - row_off)
    source = _Source(scene, bands, window, decide and decide & scene.grid.window, halo_px, cache)
    dtype = np.result_type(*(band.dtype for band in bands))
    if not source.load():
        nothing = np.broadcast_to(np.zeros((1, 1, 1), dtype), (len(bands), *read.shape))
        return Pixels(nothing, np.broadcast_to(np.zeros((1, 1), np.bool_), read.shape), source.cost)
    for clear in scene.clear:
        quality = _Source(scene, (clear.band,), window, None, halo_px, cache)
        quality.load()
        codes = quality.values[0]
        if codes.dtype.kind == "f":  # a file has one type for all of its bands, and bits are those of whole numbers
            codes = codes.astype(np.int64)
        source.valid &= quality.valid & ((codes & clear.bits) == 0)
        if clear.values:
            source.valid &= ~np.isin(codes, clear.values)
        source.cost.file_bytes += quality.cost.file_bytes
    raw, raw_valid = source.values, source.valid
    if window == read:
        return Pixels(raw, raw_valid, source.cost)
    pick = np.ix_(np.where(inside_rows, rows - row_off, 0), np.where(inside_cols, cols - col_off, 0))
    beyond = ~(inside_rows[:, None] & inside_cols[None, :])
    values = np.empty((len(bands), *read.shape), raw.dtype)
    for channel, band in enumerate(raw):  # one band at a time: half the memory of indexing all at once
        values[channel] = band[pick]
        values[channel][beyond] = 0
    return Pixels(values, raw_valid[pick] & ~beyond, source.cost)


class _Source:
    """One read inside the scene, file by file."""

    def __init__(
        self, scene: Scene, bands: tuple[Band, ...], window: Window, decide: Window | None, reach_px: int,
        cache: TileCache | None,
    ) -> None:  # fmt: skip
        self._scene, self._bands, self._window, self._decide = scene, bands, window, decide
        self._reach_px, self._cache = reach_px, cache if reach_px else None  # without a halo, blocks share nothing
        self.cost = ReadCost(n_bands=len(bands))
        self.values = np.empty((len(bands), *window.shape), np.result_type(*(band.dtype for band in bands)))
        self.valid = np.ones(window.shape, np.bool_)

    def load(self) -> bool:
        """Fill `values` and `valid`; False, and nothing filled, where no pixel that matters exists."""
        order = sorted(range(len(self._bands)), key=lambda channel: _source(self._bands[channel]))
        for _, group in groupby(order, key=lambda channel: _source(self._bands[channel])):  # one per file and kind
            try:
                if not self._load_group(list(group)):
                    return False
            except SceneError as error:
                raise SceneError(f"{self._scene.id}: {error} (reading {self._window})") from error
        return True

    def _load_group(self, channels: list[int]) -> bool:
        first = self._bands[channels[0]]
        asset, nodata = self._scene.assets[first.asset], first.nodata
        if asset.driver == "polygons":
            self.values[channels] = burn(asset, self._scene.grid, self._window)
            self.cost.decoded_px += self._window.size_px
            return True
        together = nodata is not None and first.nodata_in == "all"
        with (
            open_asset(asset, checked=True) as dataset,
            on_grid(dataset, self._scene.grid, first) as (source, alpha),
            at_middles(dataset, self._scene.grid, first) as middles,
            ExitStack() as stack,
        ):
            indexes = self._indexes(dataset, channels)
            again = None
            if first.resampling != "nearest" and np.dtype(first.dtype).kind == "f" and not together:
                again = stack.enter_context(hiding(dataset, indexes, self._scene.grid, first))
            is_own_grid = source is dataset
            if is_own_grid and self._is_absent(dataset, indexes if together else indexes[:1], nodata):
                return False

            def load(window: Window) -> Cell:
                if is_own_grid:
                    values, mask = load_own(source, indexes, first, window)
                elif nodata is not None and (first.alpha or has_mask(dataset, first)):
                    values, mask = load_burnt(dataset, indexes, self._scene.grid, first, window)
                else:
                    values, mask = load_warped(source, indexes, alpha, window, again, nodata)
                    if middles and nodata is not None:
                        seen = seen_at_middles(middles, indexes, nodata, window)
                        mask = seen if mask is None else mask & seen
                # counted last: now GDAL has the index, and need not wait for it
                self._count(dataset, indexes, window, same=is_own_grid)
                return values, mask

            if self._cache is None:
                values, mask = load(self._window)
            else:
                values, mask = self._cache.read(
                    (self._scene.id, asset.identity, _source(first), tuple(indexes)), load, self._window,
                    extent=self._scene.grid.window, cell=_cell(dataset) if is_own_grid else (CELL_PX, CELL_PX),
                    reach_px=self._reach_px,
                )  # fmt: skip
        if mask is not None:
            self.valid &= mask
        if together and is_own_grid:  # a warp has put it into its alpha
            self.valid &= _any_data(values, nodata)
        for channel in channels:
            band = values[indexes.index(self._bands[channel].index)]
            if nodata is not None and not together:
                self.valid &= is_data(band, nodata)
            self._keep(channel, band)
        return True

    def _indexes(self, dataset: DatasetReader, channels: list[int]) -> list[int]:
        """Numbers of the bands to read of a file, each once: GDAL's threads garble repeated bands."""
        first = self._bands[channels[0]]
        wanted = {self._bands[channel].index for channel in channels}
        if first.nodata is not None and first.nodata_in == "all":
            wanted |= _data_bands(dataset, first)
        return sorted(wanted)

    def _is_absent(self, dataset: DatasetReader, indexes: list[int], nodata: float | None) -> bool:
        """Whether nothing that the result is about exists in a file on the scene's grid."""
        return nodata is not None and self._decide is not None and _absent(dataset, indexes, nodata, self._decide)

    def _keep(self, channel: int, band: NDArray[Any]) -> None:
        """Keep the values of a band (h, w); those that no measurement can be are invalid and become 0."""
        self.values[channel] = band
        if band.dtype.kind == "f":
            measured = is_measured(band, _largest(self._bands[channel], self._scene.quantity))
            self.valid &= measured
            self.values[channel][~measured] = 0.0  # 0 * inf would be NaN in a chip

    def _count(self, dataset: DatasetReader, indexes: list[int], window: Window, *, same: bool) -> None:
        if not same:  # which source tiles a warp decodes is GDAL's affair
            self.cost.decoded_px += window.size_px * len(indexes)
            return
        together = len(indexes) > 1 and dataset.interleaving is not None and dataset.interleaving.name == "pixel"
        rows, cols = dataset.block_shapes[0]
        first = Window(window.col_off // cols, window.row_off // rows, 1, 1)
        last_row, last_col = (window.row_end - 1) // rows, (window.col_end - 1) // cols
        n_tiles = (last_row + 1 - first.row_off) * (last_col + 1 - first.col_off)
        self.cost.decoded_px += n_tiles * rows * cols * (dataset.count if together else len(indexes))
        for row in range(first.row_off, last_row + 1):
            for col in range(first.col_off, last_col + 1):
                for index in indexes[:1] if together else indexes:
                    self.cost.file_bytes += _tile_bytes(dataset, index, row, col)


def _any_data(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Where any band of (C, h, w) values holds something other than nodata, as (h, w)."""
    valid = is_data(values[0], nodata)
    for band in values[1:]:
        valid |= is_data(band, nodata)
    return valid


def _data_bands(dataset: DatasetReader, band: Band) -> set[int]:
    """Numbers of all bands of a file but its alpha, whose nodata decides together."""
    return {
        index for index, color in enumerate(dataset.colorinterp, 1)
        if index != band.alpha and (color.name != "alpha" or band.alpha == 0)
    }  # fmt: skip


def _absent(dataset: DatasetReader, indexes: list[int], nodata: float, window: Window) -> bool:
    """Whether the file's index has no tile at all of some bands over a window, and what is read there is nodata."""
    if dataset.driver != "GTiff":  # others tell of no tile where it lies
        return False
    filled = dataset.nodatavals[indexes[0] - 1] or 0.0  # GDAL fills with the declared nodata, else with zeros
    if filled != nodata and not (np.isnan(filled) and np.isnan(nodata)):
        return False
    rows, cols = dataset.block_shapes[indexes[0] - 1]
    return bool(window) and not any(
        _tile_bytes(dataset, index, row, col)
        for index in indexes
        for row in range(window.row_off // rows, ceil_div(window.row_end, rows))
        for col in range(window.col_off // cols, ceil_div(window.col_end, cols))
    )


def _tile_bytes(dataset: DatasetReader, index: int, row: int, col: int) -> int:
    """Compressed bytes of a tile or strip; 0 if the file does not store it."""
    from rasterio.errors import RasterBlockError

    try:
        return int(dataset.block_size(index, row, col))
    except RasterBlockError:
        return 0


def _cell(dataset: DatasetReader) -> tuple[int, int]:
    """(rows, columns) of what is kept together: whole tiles, of about 512 px; strips and huge tiles are cut across."""
    rows, cols = dataset.block_shapes[0]
    if rows > _LARGE_PX or _LARGE_PX < cols < dataset.width:
        return CELL_PX, CELL_PX
    return round_up(CELL_PX, rows), CELL_PX if cols >= dataset.width else round_up(CELL_PX, cols)


def _largest(band: Band, quantity: str) -> float:
    """The magnitude from which a stored float of a band is fill, or garbage: one such pixel turns the answers of a network for
    all pixels that see it."""
    if not quantity.endswith("reflectance") or not band.scale:
        return HUGE
    return min(HUGE, (IMPOSSIBLE + abs(band.offset)) / abs(band.scale))


def _source(band: Band) -> tuple[Any, ...]:
    """What bands must share to be read together; repr, as NaN equals itself there, and None sorts."""
    how = band.categorical, band.resampling or "", band.shift_px
    return band.asset, *how, repr(band.nodata), repr(band.alpha), band.nodata_in
