"""Names and profiles of what a scene publishes: the one place that says which layer is called what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.planning.chain import ImagePlan
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.legend import cog_tags, colors
from earthloom.tiling.encoding import CONFIDENCE_SCALE
from earthloom.tiling.writing.cog import CogProfile
from earthloom.tiling.writing.overview import reduce_mean, reduce_mode
from earthloom.tiling.writing.zarr_sink import Layer, ZarrLayout

if TYPE_CHECKING:
    pass

CLASSES, CONFIDENCE = "classes", "confidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raster:
    """One COG of a result, and the layers of the Zarr that hold its bands."""

    file: str
    layers: tuple[str, ...]
    profile: CogProfile
    """Without statistics."""
    image: ImagePlan | None = None
    """None for the class map and its confidence."""

    def reduce(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The next overview level, (C, h, w) to (C, ceil(h / 2), ceil(w / 2))."""
        if self.layers == (CLASSES,):
            return reduce_mode(pixels[0])[None]
        return np.stack([reduce_mean(band, self.profile.nodata) for band in pixels])


def rasters(plan: ScenePlan) -> tuple[Raster, ...]:
    """The COGs of a scene, in the order of the layers of its Zarr."""
    dataset_tags, class_tags = cog_tags(plan.card)
    tags = dataset_tags | {"EARTHLOOM_KEY": plan.key, "EARTHLOOM_SCENE": plan.scene.id}
    if plan.scene.datetime:
        tags["TIFFTAG_DATETIME"] = plan.scene.datetime[:19].replace("-", ":").replace("T", " ")
    found = []
    if plan.card.classes:
        classes = CogProfile(
            grid=plan.grid, descriptions=(f"{plan.card.name} class",), colormap=colors(plan.card), dataset_tags=tags,
            band_tags=(class_tags,),
        )  # fmt: skip
        confidence = CogProfile(
            grid=plan.grid, descriptions=("probability of the class",), scales=(CONFIDENCE_SCALE,), dataset_tags=tags
        )
        found = [
            Raster(file=f"{plan.product}.tif", layers=(CLASSES,), profile=classes),
            Raster(file=f"{plan.product}-{CONFIDENCE}.tif", layers=(CONFIDENCE,), profile=confidence),
        ]
    for image in plan.chain.images:
        profile = CogProfile(
            grid=plan.grid, descriptions=image.bands, dtype=image.dtype, nodata=image.nodata, scales=image.gain,
            offsets=image.bias, dataset_tags=tags,
        )  # fmt: skip
        found.append(Raster(file=f"{image.name}.tif", layers=image.layers, profile=profile, image=image))
    return tuple(found)


def layout_of(plan: ScenePlan) -> ZarrLayout:
    """The scene's Zarr: a class map and its confidence, or the bands of an image, or both."""
    classes = plan.card.classes
    layers = [
        Layer(
            name=CLASSES,
            attributes={
                "long_name": f"{plan.card.name} class",
                "flag_values": [entry.value for entry in classes],
                "flag_meanings": " ".join(entry.name for entry in classes),
            },
        ),
        Layer(
            name=CONFIDENCE,
            attributes={"long_name": "probability of the class", "scale_factor": CONFIDENCE_SCALE, "units": "1"},
        ),
    ] if classes else []  # fmt: skip
    for image in plan.chain.images:
        layers += [
            Layer(
                name=layer, dtype=image.dtype, nodata=image.nodata,
                attributes={"long_name": f"{band} of {image.name}", "scale_factor": gain, "add_offset": bias},
            )
            for layer, band, gain, bias in zip(image.layers, image.bands, image.gain, image.bias, strict=True)
        ]  # fmt: skip
    return ZarrLayout(
        grid=plan.grid,
        shard_px=plan.shard_px,
        title=f"{plan.card.title or plan.card.name} of {plan.scene.id}",
        layers=tuple(layers),
        resampling="mode" if classes else "average",
    )
