"""What is published of one result on one grid, whoever made its pixels: its layers, its files, and what it says of itself.

A scene, a composite and a map of changes are each a `Publication`; `jobs.publish` writes any of them in the same way. Knows
nothing of plans, models or storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from earthloom.jobs.products.product import Product, Raster
from earthloom.jobs.products.stac_item import ZARR_LEVELS, AssetInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.names import DATA, QUICKLOOK
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.grid import Grid
from earthloom.tiling.writing.zarr_sink import ZarrLayout


class About(Protocol):
    """What a result says of itself beyond its pixels. The same bytes whenever it is asked."""

    def fields(self) -> Mapping[str, Any]:
        """Fields of `result.json` that say what the result is of, beside those that every result has."""

    def item(self, assets: Sequence[AssetInfo], areas: Sequence[ClassArea]) -> dict[str, Any]:
        """The STAC item.

        Args:
            assets: all of the result's files, with their sizes and checksums.
            areas: areas of the main product, one row per class.
        """

    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        """JSON documents that the item links to and that lie elsewhere, by key below OUT; written before the commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A result on one grid, written by shards and published as COGs, one Zarr, a picture and a STAC item."""

    name: str
    """Stands first in messages and on the picture."""
    prefix: str
    """Prefix below OUT under which everything of this result lies."""
    grid: Grid
    shard_px: int
    title: str
    """Title of its Zarr."""
    products: tuple[Product, ...]
    about: About
    main: int = 0
    """Position of the product that gives the picture and the numbers of the result."""

    @property
    def main_product(self) -> Product:
        return self.products[self.main]

    @property
    def rasters(self) -> tuple[Raster, ...]:
        """Its COGs, in the order of the layers of its Zarr."""
        side = self.layout.pyramid.tile_px
        return tuple(
            replace(raster, profile=replace(raster.profile, tile_px=side))
            for product in self.products
            for raster in product.rasters
        )

    @property
    def layout(self) -> ZarrLayout:
        """Its Zarr, with the layers of all products."""
        return ZarrLayout(
            grid=self.grid, shard_px=self.shard_px, title=self.title,
            layers=tuple(layer for product in self.products for layer in product.layers),
            resampling=self.main_product.resampling,
        )  # fmt: skip

    @property
    def stored_bytes(self) -> int:
        """Stored bytes of one pixel, all layers together."""
        return sum(np.dtype(layer.dtype).itemsize for layer in self.layout.layers)

    def assets(self, files: Mapping[str, StoredObject], counted: Counted) -> list[AssetInfo]:
        """What the STAC item says of each published file.

        Args:
            files: sizes and checksums, by name below the prefix.
            counted: what all shards together hold.
        """
        found = [asset for product in self.products for asset in product.assets(counted)]
        bands = [band for asset in found for band in asset.bands]
        every = tuple(replace(band, name=layer.name) for band, layer in zip(bands, self.layout.layers, strict=True))
        found += [
            AssetInfo(
                name="data", href=f"./{DATA}", media_type=ZARR_LEVELS, roles=("data",), title="All layers as Zarr", bands=every,
                grid=self.grid,
            ),
            AssetInfo(
                name="quicklook", href=f"./{QUICKLOOK}", media_type="image/png", roles=("overview", "thumbnail"),
                title="Quicklook",
            ),
        ]  # fmt: skip
        return [_stored(asset, files.get(asset.href.removeprefix("./"))) for asset in found]


def _stored(asset: AssetInfo, stored: StoredObject | None) -> AssetInfo:
    """The asset with size and checksum; a store of many objects has none of its own."""
    return replace(asset, size=stored.size, sha256=stored.sha256) if stored else asset
