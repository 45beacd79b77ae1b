"""Windows of one open file: on its own grid, or warped onto another one, with what its mask says. Knows no scene.

A warp gives the same pixels however a grid is cut, mixes nothing that is not valid into a pixel, and invents no value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.fill import HUGE
from earthloom.tiling.reading.longitudes import around_its_middle
from earthloom.tiling.reading.tile_cache import Cell
from earthloom.tiling.resampling import reached
from earthloom.tiling.scene import Band
from earthloom.tiling.window import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_PIECE_PX = 256
"""Side of the pieces of the grid that are warped from a copy of the file's pixels under them: as many as GDAL warps at once
(`tiling.resampling.PIECE_PX`)."""

_KERNEL_PX = 2
"""Pixels of the file beside a piece that its edge is made from."""

_EXACT = 1e-12  # px; GDAL then computes every pixel's place by itself, so cuts agree (it refuses 0)


def load_own(source: DatasetReader, indexes: list[int], band: Band, window: Window) -> Cell:
    """Pixels of a window of the file's own grid, and where its mask and alpha say that they are valid."""
    extra = [band.alpha] if band.alpha else []
    read = source.read([*indexes, *extra], window=rasterio_window(window))
    mask = read[-1] > 0 if extra else None
    if has_mask(source, band):
        own = source.read_masks(indexes[0], window=rasterio_window(window)) > 0  # one mask for the whole file
        mask = own if mask is None else mask & own
    return read[: len(indexes)], mask


