"""An image as a product: a COG with all of its bands, their statistics, and the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.planning.image_plan import ImagePlan
from earthloom.jobs.products import quicklook
from earthloom.jobs.products.product import Raster, StageProduct, cog_asset, file_asset
from earthloom.jobs.products.qgis import image_style
from earthloom.jobs.products.renders import stretch
from earthloom.jobs.products.stac_item import AssetInfo, BandInfo
from earthloom.jobs.products.statistics import Counted, band_statistics
from earthloom.models.inference.stack import Stack
from earthloom.models.inference.transfer import to_stored
from earthloom.tiling.counting import BandSum, count
from earthloom.tiling.grid import Grid
from earthloom.tiling.window import Window
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.zarr_sink import Layer

_RGB = frozenset(("red", "green", "blue"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProduct(StageProduct):
    """An image: bands of one dtype in one file."""

    image: ImagePlan
    grid: Grid
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of its TIFF."""
    asset: str = "image"
    """Its name in the STAC item."""
    title: str = ""
    """What the picture says that it is."""
    meaning: str = ""
    """What a pixel of any of its bands is; empty: its band of its image."""

    @property
    def stage(self) -> int:
        return self.image.stage

    @property
    def rasters(self) -> tuple[Raster, ...]:
        image = self.image
        profile = CogProfile(
            grid=self.grid, descriptions=image.bands, dtype=image.dtype, nodata=image.nodata, scales=image.gain,
            offsets=image.bias, dataset_tags=self.tags, colors=_colors(image.bands),
        )  # fmt: skip
        return (Raster(file=f"{image.name}.tif", layers=image.layers, profile=profile),)

    @property
    def layers(self) -> tuple[Layer, ...]:
        image = self.image
        return tuple(
            Layer(
                name=layer, dtype=image.dtype, nodata=image.nodata,
                attributes={
                    "long_name": self._meaning_of(band), "scale_factor": gain, "add_offset": bias,
                    **({"quantity": image.quantity} if image.quantity else {}),
                },
            )
            for layer, band, gain, bias in zip(image.layers, image.bands, image.gain, image.bias, strict=True)
        )  # fmt: skip

    def stored(self, made: Stack) -> dict[str, NDArray[Any]]:
        image = self.image
        pixels = to_stored(
            made.select(image.bands), gain=image.gain, bias=image.bias, dtype=image.dtype, nodata=image.nodata
        )
        return dict(zip(image.layers, pixels, strict=True))

    def count(self, pixels: Mapping[str, NDArray[Any]], shard: Window) -> Counted:
        return Counted(sums={layer: count(pixels[layer], self.image.nodata) for layer in self.image.layers})

    def sums(self, counted: Counted) -> Mapping[str, BandSum]:
        return {layer: counted.sums[layer] for layer in self.image.layers}

    def nodata_px(self, counted: Counted) -> int:
        return max(total.nodata for total in self.sums(counted).values())

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        bands = self._bands(counted)
        numbers = [self.image.bands.index(name) for name in dict.fromkeys(quicklook.true_color(self.image.bands))]
        ranges = [
            [limit * self.image.gain[number] + self.image.bias[number] for limit in limits]
            for number in numbers
            if (limits := stretch(bands[number].scale, bands[number].data_type, bands[number].statistics))
        ]
        shown = len(ranges) == len(numbers)  # an image without a valid pixel has no range
        return {f"{self.image.name}.qml": image_style([number + 1 for number in numbers], ranges)} if shown else {}

    def assets(self, counted: Counted) -> list[AssetInfo]:
        (raster,) = self.rasters
        styles = [
            file_asset(f"{self.asset}-style", name, "application/xml", "QGIS style", role="metadata")
            for name in self.sidecars(counted)
        ]
        return [cog_asset(raster, self.asset, f"Image: {', '.join(self.image.bands)}", self._bands(counted)), *styles]

    def picture(
        self, layer: Callable[[str], NDArray[Any]], counted: Counted, title: str, pixel_m: tuple[float, float]
    ) -> bytes:
        names = quicklook.true_color(self.image.bands)
        pixels = np.stack([layer(self.image.layers[self.image.bands.index(name)]) for name in names])
        subtitle = f"{self.title}  ·  {', '.join(dict.fromkeys(names))}"
        return quicklook.image_png(
            pixels, nodata=self.image.nodata, title=title, subtitle=subtitle, pixel_m=pixel_m
        )  # fmt: skip

    def _meaning_of(self, band: str) -> str:
        return self.meaning or f"{band} of {self.image.name}"

    def _bands(self, counted: Counted) -> list[BandInfo]:
        """Bands with their statistics, of stored values."""
        image, found = self.image, list[BandInfo]()
        for band, layer, gain, bias in zip(image.bands, image.layers, image.gain, image.bias, strict=True):
            found.append(
                BandInfo(
                    name=band, description=self._meaning_of(band), data_type=image.dtype, nodata=image.nodata,
                    scale=gain, offset=bias, statistics=band_statistics(counted.sums[layer]), quantity=image.quantity,
                )
            )  # fmt: skip
        return found


def _colors(bands: tuple[str, ...]) -> tuple[str, ...]:
    """What bands are to a viewer; none of an image of one band, which is grey."""
    return (
        tuple(band if band in _RGB else "undefined" for band in bands) if _RGB & set(bands) and len(bands) > 1 else ()
    )
