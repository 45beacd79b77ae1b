"""A cube: one product over one area, date by date, as it was committed when it was opened. A value that travels to workers.

Reads; how a cube is written is `jobs.monitoring.cube.log`'s business. Knows nothing of scenes' pixels.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.legend import ClassLegend
from earthloom.jobs.records.canonical import FORMAT, of_this_format
from earthloom.models.cards.card import ModelClass
from earthloom.tiling.errors import ConfigError, PublishError
from earthloom.tiling.grid import Grid
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_cube import ROOT, CubeLayout
from earthloom.tiling.writing.zarr_sink import Layer

ATTRIBUTE = "earthloom"
"""Attribute of the root group that holds what Zarr has no words for: steps with their scenes, layers, classes."""

READS_AT_ONCE_BYTES = 16 * 2**20
"""Memory that zarr decodes at once, unless one date is more. It takes three times that beside what `Cube.read` returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One date of a cube."""

    date: datetime.date
    scenes: tuple[str, ...]
    """Prefixes of committed results below OUT, the latest first, equally late ones sorted: so are ties decided, and a time of
    day that is corrected makes another step."""
    masks: tuple[str, ...] = ()
    """Masks of the product that are applied to it, sorted."""

    @property
    def members(self) -> tuple[str, ...]:
        """Prefixes of all results that it is made of."""
        return (*self.scenes, *self.masks)

    def to_json(self) -> dict[str, Any]:
        return {"date": self.date.isoformat(), "scenes": list(self.scenes), "masks": list(self.masks)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Step:
        """Inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or of another type.
        """
        return cls(
            date=datetime.date.fromisoformat(document["date"]), scenes=tuple(map(str, document["scenes"])),
            masks=tuple(map(str, document["masks"])),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassInfo:
    """One class of a class map."""

    value: int
    name: str
    color: str
    """`#rrggbb`"""

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "name": self.name, "color": self.color}


def grid_json(grid: Grid) -> dict[str, Any]:
    """Plain values of a grid, from which `Grid(**…)` with a tuple as its transform is the same again."""
    return {"crs": grid.crs, "transform": list(grid.transform), "width": grid.width, "height": grid.height}


def grid_identity(grid: Grid, shard_px: int) -> dict[str, Any]:
    """The grid of a cube, as keys of what is made of cubes hold it."""
    return {"grid": [grid.crs, list(grid.transform), grid.width, grid.height], "shard_px": shard_px}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cube:
    """A cube as it was committed when it was opened.

    Later dates may be appended below the same prefix; they do not show here, and what shows here never changes.
    """

    prefix: str
    """Prefix of `cube.zarr` below OUT."""
    grid: Grid
    shard_px: int
    layers: tuple[Layer, ...]
    classes: tuple[ClassInfo, ...]
    """Empty for an image product."""
    steps: tuple[Step, ...]
    """Ascending by date."""
    title: str = ""

    @property
    def layout(self) -> CubeLayout:
        return CubeLayout(grid=self.grid, layers=self.layers, shard_px=self.shard_px, title=self.title)

    @property
    def legend(self) -> ClassLegend:
        """Its classes; none for an image product."""
        classes = tuple(ModelClass(value=one.value, name=one.name, color=one.color) for one in self.classes)
        return ClassLegend(name=self.title, title=self.title, classes=classes)

    def shards(self) -> Iterator[tuple[int, int, Window]]:
        """(row, column, window on the grid) of every shard, row-major."""
        for part in self.grid.window.split(self.shard_px):
            yield part.row_off // self.shard_px, part.col_off // self.shard_px, part

    def layer(self, name: str) -> Layer:
        """The layer of this name.

        Raises:
            ConfigError: if there is none; the message names those that are there.
        """
        try:
            return self.layout.layer(name)
        except KeyError:
            names = ", ".join(layer.name for layer in self.layers)
            raise ConfigError(f"{self.prefix} has no layer {name!r}; it has {names}") from None

    def read(self, store: Store, layer: str, window: Window, steps: Sequence[int] | None = None) -> NDArray[Any]:
        """Stored values of a layer, nodata where nothing is stored.

        Args:
            store: on OUT.
            layer: its name.
            window: on the grid.
            steps: positions in `self.steps`, in the order in which they are wanted; None for all.

        Returns:
            (T, h, w) of the layer's dtype.

        Raises:
            ConfigError: if there is no such layer.
            TilingError: if the window reaches beyond the grid.
            StorageError: if an object cannot be read.
        """
        described = self.layer(layer)
        rows, cols = window.slices(self.grid.window)
        wanted = np.asarray(range(len(self.steps)) if steps is None else steps, np.int64)
        if outside := [step for step in wanted.tolist() if not 0 <= step < len(self.steps)]:
            raise ConfigError(f"{self.prefix} has {len(self.steps)} steps, from 0; there is no step {outside[0]}")
        values = np.empty((len(wanted), *window.shape), described.dtype)
        if not wanted.size or not window:
            return values
        array = self.layout.array(store.zarr(self.prefix, read_only=True), layer, len(self.steps))
        at_once = max(1, READS_AT_ONCE_BYTES // max(1, values[0].nbytes))
        done = 0
        # by slices: given lists, zarr takes 50 times the time and ten times the memory
        for first, last in _runs(wanted.tolist(), at_once):
            values[done : done + last - first] = array[first:last, rows, cols]
            done += last - first
        return values

    def to_json(self) -> dict[str, Any]:
        """Everything but where it lies."""
        return {
            "format": FORMAT, "title": self.title, "shard_px": self.shard_px,
            "classes": [entry.to_json() for entry in self.classes], "grid": grid_json(self.grid),
            "layers": [
                {
                    "name": layer.name, "dtype": layer.dtype,
                    "nodata": "NaN" if np.isnan(layer.nodata) else float(layer.nodata),
                    "attributes": dict(layer.attributes),
                }
                for layer in self.layers
            ],
            "steps": [step.to_json() for step in self.steps],
        }  # fmt: skip

    @classmethod
    def from_json(cls, document: Any, prefix: str, where: str) -> Cube:
        """Inverse of `to_json`.

        Raises:
            PublishError: if it was not written by this version of Earthloom, or is damaged.
        """
        said = of_this_format(document, where)
        try:
            return cls(
                prefix=prefix, grid=Grid(**said["grid"] | {"transform": tuple(said["grid"]["transform"])}),
                shard_px=int(said["shard_px"]),
                layers=tuple(Layer(**layer | {"nodata": float(layer["nodata"])}) for layer in said["layers"]),
                classes=tuple(ClassInfo(**entry) for entry in said["classes"]),
                steps=tuple(Step.from_json(step) for step in said["steps"]),
                title=str(said["title"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PublishError(
                f"{where} is no cube of Earthloom, or is damaged ({type(error).__name__}: {error}); remove its folder and "
                "run `earthloom monitor` again"
            ) from error

    def metadata(self) -> dict[str, bytes]:
        """Every document of its Zarr except shards and dates, by key below its prefix."""
        return self.layout.metadata(len(self.steps), {ATTRIBUTE: self.to_json()})


def _runs(steps: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of steps that follow each other, at most so many at once."""
    start = 0
    for at in range(1, len(steps) + 1):
        if at == len(steps) or steps[at] != steps[at - 1] + 1 or at - start == most:
            yield steps[start], steps[at - 1] + 1
            start = at


def open_cube(store: Store, prefix: str) -> Cube:
    """The cube at a prefix, as it is committed now.

    Args:
        store: on OUT.
        prefix: prefix of `cube.zarr`.

    Raises:
        MissingObjectError: if there is none.
        PublishError: if it was not written by this version of Earthloom.
    """
    return cube_of_root(store.get(f"{prefix}/{ROOT}"), prefix, f"{store.ref.url}/{prefix}/{ROOT}")


def cube_of_root(data: bytes, prefix: str, where: str) -> Cube:
    """The cube that a root document describes.

    Raises:
        PublishError: if it was not written by this version of Earthloom.
    """
    try:
        said = json.loads(data)["attributes"].get(ATTRIBUTE)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PublishError(f"{where} is no Zarr of Earthloom ({type(error).__name__}: {error})") from error
    return Cube.from_json(said, prefix, where)