def is_data(band: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Where a band is not nodata. Any shape."""
    known: NDArray[np.bool_] = ~np.isnan(band) if nodata is not None and np.isnan(nodata) else band != nodata
    return known


def is_measured(values: NDArray[Any], largest: float = HUGE) -> NDArray[np.bool_]:
    """Where a number can be a measurement: not NaN, infinite or as large as only fill is. Any shape."""
    measured: NDArray[np.bool_] = np.abs(values) < largest
    return measured


def _is_plain(values: NDArray[Any]) -> bool:
    """Whether all are measurements: a look at the ends takes a tenth of the time, and NaN is both of them."""
    return bool(values.max() < HUGE and values.min() > -HUGE)


def load_warped(
    source: DatasetReader, indexes: list[int], alpha: int | None, window: Window,
    again: Callable[[Window], Cell] | None = None, nodata: float | None = None,
) -> Cell:  # fmt: skip
    """Read bands of a warp block by block: GDAL fits its kernel to what it is asked for, so other windows give other pixels.

    Args:
        again: reads a block anew that comes out with what is no measurement and not nodata either: GDAL has mixed it into the
            pixels beside it (`hiding`).
        nodata: of the bands.
    """
    rows, cols = source.block_shapes[0]
    whole = Window(0, 0, source.width, source.height)
    values = np.empty((len(indexes), *window.shape), np.result_type(*(source.dtypes[index - 1] for index in indexes)))
    mask = np.empty(window.shape, np.bool_) if alpha else None
    for row in range(window.row_off // rows * rows, window.row_end, rows):
        for col in range(window.col_off // cols * cols, window.col_end, cols):
            block = Window(col, row, cols, rows) & whole
            common = block & window
            to, of = common.slices(window), common.slices(block)
            read = source.read(indexes, window=rasterio_window(block))
            if again and not _is_plain(read) and not (is_measured(read) | ~is_data(read, nodata)).all():
                read, known = again(block)
                mask = np.ones(window.shape, np.bool_) if mask is None else mask
                mask[to] = known[of] if known is not None else True
            elif mask is not None:  # read as a band: GDAL takes it for the mask of one or three bands only
                mask[to] = True if alpha is None else source.read(alpha, window=rasterio_window(block))[of] > 0
            values[(slice(None), *to)] = read[(slice(None), *of)]
    return values, mask


def seen_at_middles(middles: DatasetReader, indexes: list[int], nodata: float, window: Window) -> NDArray[np.bool_]:
    """Where no band has nodata in the file's pixel around the middle of one of the grid (`at_middles`)."""
    nearest, _ = load_warped(middles, indexes, None, window)
    seen: NDArray[np.bool_] = np.logical_and.reduce([is_data(band, nodata) for band in nearest])
    return seen


def load_burnt(dataset: DatasetReader, indexes: list[int], grid: Grid, band: Band, window: Window) -> Cell:
    """Read warped bands of a file that has nodata beside a mask, alpha or numbers that are no measurements.

    A warp heeds one of them, and would mix what the others hide into the pixels beside it. So all become nodata before, NaN
    where none is declared, in a copy of the pixels under each piece of the grid.
    """
    from rasterio import MemoryFile

    band = band if band.nodata is not None else replace(band, nodata=float("nan"))
    assert band.nodata is not None
    dtype, n_bands = dataset.dtypes[indexes[0] - 1], len(indexes)
    place: Any = tuple(dataset.transform)[:6]
    own = Grid(crs=dataset.crs.to_wkt(), transform=place, width=dataset.width, height=dataset.height)
    rows, cols = band.shift_px
    grid, band_there = (
        grid.crop(Window(cols, rows, grid.width, grid.height)),
        replace(band, alpha=None, shift_px=(0, 0)),
    )
    values = np.full((n_bands, *window.shape), band.nodata, dtype)
    known = np.zeros(window.shape, np.bool_)
    for piece in window.align(_PIECE_PX).split(_PIECE_PX):
        piece &= grid.window
        under = reached(grid.crop(piece), own)
        if not under:
            continue
        under = under.grow(_KERNEL_PX) & own.window
        read, seen = load_own(dataset, indexes, band, under)
        if seen is not None:
            read[:, ~seen] = band.nodata
        if read.dtype.kind == "f":
            read[~is_measured(read)] = band.nodata
        with MemoryFile() as memory:
            with memory.open(
                driver="GTiff", count=n_bands, height=under.height, width=under.width, dtype=dtype, nodata=band.nodata,
                crs=dataset.crs, transform=dataset.window_transform(rasterio_window(under)), photometric="MINISBLACK",
                alpha="NO",
            ) as copy:  # fmt: skip
                copy.write(read)
            every, whole = list(range(1, n_bands + 1)), Window(0, 0, piece.width, piece.height)
            with (
                memory.open(driver="GTiff") as copy,
                on_grid(copy, grid.crop(piece), band_there) as (warped, alpha),
                at_middles(copy, grid.crop(piece), band_there) as middles,
            ):
                found, mask = load_warped(warped, every, alpha, whole)
                if middles:
                    mask = seen_at_middles(middles, every, band.nodata, whole)
        common = piece & window
        to, of = common.slices(window), common.slices(piece)
        values[(slice(None), *to)] = found[(slice(None), *of)]
        known[to] = True if mask is None else mask[of]
    return values, known


@contextmanager
def hiding(dataset: DatasetReader, indexes: list[int], grid: Grid, band: Band) -> Iterator[Callable[[Window], Cell]]:
    """What reads blocks of a file of floats again in which something is no measurement, so that only that is lost.

    What no file declares is NaN nearly always. As nodata of a warp it is hidden at half again the cost of a plain warp;
    whatever else it is, and beside nodata, by `load_burnt` at five times the cost. So blocks without it are read plainly.
    """
    unknown = replace(band, nodata=float("nan"))
    with ExitStack() as stack:
        opened: list[tuple[DatasetReader, DatasetReader | None]] = []

        def again(block: Window) -> Cell:
            if band.nodata is None and not band.alpha and not has_mask(dataset, band):
                if not opened:
                    source, _ = stack.enter_context(on_grid(dataset, grid, unknown))
                    opened.append((source, stack.enter_context(at_middles(dataset, grid, unknown))))
                source, middles = opened[0]
                values, _ = load_warped(source, indexes, None, block)
                if (is_measured(values) | np.isnan(values)).all():
                    return values, seen_at_middles(middles, indexes, float("nan"), block) if middles else None
            return load_burnt(dataset, indexes, grid, band, block)

        yield again


def rasterio_window(window: Window) -> Any:
    from rasterio import windows

    return windows.Window(window.col_off, window.row_off, window.width, window.height)


def has_mask(dataset: DatasetReader, band: Band) -> bool:
    """Whether GDAL finds a mask of the file that is one: alpha that is data (`Band.alpha` 0) is none."""
    from rasterio.enums import MaskFlags

    flags = dataset.mask_flag_enums[band.index - 1]
    return MaskFlags.per_dataset in flags and (MaskFlags.alpha not in flags or band.alpha is None)


@contextmanager
def on_grid(dataset: DatasetReader, grid: Grid, band: Band) -> Iterator[tuple[DatasetReader, int | None]]:
    """The dataset on `grid`, and the number of the band that is its mask after a warp.

    Args:
        band: one of those that are read.

    Raises:
        SceneError: if a band is to be warped as data that GDAL can only take for alpha, or nobody decided how.
    """
    from rasterio import enums
    from rasterio.crs import CRS
    from rasterio.vrt import WarpedVRT

    crs = CRS.from_string(grid.crs)
    rows, cols = band.shift_px
    grid = grid.crop(Window(cols, rows, grid.width, grid.height))
    same = dataset.shape == grid.shape and dataset.transform == grid.affine and dataset.crs == crs
    if same:
        yield dataset, None
        return
    name = dataset.name.rpartition("/")[2]
    if band.resampling is None:
        raise SceneError(
            f"{name} lies on {tuple(dataset.transform)[:6]} and the scene on {grid.transform}, but nothing says how to "
            "resample it: set Band.resampling"
        )
    nodata = band.nodata
    together = nodata is not None and band.nodata_in == "all"
    # Without UNIFIED_SRC_NODATA a band's nodata counts only where all bands have it. Without a scale GDAL fits its
    # kernel to each piece, wider where the grids are turned against each other or the file ends: it would blur there.
    options: dict[str, Any] = {"UNIFIED_SRC_NODATA": "YES" if together else "NO", "XSCALE": "1", "YSCALE": "1"}
    flagged = next((i for i, color in enumerate(dataset.colorinterp, 1) if color == enums.ColorInterp.alpha), None)
    if flagged and band.alpha == 0:
        raise SceneError(data_as_alpha(name, flagged))
    alpha = band.alpha or flagged
    if alpha:
        options |= {"src_nodata": nodata} if nodata is None or together else {"src_nodata": nodata, "nodata": nodata}
        if alpha != flagged or alpha != dataset.count:  # GDAL finds it by itself only where it is flagged and the last
            options["src_alpha"] = alpha
    elif nodata is None or together:
        options |= {"add_alpha": True, "src_nodata": nodata}
        alpha = dataset.count + 1
    else:
        options |= {"src_nodata": nodata, "nodata": nodata}
    with WarpedVRT(
        dataset, src_crs=around_its_middle(dataset, grid), crs=crs, transform=grid.affine, width=grid.width,
        height=grid.height, tolerance=_EXACT, resampling=enums.Resampling[band.resampling], **options,
    ) as warped:  # fmt: skip
        yield warped, None if nodata is not None and not together else alpha  # else GDAL writes nodata where it is 0


@contextmanager
def at_middles(dataset: DatasetReader, grid: Grid, band: Band) -> Iterator[DatasetReader | None]:
    """The dataset on `grid` by nearest neighbour, where only that tells which pixels have nodata in their middle; else None.

    Of a file of one band GDAL makes no pixel whose middle lies on nodata. Of one of several it makes them of what is beside,
    as each band may have holes of its own: small holes would be gone, and large ones smaller.
    """
    if dataset.count == 1 or band.nodata is None or band.nodata_in == "all" or band.resampling != "bilinear":
        yield None
        return
    with on_grid(dataset, grid, replace(band, resampling="nearest")) as (nearest, _):
        yield nearest


def data_as_alpha(name: str, index: int) -> str:
    """Why a file cannot be resampled, and what to do."""
    return (
        f"band {index} of {name} is read as data and declared as alpha, which a warp to "
        f"another grid would take for the mask; mend it: gdal_edit.py -colorinterp_{index} undefined {name}"
    )
