"""Two dates brought onto each other: how far the earlier one's ground lies beside the later one's, from their pixels.

Pixels are read in a disposable process, as headers are. Knows nothing of models.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from earthloom.jobs.intake.scenes import OpenedScene
from earthloom.models.cards.card import BEFORE
from earthloom.tiling.errors import SceneError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.registration import LEAST_PX, Shift, measure_shift
from earthloom.tiling.resampling import reached
from earthloom.tiling.scene import Band, Scene
from earthloom.tiling.window import Window

MOST_PX = 16
"""Along an axis. What lies further beside its place is no matter of terrain or of the sensor: its georeference is wrong."""

_WINDOW_PX = 512
_PER_SIDE = 2  # windows: enough to see past clouds, few enough for a scene that is far away
_LEAST_VALID = 0.25  # of a window, for it to be looked at
_BEST = ("red", "green", "nir", "blue", "swir16")  # bands that show most edges, the sharpest of them first


def register(opened: OpenedScene, inspectors: Disposables) -> OpenedScene:
    """A pair whose earlier date is read from where its ground lies, to the nearest pixel of the scene's grid.

    What remains is less than half a pixel along each axis and is left alone: interpolation would blur both dates unlike
    each other. Where the dates have too little in common, or no band, nothing is moved.

    Args:
        opened: from `jobs.intake.pairs.open_pairs`, on the grid that it is mapped on.
        inspectors: processes that read pixels.

    Raises:
        SceneError: if they lie more than `MOST_PX` beside each other.
        StorageError: if the storage failed.
    """
    scene = opened.scene
    names = {band.name for band in scene.bands if not band.categorical}
    common = [name for name in names if BEFORE + name in names]
    if not common:
        return opened
    name = min(common, key=lambda name: (_BEST.index(name) if name in _BEST else len(_BEST), name))
    bands = scene.select((name, BEFORE + name))
    earlier = scene.assets[bands[1].asset].ref.name
    windows = _windows(reached(opened.grids[bands[1].asset], scene.grid))
    if not windows:
        return opened
    used = {scene.assets[band.asset] for band in (*bands, *(clear.band for clear in scene.clear))}
    memories = [identity.memory_of(asset) for asset in used if asset.ref.scheme == "file"]
    try:
        shift = inspectors.call(earlier, _measure, scene, bands, windows, memories)
    except SceneError:  # a tile that cannot be read is told when it is needed
        return opened
    if not shift.is_reliable:
        note = (
            f"how far {earlier} lies beside the scene cannot be told: they have too little in common; nothing is moved"
        )
        return replace(opened, notes=(*opened.notes, note))
    whole = round(shift.rows_px), round(shift.cols_px)
    if max(map(abs, whole)) > MOST_PX:
        raise SceneError(_too_far(opened, shift, bands[1]))
    measured = replace(scene, before_shift_px=(shift.rows_px, shift.cols_px))
    if whole == (0, 0):
        return replace(opened, scene=measured)

    def moved(band: Band) -> Band:
        if not band.name.startswith(BEFORE):
            return band
        return replace(band, shift_px=whole, resampling=band.resampling or "nearest")

    clear = tuple(replace(one, band=moved(one.band)) for one in scene.clear)
    measured = replace(measured, bands=tuple(map(moved, scene.bands)), clear=clear)
    note = (
        f"{earlier} shows the ground {shift.rows_px:.2f} px further down and {shift.cols_px:.2f} px to the right; it is read "
        f"from {whole[0]} and {whole[1]} px there"
    )
    return replace(opened, scene=measured, notes=(*opened.notes, note))


def _windows(common: Window) -> list[Window]:
    """Up to four of one size, spread over the part of the grid where both dates are."""
    height, width = (min(side, _WINDOW_PX) for side in common.shape)
    if min(height, width) < LEAST_PX:
        return []

    def offsets(start: int, whole: int, side: int) -> list[int]:
        n = min(_PER_SIDE, whole // side)
        return [start + (2 * place + 1) * (whole - n * side) // (2 * n) + place * side for place in range(n)]

    return [
        Window(col, row, width, height)
        for row in offsets(common.row_off, common.height, height)
        for col in offsets(common.col_off, common.width, width)
    ]


def _measure(
    scene: Scene, bands: tuple[Band, ...], windows: list[Window], memories: list[identity.Memory | None]
) -> Shift:  # fmt: skip
    os.environ |= {"GDAL_CACHEMAX": "64", "GDAL_NUM_THREADS": "1"}
    for memory in memories:
        identity.remember(memory)
    looked = [read_pixels(scene, bands, window, 0) for window in windows]
    looked = [pixels for pixels in looked if pixels.valid.mean() >= _LEAST_VALID]
    if not looked:
        return Shift(rows_px=0.0, cols_px=0.0, strength=0.0)
    values = np.stack([pixels.values for pixels in looked])  # (N, 2, H, W)
    return measure_shift(values[:, 0], values[:, 1], np.stack([pixels.valid for pixels in looked]))


def _too_far(opened: OpenedScene, shift: Shift, band: Band) -> str:
    scene, grid, name = opened.scene, opened.grids[band.asset], opened.scene.assets[band.asset].ref.name
    said = (
        f"{scene.id}: {name} shows the ground {shift.rows_px:.1f} px further down and {shift.cols_px:.1f} px to the right, "
        f"{shift.length_px * scene.grid.gsd_m():.3g} m in all, and at most {MOST_PX} px along an axis are taken back: its "
        "georeference is wrong"
    )
    if grid.crs != scene.grid.crs:
        return f"{said}; mend it, or warp it onto the grid of the later scene"
    east, south = (shift.cols_px * scene.grid.transform[0], shift.rows_px * scene.grid.transform[4])
    a, _, left, _, e, top = grid.transform
    corners = (left - east, top - south, left - east + a * grid.width, top - south + e * grid.height)
    where = " ".join(f"{value:.10g}" for value in corners)
    return f"{said}; mend it: gdal_edit.py -a_ullr {where} {name}"
