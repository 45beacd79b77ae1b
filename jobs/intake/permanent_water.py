"""A map of where water always is, as one more band of every scene: what is water now and not there is a flood.

A raster is read as a band is, onto the scene's grid by nearest neighbour; polygons are laid onto that grid. The file's bytes
are part of the result's key. Reads no pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from earthloom.jobs.intake.grids import refuse_too_fine
from earthloom.jobs.intake.options import SceneOptions
from earthloom.jobs.intake.scenes import OpenedScene, RefusedScene, expand, open_all, refused_scene
from earthloom.models.cards.card import PERMANENT_WATER
from earthloom.tiling.errors import ConfigError, EarthloomError, SceneError
from earthloom.tiling.footprint import describe_extent, share_covered
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.burn import n_polygons
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.vectors import vector_format
from earthloom.tiling.resampling import resampling
from earthloom.tiling.scene import Asset, Band
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

_WHOLE = 0.995  # a share that rounds to 100 %


def with_permanent_water(
    opened: Sequence[OpenedScene | RefusedScene], reference: str
) -> list[OpenedScene | RefusedScene]:
    """Add the band `permanent_water` to every scene; what is wrong with one is told in its place.

    Args:
        reference: of a raster, in any CRS, whose first band is 0 on land and any other number on permanent water; or of a
            vector file of polygons of permanent water.

    Raises:
        ConfigError: if it is no single file that can be read; the message says why.
        StorageError: if storage cannot be asked.
    """
    if polygons := _polygons(reference):
        return [one if isinstance(one, RefusedScene) else _laid(one, polygons) for one in opened]
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


def _polygons(reference: str) -> Asset | None:
    """The pinned vector file that a reference names; None where it is none, as of rasters and their STAC items."""
    try:  # a pattern is no single object; and what is wrong with a raster is told where it is opened
        asset = replace(pin(ObjectRef.parse(reference)), driver="polygons")
    except EarthloomError:
        return None
    form = vector_format(asset)
    if form != "GeoJSON":
        return asset if form else None
    try:
        document = json.loads(open_store(asset.ref).get())
    except ValueError as error:
        raise ConfigError(f"`permanent_water={reference}` cannot be used: it is no GeoJSON: {error}") from error
    listed = document.get("features")
    features = listed if isinstance(listed, list) else [document]
    is_stac = any(isinstance(feature, dict) and "assets" in feature for feature in features)
    return None if is_stac else asset  # what else is wrong with it is told where its features are read


def _laid(opened: OpenedScene, asset: Asset) -> OpenedScene | RefusedScene:
    """The scene with polygons of water: what is outside of them is land."""
    try:
        there = n_polygons(asset, opened.scene.grid)
    except SceneError as error:
        return refused_scene(opened.scene, error)
    note = f"no area of {asset.ref.name} lies in {opened.scene.id}: all of its water counts as flooded"
    band = Band(name=PERMANENT_WATER, asset=0, index=1, dtype="uint8", categorical=True)
    return _with_band(opened, asset, band, opened.scene.grid, 1, () if there else (note,))


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
        return refused_scene(scene, error)
    notes = (
        []
        if share >= _WHOLE
        else [f"{asset.ref.name} covers {100 * share:.3g} % of {scene.id}; the rest becomes nodata"]
    )
    (band,) = water.scene.select((PERMANENT_WATER,))
    band = replace(
        band, categorical=True, scale=1.0, offset=0.0,
        nodata=None if band.nodata == 0 else band.nodata,  # who burns polygons calls the rest nodata, and it is land
        resampling=resampling(water.grids[0], scene.grid, categorical=True),
    )  # fmt: skip
    return _with_band(opened, asset, band, water.grids[0], water.pixel_bytes[0], notes)


def _with_band(
    opened: OpenedScene, asset: Asset, band: Band, grid: Grid, pixel_bytes: int, notes: Sequence[str]
) -> OpenedScene:
    scene = opened.scene
    band = replace(band, asset=len(scene.assets))
    return replace(
        opened, scene=replace(scene, assets=(*scene.assets, asset), bands=(*scene.bands, band)),
        grids=(*opened.grids, grid), pixel_bytes=(*opened.pixel_bytes, pixel_bytes), notes=(*opened.notes, *notes),
    )  # fmt: skip
