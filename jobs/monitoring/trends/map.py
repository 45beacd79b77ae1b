"""One map of a monitor over time: which dates it depends on, what it is called, and what is published of it.

Pure: reads no storage. The key is made of everything that can change a pixel of the map and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from earthloom.jobs.monitoring.cube.cube import Cube, Step, grid_identity
from earthloom.jobs.monitoring.trends.rules import FALL, NO_DAY, RISE, STABLE, MonitorTable
from earthloom.jobs.planning.image_plan import ImagePlan
from earthloom.jobs.products import stac_item
from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.products.image import ImageProduct
from earthloom.jobs.products.legend import ClassLegend
from earthloom.jobs.products.product import Product
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.products.stac_item import AssetInfo
from earthloom.jobs.records.canonical import digest
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.software import software
from earthloom.tiling.writing.zarr_sink import Layer

MONITOR_VERSION = 1
"""Raised when the pixels of monitors may change; part of every key."""

DAY, COUNT = "break", "observations"
"""Layers beside those of the class map and the rule's numbers."""

_KEY_IN_PATH = 16
_COLORS = {STABLE: "#d9d9d9", FALL: "#d7301f", RISE: "#2c7fb8"}

_WORDS = {True: ("drop", "jump"), False: ("falling", "rising")}
"""Names of breaks, and of trends; each one word, as CF's `flag_meanings` has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorMap:
    """A cube's layer under a monitor; travels to workers."""

    folder: str
    """Folder of the monitored product below OUT: `monitors/<aoi>/<product>/<key>`."""
    aoi: str
    product: str
    cube: Cube
    """The cube, without the scenes of its steps, which no worker reads."""
    rule: MonitorTable
    layer: Layer
    """Layer that the rule is about."""
    steps: tuple[Step, ...]
    """Ascending."""
    key: str

    @property
    def name(self) -> str:
        """Name of its files, such as `ndvi-bfast-monitor`."""
        return self.rule.name or f"{self.layer.name}-{self.rule.method}"

    @property
    def shelf(self) -> str:
        """Prefix below OUT under which the maps of this monitor lie, and their head."""
        return f"{self.folder}/trends/{self.name}"

    @property
    def prefix(self) -> str:
        """Prefix below OUT under which everything of this map lies."""
        return f"{self.shelf}/{self.key[:_KEY_IN_PATH]}"

    @property
    def publication(self) -> Publication:
        """Its products, as they are published."""
        products: tuple[Product, ...] = (self._class_map, *self._images)
        return Publication(
            name=f"{self.aoi} {self.layer.name}", prefix=self.prefix, grid=self.cube.grid,
            shard_px=self.cube.shard_px, title=f"{self.title}, {self.aoi}", products=products, about=self,
        )  # fmt: skip

    @property
    def title(self) -> str:
        """Title of the layer, and what is looked for in it."""
        return f"{'Breaks' if self.rule.breaks else 'Trends'} of {self.layer.name} by {self.rule.method}"

    @property
    def legend(self) -> ClassLegend:
        names = dict(zip((STABLE, FALL, RISE), ("stable", *_WORDS[self.rule.breaks]), strict=True))
        classes = tuple(ModelClass(value=value, name=name, color=_COLORS[value]) for value, name in names.items())
        return ClassLegend(name=self.name, title=self.title, classes=classes)

    @property
    def _class_map(self) -> ClassMapProduct:
        return ClassMapProduct(
            name=self.name, grid=self.cube.grid, legend=self.legend, tags=self._tags, meaning=self.title,
            confidence=self.rule.confidence,
        )  # fmt: skip

    @property
    def _images(self) -> tuple[ImageProduct, ...]:
        images = [
            self._image("numbers", self.rule.numbers, "float32", float("nan")),
            self._image(COUNT, (COUNT,), "uint16", 0.0, "observations that were used"),
        ]
        if self.rule.breaks:
            meaning = "date of the break, in days since 1970-01-01"
            images.insert(0, self._image(DAY, (DAY,), "int32", float(NO_DAY), meaning))
        return tuple(images)

    def _image(self, name: str, bands: tuple[str, ...], dtype: str, nodata: float, meaning: str = "") -> ImageProduct:
        image = ImagePlan(
            stage=0, name=f"{self.name}-{name}", bands=bands, layers=bands, dtype=dtype, nodata=nodata,
            gain=(1.0,) * len(bands), bias=(0.0,) * len(bands),
        )  # fmt: skip
        return ImageProduct(
            image=image, grid=self.cube.grid, tags=self._tags, asset=name, title=self.title, meaning=meaning
        )

    @property
    def _tags(self) -> dict[str, str]:
        return {
            "AREA_OR_POINT": "Area", "EARTHLOOM_AOI": self.aoi, "EARTHLOOM_MONITOR": self.rule.method,
            "EARTHLOOM_KEY": self.key,
        }  # fmt: skip

    def fields(self) -> Mapping[str, Any]:
        """See `jobs.products.publication.About`; so for the next two."""
        return {
            "kind": "monitor", "aoi": self.aoi, "product": self.product, "key": self.key,
            "rule": self.rule.model_dump(mode="json"), "layer": self.layer.name,
            "steps": [step.to_json() for step in self.steps],
        }  # fmt: skip

    def item(self, assets: Sequence[AssetInfo], areas: Sequence[ClassArea]) -> dict[str, Any]:
        first, last = self.steps[0].date, self.steps[-1].date
        up = "../" * len(self.prefix.split("/"))
        links = [
            stac_item.made_of(up, scene, f"Result {scene.split('/')[1]}" if scene.count("/") else scene)
            for scene in sorted({scene for step in self.steps for scene in step.scenes})
        ]
        rule = self.rule.model_dump(mode="json", by_alias=True)
        return stac_item.feature(
            f"{self.aoi}-{self.product}-{self.name}-{self.key[:8]}", self.cube.grid,
            stac_item.class_objects(self.legend.classes, areas), assets, links,
            {
                "title": f"{self.title}: {self.aoi}, {first} to {last}",
                **stac_item.interval(first, last),
                "processing:lineage": f"{self.rule.method} over {len(self.steps)} dates of {self.layer.name}.",
                "processing:software": dict(sorted(software().items())),
                "earthloom:aoi": self.aoi, "earthloom:key": self.key, "earthloom:product": self.product,
                "earthloom:monitor": rule, "earthloom:dates": [str(step.date) for step in self.steps],
                **({"earthloom:class_areas": [dict(row) for row in areas]} if areas else {}),
            },
        )  # fmt: skip

    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        return {}


