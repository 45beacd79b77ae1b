"""The base of all kinds of products, so that whoever writes, counts and publishes loops over products.

A kind is a `Product`; one that a stage of a chain makes is a `StageProduct`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.stac_item import COG, AssetInfo, BandInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.models.inference.stack import Stack
from earthloom.tiling.counting import BandSum, ClassArea
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.overview import reduce_mean, reduce_mode
from earthloom.tiling.writing.zarr_sink import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """One COG of a result, and the layers of the Zarr that hold its bands."""

    file: str
    layers: tuple[str, ...]
    profile: CogProfile
    """Profile of the file, without statistics."""
    by_mode: bool = False
    """Whether an overview's pixel is the most frequent of its four, and not their mean."""
    attribute_table: Callable[[Counted], str] | None = None
    """From what all shards together hold to the XML of its raster attribute table, of a class map."""

    def reduce(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The next overview level, (C, h, w) to (C, ceil(h / 2), ceil(w / 2))."""
        if self.by_mode:
            return np.stack([reduce_mode(band) for band in pixels])
        return np.stack([reduce_mean(band, self.profile.nodata) for band in pixels])


class Product(ABC):
    """Layers that are published together: their files, their numbers and their picture."""

    resampling: ClassVar[str] = "average"
    """How the overviews of its main layer are made, in the words of the Zarr convention: `mode` or `average`."""

    @property
    @abstractmethod
    def rasters(self) -> tuple[Raster, ...]:
        """Its COGs, in the order of its layers."""

    @property
    @abstractmethod
    def layers(self) -> tuple[Layer, ...]:
        """Its arrays in the result's Zarr."""

    @abstractmethod
    def count(self, pixels: Mapping[str, NDArray[Any]], shard: Window) -> Counted:
        """What a shard holds.

        Args:
            pixels: (h, w) by layer, of the shard.
            shard: where it lies in the result.
        """

    @abstractmethod
    def sums(self, counted: Counted) -> Mapping[str, BandSum]:
        """What each of its layers holds as a band of numbers, over the whole grid."""

    @abstractmethod
    def nodata_px(self, counted: Counted) -> int:
        """Pixels of the whole grid without data."""

    def areas(self, counted: Counted) -> list[ClassArea]:
        """One row per class; none of a product without classes."""
        return []

    def counts(self, counted: Counted) -> Mapping[str, int]:
        """Objects by the name of their class; none of a product of pixels alone."""
        return {}

    @abstractmethod
    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        """Files that lie beside its COGs, by name."""

    @abstractmethod
    def assets(self, counted: Counted) -> list[AssetInfo]:
        """What the STAC item says of its files, but for their sizes and checksums."""

    @abstractmethod
    def picture(
        self, layer: Callable[[str], NDArray[Any]], counted: Counted, title: str, pixel_m: tuple[float, float]
    ) -> bytes:
        """The quicklook, a PNG file.

        Args:
            layer: gives an overview of one of its layers, (h, w), north up.
            counted: what all shards together hold.
            title: first line.
            pixel_m: width and height of a pixel of the overview, in metres.
        """


class StageProduct(Product):
    """A product that a stage of a chain makes of a scene."""

    @property
    @abstractmethod
    def stage(self) -> int:
        """Number of the stage that makes it."""

    @abstractmethod
    def stored(self, made: Any) -> dict[str, NDArray[Any]]:
        """(h, w) by layer, as they are stored, from what the stage made (`ChainResult.made`)."""

    def rows(self, made: Any, part: Window, source: Stack) -> Mapping[str, bytes]:
        """What a shard keeps, by the name of a table, of what the stage made and of what no pixel says; mostly nothing.

        Args:
            part: the shard's window, in the result.
            source: the scene over at least the shard.
        """
        return {}


def cog_asset(raster: Raster, name: str, title: str, bands: Sequence[BandInfo]) -> AssetInfo:
    """A COG as an asset of the item."""
    return AssetInfo(
        name=name, href=f"./{raster.file}", media_type=COG, roles=("data",), title=title, bands=tuple(bands),
        grid=raster.profile.grid,
    )  # fmt: skip


def file_asset(name: str, file: str, media_type: str, title: str, *, role: str = "data") -> AssetInfo:
    """A file beside the item, without pixels, as an asset of it."""
    return AssetInfo(name=name, href=f"./{file}", media_type=media_type, roles=(role,), title=title)
