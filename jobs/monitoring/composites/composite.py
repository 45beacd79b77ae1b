"""One composite: a period of a cube under a rule. What it depends on, what it is called, and what is published of it.

Pure: reads no storage. The key is made of everything that can change a pixel of the composite and nothing else, so a period
whose steps have not changed keeps its key whatever is appended after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from earthloom.jobs.monitoring.composites.periods import Cadence, Period, by_period, most_days
from earthloom.jobs.monitoring.composites.rules import COUNT, Rule
from earthloom.jobs.monitoring.cube.cube import Cube, Step, grid_identity
from earthloom.jobs.monitoring.cube.stac import collection_id
from earthloom.jobs.planning.image_plan import ImagePlan
from earthloom.jobs.products import stac_item
from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.products.image import ImageProduct
from earthloom.jobs.products.legend import ClassLegend
from earthloom.jobs.products.product import Product
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.products.stac_item import AssetInfo
from earthloom.jobs.records.canonical import digest
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.software import software
from earthloom.tiling.writing.zarr_sink import Layer

COMPOSITE_VERSION = 1
"""Raised when the pixels of composites may change; part of every key."""

_KEY_IN_PATH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """A period of a cube under a rule; travels to workers."""

    folder: str
    """Folder of the monitored product below OUT: `monitors/<aoi>/<product>/<key>`."""
    aoi: str
    product: str
    cube: Cube
    """The cube, without the scenes of its steps, which no worker reads."""
    every: Cadence
    period: Period
    rule: Rule
    steps: tuple[Step, ...]
    """Steps of the period, ascending."""
    positions: tuple[int, ...]
    """Positions of these steps in the cube."""
    order: tuple[int, ...]
    """Positions in `steps`, those first that win where others are as good (`Rule.order`)."""
    key: str

    @property
    def shelf(self) -> str:
        """Prefix below OUT under which the composites of this rule and cadence lie, and their head."""
        return shelf(self.folder, self.rule, self.every)

    @property
    def prefix(self) -> str:
        """Prefix below OUT under which everything of this composite lies."""
        return f"{self.shelf}/{self.period.name}/{self.key[:_KEY_IN_PATH]}"

    @property
    def count_dtype(self) -> str:
        """Type of the number of clear observations: decided by the cadence, so that all periods have the same."""
        return "uint8" if most_days(self.every) <= np.iinfo(np.uint8).max else "uint16"

    @property
    def publication(self) -> Publication:
        """Its products, as they are published."""
        return Publication(
            name=f"{self.aoi} {self.period.name}", prefix=self.prefix, grid=self.cube.grid, shard_px=self.cube.shard_px,
            title=f"{self.title}, {self.aoi} {self.period.name}", products=(self._main_product, self._count_product),
            about=self,
        )  # fmt: skip

    @property
    def title(self) -> str:
        """Title of the product, and what the rule makes of it."""
        return f"{self.cube.title or self.product}: {_WORDS[self.rule.kind].format(by=self.rule.by)}"

    @property
    def legend(self) -> ClassLegend:
        """Legend of a class map; without classes for an image."""
        return ClassLegend(name=self.product, title=self.title, classes=self.cube.legend.classes)

    @property
    def _main_product(self) -> Product:
        cube = self.cube
        if cube.classes and self.rule.kind == "mode":
            return ClassMapProduct(
                name=self.product, grid=cube.grid, legend=self.legend, tags=self._tags,
                meaning="commonest class of the period's clear observations",
                confidence="share of the clear observations that are of the class",
            )  # fmt: skip
        if cube.classes:
            return ClassMapProduct(
                name=self.product, grid=cube.grid, legend=self.legend, tags=self._tags,
                meaning="class of the observation that the rule takes",
            )  # fmt: skip
        first, names = cube.layers[0], tuple(layer.name for layer in cube.layers)
        if others := [layer for layer in cube.layers if _storage(layer) != _storage(first)]:
            raise ConfigError(
                f"{cube.prefix}: bands of one file have one dtype and nodata, but {first.name} has {first.dtype} with "
                f"{first.nodata} and {others[0].name} {others[0].dtype} with {others[0].nodata}; monitor them apart"
            )
        image = ImagePlan(
            stage=0, name=self.product, bands=names, layers=names, dtype=first.dtype, nodata=first.nodata,
            gain=tuple(float(layer.attributes.get("scale_factor", 1.0)) for layer in cube.layers),
            bias=tuple(float(layer.attributes.get("add_offset", 0.0)) for layer in cube.layers),
            quantity=str(first.attributes.get("quantity", "")),
        )  # fmt: skip
        return ImageProduct(image=image, grid=cube.grid, tags=self._tags, title=self.title)

    @property
    def _count_product(self) -> ImageProduct:
        """Its nodata is 0: where nothing was observed, nothing need be stored, and a reader sees 0."""
        image = ImagePlan(
            stage=0, name=f"{self.product}-{COUNT}", bands=(COUNT,), layers=(COUNT,), dtype=self.count_dtype, nodata=0.0,
            gain=(1.0,), bias=(0.0,),
        )  # fmt: skip
        return ImageProduct(
            image=image, grid=self.cube.grid, tags=self._tags, asset=COUNT, meaning="number of clear observations"
        )

    @property
    def _tags(self) -> dict[str, str]:
        return {
            "AREA_OR_POINT": "Area", "EARTHLOOM_AOI": self.aoi, "EARTHLOOM_PERIOD": self.period.name,
            "EARTHLOOM_RULE": str(self.rule), "EARTHLOOM_KEY": self.key,
        }  # fmt: skip

    def fields(self) -> Mapping[str, Any]:
        """See `jobs.products.publication.About`; so for the next two."""
        return {
            "kind": "composite", "aoi": self.aoi, "product": self.product, "key": self.key, "rule": str(self.rule),
            "every": self.every, "period": self.period.name, "start": str(self.period.start), "end": str(self.period.end),
            "steps": [step.to_json() for step in self.steps],
        }  # fmt: skip

    def item(self, assets: Sequence[AssetInfo], areas: Sequence[ClassArea]) -> dict[str, Any]:
        days = [str(step.date) for step in self.steps]
        depth = len(self.prefix.split("/"))
        root, area = "../" * depth, "../" * (depth - 2)  # of OUT, and of monitors/<aoi>
        links = [
            {"rel": "root", "href": f"{root}catalog.json", "type": "application/json"},
            {"rel": "parent", "href": f"{area}collection.json", "type": "application/json"},
            {"rel": "collection", "href": f"{area}collection.json", "type": "application/json"},
        ] + [
            stac_item.made_of(root, scene, f"Result {scene.split('/')[1]}")
            for scene in sorted({prefix for step in self.steps for prefix in step.members})
        ]
        return stac_item.feature(
            f"{self.aoi}-{self.product}-{self.rule.slug}-{self.period.name}-{self.key[:8]}", self.cube.grid,
            stac_item.class_objects(self.legend.classes, areas), assets, links,
            {
                "title": f"{self.title}: {self.aoi}, {self.period.name}",
                **stac_item.interval(self.period.start, self.period.end),
                "processing:lineage": f"{self.rule} of {len(days)} dates of {self.product}: {', '.join(days)}.",
                "processing:software": dict(sorted(software().items())),
                "earthloom:aoi": self.aoi, "earthloom:key": self.key, "earthloom:product": self.product,
                "earthloom:period": self.period.name, "earthloom:rule": str(self.rule), "earthloom:dates": days,
                **({"earthloom:class_areas": [dict(row) for row in areas]} if areas else {}),
            },
            collection=collection_id(self.aoi),
        )  # fmt: skip

    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        return {}


_WORDS = {
    "median": "median", "mode": "commonest class", "best": "best observation", "max": "greatest {by}", "min": "least {by}",
}  # fmt: skip


def composites_of(
    cube: Cube, folder: str, *, aoi: str, product: str, every: Cadence, rule: Rule,
    clear_px: Sequence[int] | None = None,
) -> tuple[Composite, ...]:  # fmt: skip
    """The composites of all periods that hold a step, in order of time.

    Args:
        folder: folder of the monitored product below OUT.
        clear_px: pixels of the area that hold data on each step of the cube; only `best:clear` asks for it.

    Raises:
        ConfigError: if the rule means nothing for the cube's layers.
    """
    rule.check(cube.layers)
    lean = replace(cube, steps=tuple(replace(step, scenes=(), masks=()) for step in cube.steps))
    composites = []
    for period, positions in by_period(every, [step.date for step in cube.steps]).items():
        steps = tuple(cube.steps[position] for position in positions)
        clear = [clear_px[position] for position in positions] if clear_px is not None else None
        composites.append(
            Composite(
                folder=folder, aoi=aoi, product=product, cube=lean, every=every, period=period, rule=rule, steps=steps,
                positions=positions, order=rule.order(period, [step.date for step in steps], clear),
                key=_key(cube, folder, every, period, rule, steps),
            )
        )  # fmt: skip
    return tuple(composites)


def composite_keys(cube: Cube, folder: str, rule: Rule, every: Cadence) -> dict[str, str]:
    """The key that the composite of each period has as long as it is of this cube's steps, by name of the period, in order
    of time."""
    periods = by_period(every, [step.date for step in cube.steps])
    return {
        period.name: _key(cube, folder, every, period, rule, [cube.steps[position] for position in positions])
        for period, positions in periods.items()
    }


def shelf(folder: str, rule: Rule, every: Cadence) -> str:
    """Prefix below OUT under which the composites of a rule and a cadence lie."""
    return f"{folder}/composites/{rule.slug}-{every}"


def _key(cube: Cube, folder: str, every: Cadence, period: Period, rule: Rule, steps: Sequence[Step]) -> str:
    """sha256 of all that can change a pixel. The folder's name is the digest of how the cube's steps are made."""
    return digest(
        {
            "version": COMPOSITE_VERSION, "cube": folder, "title": cube.title, "rule": str(rule), "every": every,
            "period": period.name,
            **grid_identity(cube.grid, cube.shard_px),
            "layers": [[layer.name, layer.dtype, repr(float(layer.nodata))] for layer in cube.layers],
            "classes": [entry.to_json() for entry in cube.classes], "steps": [step.to_json() for step in steps],
        }
    )  # fmt: skip


def _storage(layer: Layer) -> tuple[str, str]:
    return layer.dtype, repr(float(layer.nodata))