def monitor_map(cube: Cube, folder: str, rule: MonitorTable, *, aoi: str, product: str) -> MonitorMap:
    """The map of a monitor over all dates of a cube.

    Args:
        folder: folder of the monitored product below OUT.

    Raises:
        ConfigError: if the cube is one of class maps, or the layer is not one of its layers.
    """
    if cube.classes:
        raise ConfigError(
            f"'method={rule.method}': monitors over time are of numbers, and {product} is a map of classes; watch an index, "
            "or use alerts"
        )
    if rule.layer is None and len(cube.layers) > 1:
        names = ", ".join(layer.name for layer in cube.layers)
        raise ConfigError(f"'method={rule.method}': {product} has the layers {names}; say which one by 'layer'")
    layer = cube.layers[0] if rule.layer is None else cube.layer(rule.layer)
    return MonitorMap(
        folder=folder, aoi=aoi, product=product, rule=rule, layer=layer, steps=cube.steps,
        cube=replace(cube, steps=tuple(replace(step, scenes=()) for step in cube.steps)),
        key=_key(cube, folder, rule, layer),
    )  # fmt: skip


def _key(cube: Cube, folder: str, rule: MonitorTable, layer: Layer) -> str:
    """sha256 of all that can change a pixel. The folder's name is the digest of how the cube's steps are made."""
    return digest(
        {
            "version": MONITOR_VERSION, "cube": folder, "rule": rule.model_dump(mode="json", exclude={"layer", "name"}),
            **grid_identity(cube.grid, cube.shard_px),
            "layer": [layer.name, layer.dtype, repr(float(layer.nodata)), dict(layer.attributes)],
            "steps": [step.to_json() for step in cube.steps],
        }
    )  # fmt: skip
