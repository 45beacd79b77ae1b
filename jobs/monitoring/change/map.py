"""The change between two maps of a monitored area as a result: what it depends on, what it is called, what is published.

Pure: reads no storage. The key is made of everything that can change a byte of the result, so the same two maps give the
same folder whoever asks.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.monitoring.change.polygons import Pieces, polygon_table
from earthloom.jobs.monitoring.change.transitions import Transition, TransitionRow, change_classes, transition_rows
from earthloom.jobs.monitoring.composites.maps import ClassMap
from earthloom.jobs.monitoring.cube.cube import grid_identity
from earthloom.jobs.monitoring.series.series import table_parquet
from earthloom.jobs.products import stac_item
from earthloom.jobs.products.class_map import ClassMapProduct
from earthloom.jobs.products.legend import ClassLegend
from earthloom.jobs.products.publication import Publication
from earthloom.jobs.products.stac_item import AssetInfo
from earthloom.jobs.products.statistics import Counted
from earthloom.jobs.records.canonical import FORMAT, canonical, digest
from earthloom.jobs.records.names import CLASSES
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.grid import Grid
from earthloom.tiling.software import software

CHANGE_VERSION = 1
"""Raised when the bytes of a result may change; part of every key."""

TRANSITIONS, TRANSITIONS_TABLE, POLYGONS = "transitions.json", "transitions.parquet", "changes.parquet"
"""Files of a result beside its map."""

PARQUET = "application/vnd.apache.parquet"

_KEY_IN_PATH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Two maps of one grid and what is asked of them; travels to workers.

    Raises:
        ConfigError: if the maps lie on other grids, have other classes, are one, or come in the wrong order.
    """

    folder: str
    """Folder of the monitored product below OUT: `monitors/<aoi>/<product>/<key>`."""
    aoi: str
    product: str
    before: ClassMap
    after: ClassMap
    least_m2: float
    """Minimum mapping unit: no smaller polygon is kept. Map and matrix know nothing of it."""

    def __post_init__(self) -> None:
        before, after = self.before, self.after
        if (before.grid, before.shard_px) != (after.grid, after.shard_px):
            raise ConfigError(f"{before.name} and {after.name} lie on other grids; compare maps of one area")
        if before.classes != after.classes:
            raise ConfigError(f"{before.name} and {after.name} have other classes; compare maps of one product")
        if before.made_of == after.made_of:
            raise ConfigError(f"{before.name} and {after.name} are the same map; name two dates or periods")
        if before.start is None or after.start is None or after.end is None or before.start > after.start:
            raise ConfigError(f"{before.name} is not known to be earlier than {after.name}; name the earlier one first")

    @property
    def key(self) -> str:
        """sha256 of all that can change a byte of the result."""
        return digest(
            {
                "version": CHANGE_VERSION, "folder": self.folder,
                "sides": [[side.name, side.made_of] for side in (self.before, self.after)],
                **grid_identity(self.grid, self.before.shard_px),
                "classes": [entry.to_json() for entry in self.before.classes], "least_m2": repr(self.least_m2),
            }
        )  # fmt: skip

    @property
    def grid(self) -> Grid:
        return self.before.grid

    @property
    def name(self) -> str:
        """Name for folders, such as `1985--2020`."""
        return f"{self.before.name}--{self.after.name}"

    @property
    def prefix(self) -> str:
        """Prefix below OUT under which everything of this result lies."""
        return f"{self.folder}/change/{self.name}/{self.key[:_KEY_IN_PATH]}"

    @property
    def title(self) -> str:
        return f"{self.product}: what changed from {self.before.name} to {self.after.name}"

    @property
    def trust(self) -> str:
        """The meaning of the result's confidence, in words."""
        of = dict.fromkeys((self.before.trust, self.after.trust))
        return f"product of both sides' confidence: {', and '.join(of)}"

    @property
    def legend(self) -> ClassLegend:
        return ClassLegend(name=f"{self.product}-change", title=self.title, classes=change_classes(self.before.classes))

    def publication(self, tables: Mapping[str, bytes] | None = None) -> Publication:
        """Its product, as it is published.

        Args:
            tables: files beside the map, by name; while shards are made there are none yet.
        """
        product = ChangeProduct(
            name=f"{self.product}-change", grid=self.grid, legend=self.legend,
            tags={
                "AREA_OR_POINT": "Area", "EARTHLOOM_AOI": self.aoi, "EARTHLOOM_FROM": self.before.name,
                "EARTHLOOM_TO": self.after.name, "EARTHLOOM_KEY": self.key,
            },
            meaning="what became of the class before", confidence=self.trust,
            tables=tables or {},
        )  # fmt: skip
        return Publication(
            name=f"{self.aoi} {self.before.name} to {self.after.name}", prefix=self.prefix, grid=self.grid,
            shard_px=self.before.shard_px, title=f"{self.title}, {self.aoi}", products=(product,), about=self,
        )  # fmt: skip

    def tables(self, transitions: Sequence[Transition], pieces: Pieces) -> dict[str, bytes]:
        """The files beside the map: transitions as JSON and Parquet, and the polygons as GeoParquet 1.1.

        Args:
            transitions: transitions of the whole grid.
            pieces: united over the whole grid.
        """
        import pandas as pd

        rows = transition_rows(transitions, self.before.classes)
        columns = {"before": "from", "after": "to", "area_m2": "area_m2", "pixels": "px", "confidence": "confidence",
                   "value": "value"}  # fmt: skip
        types = {"area_m2": "float64", "px": "int64", "confidence": "float64", "value": "UInt8"}
        table = pd.DataFrame(rows, columns=list(columns)).rename(columns=columns).astype(types)
        buffer = io.BytesIO()
        polygon_table(pieces, self.grid, self.before.classes).to_parquet(
            buffer, schema_version="1.1.0", write_covering_bbox=True, index=False
        )
        return {
            TRANSITIONS: canonical(self.document(rows, pieces)),
            TRANSITIONS_TABLE: table_parquet(table),
            POLYGONS: buffer.getvalue(),
        }

    def document(self, rows: Sequence[TransitionRow], pieces: Pieces) -> dict[str, Any]:
        """`transitions.json`."""
        return {
            "format": FORMAT, "aoi": self.aoi, "product": self.product, "key": self.key,
            "from": _side(self.before), "to": _side(self.after),
            "classes": [entry.to_json() for entry in self.before.classes],
            "transitions": [dict(row) for row in rows],
            "polygons": len(pieces), "min_area_m2": self.least_m2,
        }  # fmt: skip

    def fields(self) -> Mapping[str, Any]:
        """See `jobs.products.publication.About`; so for the next two."""
        return {
            "kind": "change", "aoi": self.aoi, "product": self.product, "key": self.key, "from": _side(self.before),
            "to": _side(self.after), "min_area_m2": self.least_m2,
        }  # fmt: skip

    def item(self, assets: Sequence[AssetInfo], areas: Sequence[ClassArea]) -> dict[str, Any]:
        up = "../" * len(self.prefix.split("/"))
        links = [
            stac_item.made_of(up, prefix, f"{word}: {side.name}")
            for word, side in (("Before", self.before), ("After", self.after))
            for prefix in side.sources
        ]
        start, end = self.before.start, self.after.end
        assert start is not None, "checked when it was made"
        assert end is not None, "checked when it was made"
        return stac_item.feature(
            f"{self.aoi}-{self.product}-change-{self.name}-{self.key[:8]}", self.grid,
            stac_item.class_objects(self.legend.classes, areas), assets, links,
            {
                "title": f"{self.title}: {self.aoi}", **stac_item.interval(start, max(end, self.before.end or end)),
                "processing:lineage": (
                    f"{self.product} of {self.before.name} and of {self.after.name}, compared pixel by pixel; polygons from "
                    f"{self.least_m2:g} m² on."
                ),
                "processing:software": dict(sorted(software().items())),
                "earthloom:aoi": self.aoi, "earthloom:key": self.key, "earthloom:product": self.product,
                "earthloom:from": self.before.name, "earthloom:to": self.after.name,
                "earthloom:class_areas": [dict(row) for row in areas],
            },
        )  # fmt: skip

    def documents(self) -> Mapping[str, Mapping[str, Any]]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeProduct(ClassMapProduct):
    """A map of changes with its tables."""

    tables: Mapping[str, bytes] = field(default_factory=dict)

    def picture(
        self, layer: Callable[[str], NDArray[Any]], counted: Counted, title: str, pixel_m: tuple[float, float]
    ) -> bytes:
        """A picture of only the part of the grid that holds data: a grid of whole shards may reach far beyond its area."""
        classes = layer(CLASSES)
        rows, cols = (np.flatnonzero((classes != NODATA).any(axis=axis)) for axis in (1, 0))
        known = classes[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] if rows.size else classes
        return ClassMapProduct.picture(self, lambda _: known, counted, title, pixel_m)

    def sidecars(self, counted: Counted) -> dict[str, bytes]:
        return ClassMapProduct.sidecars(self, counted) | dict(self.tables)

    def assets(self, counted: Counted) -> list[AssetInfo]:
        said = {
            TRANSITIONS: ("transitions", "application/json", "Matrix of transitions"),
            TRANSITIONS_TABLE: ("transitions-table", PARQUET, "Matrix of transitions, a row for each"),
            POLYGONS: ("changes", PARQUET, "Changed ground as polygons, GeoParquet"),
        }
        return [
            *ClassMapProduct.assets(self, counted),
            *(
                AssetInfo(name=name, href=f"./{file}", media_type=kind, roles=("data",), title=title)
                for file, (name, kind, title) in said.items()
                if file in self.tables
            ),
        ]


def _side(side: ClassMap) -> dict[str, Any]:
    return {
        "name": side.name, "start": _iso(side.start), "end": _iso(side.end), "made_of": list(side.sources),
        "confidence": side.trust,
    }  # fmt: skip


def _iso(day: Any) -> str | None:
    return None if day is None else str(day)
