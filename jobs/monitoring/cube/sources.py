"""A committed result as a cube needs it: its files, their grid and bands, its classes and date, read from its STAC item.

Opens no raster and knows nothing of grids that it is brought onto.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earthloom.jobs.monitoring.cube.cube import ClassInfo
from earthloom.jobs.products.legend import flags
from earthloom.jobs.records.names import CLASSES, CONFIDENCE, ITEM
from earthloom.tiling.encoding import CONFIDENCE_SCALE, NODATA
from earthloom.tiling.errors import PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from earthloom.tiling.writing.zarr_sink import Layer

IMAGE = "image"
"""Asset of the image for which a scene was mapped."""

_SHA256_MULTIHASH = "1220"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRaster:
    """One COG of a committed result."""

    name: str
    """Name below the result's prefix."""
    sha256: str
    size_bytes: int
    grid: Grid
    layers: tuple[Layer, ...]
    """Its bands, as a cube has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A committed result that a step is made from."""

    prefix: str
    scene_id: str
    moment: str
    """When it was taken: RFC 3339 in UTC."""
    rasters: tuple[SourceRaster, ...]
    classes: tuple[ClassInfo, ...]
    """Empty for an image."""
    model: str = ""
    """The model that made it, with its version."""

    @property
    def taken(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.moment)

    @property
    def date(self) -> datetime.date:
        return self.taken.astimezone(datetime.UTC).date()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer for raster in self.rasters for layer in raster.layers)


def source_at(store: Store, prefix: str) -> Source:
    """A committed result that the table may not hold yet.

    Raises:
        MissingObjectError: if it is gone.
        PublishError: if it is not one of ours, or has no date.
    """
    item = json.loads(store.get(f"{prefix}/{ITEM}"))
    source = source_of(item, prefix)
    if source is None:
        raise PublishError(f"{prefix} has lost its date; run `earthloom monitor` again")
    return source


def source_of(item: Mapping[str, Any], prefix: str) -> Source | None:
    """The result that an item describes; None where nobody knows its date.

    Raises:
        PublishError: if it is not an item of ours.
    """
    try:
        moment = item["properties"].get("datetime")
        if moment is None:
            return None
        assets = item["assets"]
        names = (CLASSES, CONFIDENCE) if CLASSES in assets else (IMAGE,)
        said = item["properties"]
        return Source(
            prefix=prefix, scene_id=str(item["properties"]["earthloom:scene"]), moment=str(moment),
            rasters=tuple(_raster(name, assets[name]) for name in names),
            classes=_classes(assets[CLASSES]) if CLASSES in assets else (),
            model=f"{said.get('earthloom:model', '')} {said.get('earthloom:model_version', '')}".strip(),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PublishError(
            f"{prefix}/{ITEM} does not describe a result of ours ({type(error).__name__}: {error}); `earthloom verify` "
            "tells what is wrong with it"
        ) from error


def _raster(asset: str, document: Mapping[str, Any]) -> SourceRaster:
    height, width = (int(side) for side in document["proj:shape"])
    transform = tuple(float(value) for value in document["proj:transform"][:6])
    checksum = str(document["file:checksum"])
    if not checksum.startswith(_SHA256_MULTIHASH) or len(transform) != 6:
        raise ValueError(f"checksum {checksum[:8]} or transform {transform}")
    return SourceRaster(
        name=str(document["href"]).removeprefix("./"), sha256=checksum.removeprefix(_SHA256_MULTIHASH),
        size_bytes=int(document["file:size"]),
        grid=Grid(
            crs=str(document.get("proj:code") or document["proj:wkt2"]), transform=transform, width=width, height=height
        ),
        layers=tuple(_layer(asset, band) for band in document["bands"]),
    )  # fmt: skip


def _layer(asset: str, band: Mapping[str, Any]) -> Layer:
    if asset in (CLASSES, CONFIDENCE):
        return Layer(name=asset)
    attributes = {
        "long_name": band.get("description", band["name"]), "scale_factor": float(band.get("raster:scale", 1.0)),
        "add_offset": float(band.get("raster:offset", 0.0)),
        **({"quantity": str(band["earthloom:quantity"])} if "earthloom:quantity" in band else {}),
    }  # fmt: skip
    return Layer(
        name=str(band["name"]), dtype=str(band["data_type"]), nodata=float(band["nodata"]), attributes=attributes
    )


def _classes(document: Mapping[str, Any]) -> tuple[ClassInfo, ...]:
    entries = document.get("classification:classes") or document["bands"][0]["classification:classes"]
    return tuple(
        ClassInfo(value=int(entry["value"]), name=str(entry["title"]), color=f"#{str(entry['color_hint']).lower()}")
        for entry in entries
        if int(entry["value"]) != NODATA
    )


def cube_layers(product: str, source: Source) -> tuple[Layer, ...]:
    """The layers of a cube, of a class map with its classes as CF wants them."""
    if not source.classes:
        return source.layers
    described = {"long_name": f"{product} class", **flags(source.classes)}
    probability = {"long_name": "probability of the class", "scale_factor": CONFIDENCE_SCALE, "units": "1"}
    return Layer(name=CLASSES, attributes=described), Layer(name=CONFIDENCE, attributes=probability)


def check_alike(product: str, found: Sequence[Source]) -> None:
    """
    Raises:
        PublishError: if results differ in their layers, or in what their classes mean.
    """

    meaning = ("scale_factor", "add_offset", "quantity")

    def kind(source: Source) -> tuple[Any, ...]:
        layers = [
            (layer.name, layer.dtype, repr(layer.nodata), *map(layer.attributes.get, meaning))
            for layer in source.layers
        ]
        return (*layers, *((entry.value, entry.name) for entry in source.classes))

    first = found[-1]
    for other in found:
        if kind(other) != kind(first):
            raise PublishError(
                f"{product}: {other.prefix[:60]} has {_shown(other)} and {first.prefix[:60]} has {_shown(first)}; one "
                "cube holds one kind: map the older scenes again, or watch them in an OUT of their own"
            )


def _shown(source: Source) -> str:
    if source.classes:
        return "the classes " + ", ".join(f"{entry.value} {entry.name}" for entry in source.classes)
    return "the layers " + ", ".join(
        f"{layer.name} {layer.dtype} x {layer.attributes['scale_factor']:g}, nodata {layer.nodata:g}"
        for layer in source.layers
    )
