"""A map of where water always is, as one more band of every scene: what is water now and not there is a flood.

The file is read as a band is, onto the scene's grid by nearest neighbour, and its bytes are part of the result's key. Reads no
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from earthloom.jobs.intake.grids import refuse_too_fine
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all
from earthloom.models.cards.card import PERMANENT_WATER
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.footprint import describe_extent, share_covered
from earthloom.tiling.resampling import resampling

_WHOLE = 0.995  # a share that rounds to 100 %


def with_permanent_water(
    opened: Sequence[OpenedScene | RefusedScene], reference: str
) -> list[OpenedScene | RefusedScene]:
    """Add the band `permanent_water` to every scene; what is wrong with one is told in its place.

    Args:
        reference: of a raster, in any CRS, whose first band is 0 on land and any other number on permanent water.

    Raises:
        ConfigError: if it is no single raster that can be read; the message says why.
        StorageError: if storage cannot be asked.
    """
    said = SceneOptions(bands=((PERMANENT_WATER, 1),), quantity="dn")
    found = open_all(expand([reference]), said)
    if len(found) != 1:
        raise ConfigError(
            f"`permanent_water={reference}` names {len(found)} files; make one raster of them (`rio merge`)"
        )
    water = found[0]
    if isinstance(water, RefusedScene):
        raise ConfigError(f"`permanent_water={reference}` cannot be used: {water.message}")
    return [one if isinstance(one, RefusedScene) else _joined(one, water) for one in opened]


def _joined(opened: OpenedScene, water: OpenedScene) -> OpenedScene | RefusedScene:
    scene, asset = opened.scene, water.scene.assets[0]
    try:
        share = share_covered(scene.grid, water.scene.grid)
        if share == 0:
            raise SceneError(
                f"{scene.id} covers {describe_extent(scene.grid)} and {asset.ref.name}, which `permanent_water` names, "
                f"{describe_extent(water.scene.grid)}: they do not overlap; give a map of the same ground"
            )
        refuse_too_fine(asset.ref.name, water.grids[0], water.pixel_bytes[0], scene.grid, "the scene")
    except SceneError as error:
        identities = tuple(asset.identity for asset in scene.assets)
        return RefusedScene(id=scene.id, message=str(error), kind=type(error).__name__, identities=identities)
    notes = (
        []
        if share >= _WHOLE
        else [f"{asset.ref.name} covers {100 * share:.3g} % of {scene.id}; the rest becomes nodata"]
    )
    (band,) = water.scene.select((PERMANENT_WATER,))
    band = replace(
        band, asset=len(scene.assets), categorical=True, scale=1.0, offset=0.0,
        nodata=None if band.nodata == 0 else band.nodata,  # who burns polygons calls the rest nodata, and it is land
        resampling=resampling(water.grids[0], scene.grid, categorical=True),
    )  # fmt: skip
    return replace(
        opened, scene=replace(scene, assets=(*scene.assets, asset), bands=(*scene.bands, band)),
        grids=(*opened.grids, water.grids[0]), pixel_bytes=(*opened.pixel_bytes, water.pixel_bytes[0]),
        notes=(*opened.notes, *notes),
    )  # fmt: skip
