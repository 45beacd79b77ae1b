"""Finds and reads the polygons that get a class each, and says how far their chips reach.

Reads the file of polygons whole, as labels are read; opens no scene.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from earthloom.jobs.config import RunConfig
from earthloom.jobs.planning.words import Variants
from earthloom.models.cards.card import ModelCard
from earthloom.models.inference.footprints import Places
from earthloom.tiling.chips import ChipGrid
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.burn import polygons_on
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.rounding import ceil_div
from earthloom.tiling.scene import Asset
from earthloom.tiling.storage.objects import ObjectRef

_LARGEST_PX = 1024
"""Most pixels from a footprint's middle to its edge; every block reads so far around; nothing larger is one building."""
_CELL_PX = 512
"""Side of the squares that windows are aligned to; it divides every shard."""
_KEPT = 4  # files on grids, per process


@dataclass(frozen=True, slots=True, kw_only=True)
class FootprintFile:
    """A pinned file of polygons."""

    asset: Asset
    layer: str | None = None


def find_footprints(config: RunConfig) -> FootprintFile | None:
    """The file that the run names; None where it names none.

    Raises:
        ConfigError: if a layer of no file is named.
        SceneError: if there is no such file.
        StorageError: if it cannot be read.
    """
    if config.footprints is None:
        if config.footprints_layer:
            raise ConfigError(f"`footprints_layer={config.footprints_layer}` is of a file; name it: `footprints=FILE`")
        return None
    return FootprintFile(asset=pin(ObjectRef.parse(config.footprints)), layer=config.footprints_layer)


@lru_cache(maxsize=_KEPT)
def places_of(file: FootprintFile, grid: Grid) -> Places:
    """The polygons whose middle lies in a grid, in its pixels.

    Raises:
        SceneError: if the file is not what it was when it was pinned, cannot be read, or holds what is no polygon or
            larger than a footprint may be.
    """
    name = file.asset.ref.name
    near, outlines = polygons_on(file.asset, grid, "footprints", file.layer)
    places = Places.of(near.astype(np.int64), outlines, grid.window)
    if (radius := places.radius_px) > _LARGEST_PX:
        large = next(n for n in range(len(places)) if places.only([n]).radius_px == radius)
        raise SceneError(
            f"{name}: feature {int(places.numbers[large])} reaches {radius} px from its middle, and a footprint at most "
            f"{_LARGEST_PX}; one class says nothing of so much ground: cut it, or take it out"
        )
    return places


def at_footprints(members: Variants, *, is_last: bool) -> Variants:
    """The models that label chips, asked for the chips around footprints.

    Raises:
        ConfigError: if they do not label chips, or another stage follows.
    """
    card = members[0][0]
    if card.labels is None:
        raise ConfigError(
            f"`footprints` get their classes from a model that labels chips, and {card.label} makes {card.makes}; train one: "
            "docs/recognition.md"
        )
    if not is_last:
        raise ConfigError(
            f"`footprints`: {card.label} gives polygons their classes, so it comes last; put masks before it"
        )
    return [
        (replace(one, labels=replace(one.labels, footprints=True)), folder) for one, folder in members if one.labels
    ]


def chips_around(places: Places, card: ModelCard, grid: Grid) -> ChipGrid:
    """Windows that hold, for any block, the chips of all footprints that reach into it."""
    chip_px = card.core_px + 2 * (card.halo_px or 0)
    return ChipGrid(
        scene=grid.window, core_px=_CELL_PX, halo_px=places.radius_px + ceil_div(chip_px, 2) + 1, stride_px=1
    )
