"""A scene on another grid than that of its finest file, once it is opened. Knows nothing of models, and opens nothing."""

from __future__ import annotations

from dataclasses import replace

from earthloom.jobs.intake.grids import refuse_too_fine
from earthloom.jobs.intake.scenes import OpenedScene
from earthloom.tiling.errors import SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.warp import data_as_alpha
from earthloom.tiling.resampling import resampling
from earthloom.tiling.scene import Band


def onto_grid(opened: OpenedScene, grid: Grid) -> OpenedScene:
    """The scene with its files read onto `grid` as `onto` would have them: each resampled once, over the whole grid.

    Raises:
        SceneError: if a file cannot be resampled, or is so much finer that a read could not hold its pixels.
    """
    scene = opened.scene
    for asset, own, pixel_bytes in zip(scene.assets, opened.grids, opened.pixel_bytes, strict=True):
        refuse_too_fine(asset.ref.name, own, pixel_bytes, grid, "the model wants some")

    def moved(band: Band) -> Band:
        how = resampling(opened.grids[band.asset], grid, categorical=band.categorical)
        if how and band.alpha == 0:
            raise SceneError(f"{scene.id}: {data_as_alpha(scene.assets[band.asset].ref.name, band.index)}")
        return replace(band, resampling=how)

    bands = tuple(moved(band) for band in scene.bands)
    clear = tuple(replace(one, band=moved(one.band)) for one in scene.clear)
    return replace(opened, scene=replace(scene, grid=grid, bands=bands, clear=clear))
