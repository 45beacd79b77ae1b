"""Labels of the pixels of a scene, from rasters or from polygons and points of any CRS, as class values of the model.

A source is a small value that travels to workers; `read` gives any window of any grid, and the same pixels however the
grid is cut. Knows nothing of models, of splits and of scores.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pyproj import CRS

from earthloom.jobs.config import parse_names
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.onto_grid import onto_grid
from earthloom.tiling.reading.preflight import Header, inspect_apart
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.reading.sandbox import Disposables
from earthloom.tiling.reading.vectors import read_features, vector_format
from earthloom.tiling.resampling import resampling
from earthloom.tiling.scene import Asset, Band, Scene
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.window import Window

IGNORE = NODATA
"""Label of a pixel that nobody labelled: it is neither trained on nor scored."""

_KEPT = 4  # layers of polygons on grids, per process

Stored = int | float | str


class LabelClass(BaseModel):
    """One class: its value in the map of the model, its name, and what stands for it in the label files.

    Without `stored`, a raster holds `value`, and the column of a vector file holds `value` or `name`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Annotated[int, Field(ge=0, lt=IGNORE)]
    name: Annotated[str, Field(min_length=1)]
    color: Annotated[str | None, Field(pattern=r"^#[0-9a-f]{6}$")] = None
    stored: Annotated[tuple[Stored, ...], BeforeValidator(lambda value: parse_names(_as_list(value)))] = ()


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, int | float) else value


class LabelOptions(BaseModel):
    """Options of label files; the table [labels] of a training file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[LabelClass, ...]
    ignore: Annotated[tuple[Stored, ...], BeforeValidator(lambda value: parse_names(_as_list(value)))] = ()
    """Values in the files that mean unknown, beside nodata, masks and nulls."""
    class_column: str | None = None
    """Column of vector files with the class; without it, all features are of the only class but `background`."""
    background: str | None = None
    """Class of all pixels of a scene that no feature of a vector file covers; without it they are unknown."""
    band: Annotated[int, Field(ge=1)] | None = None
    """Number of the band of a raster that has several."""
    layer: str | None = None
    """Layer of a vector file that has several."""


class LabelSource(Protocol):
    """Labels on any grid."""

    @property
    def identity(self) -> str:
        """Digest or ETag that pins the file's bytes."""
        ...

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        """Labels of `window`, which may reach beyond the grid. (rows, columns) of class values, IGNORE where unknown.

        Raises:
            SceneError: if the file holds a value that is no class, or cannot be read.
            StorageError: if the storage failed.
        """
        ...


def label_source(reference: str, options: LabelOptions, inspectors: Disposables | None = None) -> LabelSource:
    """Open a file of labels: a GeoTIFF, or vectors (GeoPackage, FlatGeobuf, GeoJSON, Shapefile, GeoParquet).

    Args:
        reference: path, s3:// or https://.
        options: which classes there are, and by what they are called in the file.
        inspectors: processes in which headers of rasters are read; None starts one for this file.

    Raises:
        ConfigError: if the options contradict each other or do not suit the kind of file.
        SceneError: if the file cannot be read, or holds classes that `options` does not name.
        StorageError: if the storage failed.
    """
    _check(options)
    asset = pin(ObjectRef.parse(reference))
    if vector_format(asset):
        if options.band is not None:
            raise ConfigError(
                f"{asset.ref.name} holds vectors, and `label_band={options.band}` chooses among those of a raster"
            )
        source = VectorLabels(asset=asset, options=options)
        source.check()
        return source
    if options.class_column or options.background or options.layer:
        raise ConfigError(
            f"{asset.ref.name} is a raster; `class_column`, `background` and `label_layer` speak of vectors"
        )
    with ExitStack() as stack:
        header = inspect_apart(inspectors or stack.enter_context(Disposables(1)), asset)
    return RasterLabels(asset=asset, options=options, **_band_of(asset, header, options))


def column_values(reference: str, column: str, layer: str | None = None) -> tuple[Stored, ...]:
    """The different values of a column of a vector file, sorted by their text; nulls, for which GDAL makes whole numbers
    floating ones, are left out.

    Raises:
        SceneError: if the file is a raster, cannot be read or has no such column.
        StorageError: if the storage failed.
    """
    asset = pin(ObjectRef.parse(reference))
    features = read_features(asset, column=column, layer=layer)
    values = {value for value in features.values if value is not None}
    return tuple(sorted((int(v) if isinstance(v, float) and v.is_integer() else v for v in values), key=str))


def is_vector(reference: str) -> bool:
    """Whether a file is one of vectors, by its first bytes.

    Raises:
        SceneError: if it does not exist.
        StorageError: if it cannot be read.
    """
    return vector_format(pin(ObjectRef.parse(reference))) is not None


def _check(options: LabelOptions) -> None:
    classes = options.classes
    for what, every in (("value", [c.value for c in classes]), ("name", [c.name for c in classes])):
        if len(set(every)) != len(every):
            raise ConfigError(f"two classes have one {what}: {', '.join(f'{c.value}={c.name}' for c in classes)}")
    if not classes:
        raise ConfigError('no class is named; list them: classes = [{ value = 0, name = "land" }, …]')
    stored = [(s, c.name) for c in classes for s in (c.stored or (c.value,))]
    for value, name in stored:
        if value in options.ignore:
            raise ConfigError(f"{value!r} stands for {name} and is to be ignored; take it out of one of both")
        if others := {other for again, other in stored if again == value} - {name}:
            raise ConfigError(f"{value!r} stands for {name} and for {', '.join(sorted(others))}; give it to one class")
    if options.background is not None and options.background not in {c.name for c in classes}:
        raise ConfigError(f"`background={options.background}` is none of the classes {_names(classes)}")


def _names(classes: Sequence[LabelClass]) -> str:
    return ", ".join(c.name for c in classes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterLabels:
    """Labels in one band of a GeoTIFF, brought onto other grids by nearest neighbour."""

    asset: Asset
    options: LabelOptions
    grid: Grid
    """Grid of the file."""
    band: Band
    note: str | None = None
    """What a user should know of how it is read."""

    @property
    def identity(self) -> str:
        return self.asset.identity

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        labels = np.full(window.shape, IGNORE, np.uint8)
        inside = window & grid.window
        if not inside:
            return labels
        band = Band(
            name="labels", asset=0, index=self.band.index, dtype=self.band.dtype, nodata=self.band.nodata,
            categorical=True, resampling=resampling(self.grid, grid, categorical=True),
        )  # fmt: skip
        scene = Scene(id="labels", grid=grid, assets=(self.asset,), bands=(band,), quantity="dn")
        pixels = read_pixels(scene, (band,), inside, 0)
        values = pixels.values[0]
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            every = np.arange(np.iinfo(values.dtype).max + 1, dtype=values.dtype)
            table, is_known = (part[values] for part in self._meaning(every))  # a look into a table for each pixel
        else:
            table, is_known = self._meaning(values)
        labels[inside.slices(window)] = np.where(pixels.valid, table, IGNORE)
        left = pixels.valid & ~is_known
        if left.any():
            strange = ", ".join(f"{value:g}" for value in np.unique(values[left])[:8])
            row, col = (int(axis[0]) for axis in np.nonzero(left))
            raise SceneError(
                f"{self.asset.ref.name} holds {strange} ({int(left.sum())} px, the first at column "
                f"{inside.col_off + col}, row {inside.row_off + row} of the scene), which none of the classes "
                f"{_names(self.options.classes)} stands for; name them, or put them into `label_ignore`"
            )
        return labels

    def _meaning(self, values: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Class value of each stored value, IGNORE if it stands for none, and whether it is known."""
        found = np.full(values.shape, IGNORE, np.uint8)

        def is_one_of(stored: Sequence[Stored]) -> NDArray[np.bool_]:
            numbers = np.array([each for each in stored if not isinstance(each, str)])
            return np.isin(values, numbers.astype(values.dtype) if values.dtype.kind == "f" else numbers)  # 0.1 in fp32

        known = is_one_of(self.options.ignore)
        for each in self.options.classes:
            is_class = is_one_of(each.stored or (each.value,)) & ~known
            found[is_class] = each.value
            known |= is_class
        return found, known


def _band_of(asset: Asset, header: Header, options: LabelOptions) -> dict[str, Any]:
    """The grid of a raster, the band of it that holds labels, and what is to be said of it."""
    data = [number for number, color in enumerate(header.colors, 1) if color != "alpha"]
    number = options.band or data[0]
    if options.band is None and len(data) > 1:
        raise SceneError(f"{asset.ref.name} has {len(data)} bands; say which holds the labels: `label_band=<number>`")
    if number not in data:
        raise SceneError(f"{asset.ref.name} has no band {number} of data; it has {', '.join(map(str, data))}")
    if texts := [c for c in options.classes if c.stored and all(isinstance(value, str) for value in c.stored)]:
        raise ConfigError(
            f"{asset.ref.name} is a raster, which holds numbers: give one for {texts[0].name}, not {texts[0].stored[0]!r}"
        )
    if spelt := [value for value in options.ignore if isinstance(value, str) and not _is_listed(value, options.ignore)]:
        raise ConfigError(
            f"{asset.ref.name} is a raster, which holds numbers: `label_ignore` has the text {spelt[0]!r}; give a number"
        )
    nodata = header.nodata[number - 1]
    named = {s: c.name for c in options.classes for s in (c.stored or (c.value,))}
    band = Band(
        name="labels", asset=0, index=number, dtype=header.dtypes[number - 1], categorical=True,
        nodata=None if nodata in named else nodata,  # a class that the file calls nodata is still a class
    )  # fmt: skip
    note = (
        f"labels {asset.ref.name}: {nodata:g} is the file's nodata and stands for {named[nodata]}, so its pixels are labelled "
        f"{named[nodata]}. Where nobody has looked, store another value"
    ) if nodata in named else None  # fmt: skip
    return {"grid": header.grid, "band": band, "note": note}


def _is_listed(text: str, values: Sequence[Stored]) -> bool:
    """Whether the number that a text spells is among some values too; of another text, for vectors, whether any number is."""
    numbers = [value for value in values if not isinstance(value, str)]
    try:
        return float(text) in numbers
    except ValueError:
        return bool(numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorLabels:
    """Labels by polygons, whose pixels are those with their centre inside, and by points, each of which is one pixel.

    Where features overlap, the later one in the file counts. All of a file's features are held in memory.
    """

    asset: Asset
    options: LabelOptions

    @property
    def identity(self) -> str:
        return self.asset.identity

    def check(self) -> None:
        """Read the file and settle the class of every feature.

        Raises:
            SceneError: as `label_source` does.
        """
        classified(self.asset, self.options)

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        from rasterio.features import rasterize
        from rasterio.transform import Affine

        labels = np.full(window.shape, IGNORE, np.uint8)
        inside = window & grid.window
        if not inside:
            return labels
        fill = next((c.value for c in self.options.classes if c.name == self.options.background), IGNORE)
        layer = features_on_grid(self.asset, self.options, grid)
        shapes = layer.within(inside)
        labels[inside.slices(window)] = (
            rasterize(
                shapes, out_shape=inside.shape, fill=fill, dtype="uint8", all_touched=False,
                transform=Affine.translation(inside.col_off, inside.row_off),
            ) if shapes else fill
        )  # fmt: skip
        return labels


@dataclass(frozen=True, slots=True)
class _Layer:
    """Features in pixels of one grid."""

    geometries: NDArray[np.object_]
    values: NDArray[np.uint8]
    tree: Any

    def within(self, window: Window) -> list[tuple[Any, int]]:
        """Features that may touch a window, in the order of the file."""
        from shapely import box

        there = np.sort(self.tree.query(box(window.col_off, window.row_off, window.col_end, window.row_end)))
        return [(self.geometries[i], int(self.values[i])) for i in there]


@lru_cache(maxsize=_KEPT)
def classified(asset: Asset, options: LabelOptions) -> tuple[NDArray[np.object_], NDArray[np.uint8], CRS]:
    """Geometries (n,), class values (n,) and CRS of a file's features; those to be ignored have IGNORE.

    Raises:
        SceneError, ConfigError: as `label_source` does.
    """
    name = asset.ref.name
    features = read_features(asset, column=options.class_column, layer=options.layer)
    kinds = {str(kind) for kind in {geometry.geom_type for geometry in features.geometries}}
    if strange := sorted(kinds - {"Polygon", "MultiPolygon", "Point", "MultiPoint"}):
        raise SceneError(
            f"{name} holds {', '.join(strange)}; labels are polygons or points: buffer lines by their width"
        )
    if options.class_column is None:
        free = [c for c in options.classes if c.name != options.background]
        if len(free) != 1:
            raise SceneError(
                f"{name}: nothing says which of {_names(free)} a feature is; name the column that does: `class_column`"
            )
        return features.geometries, np.full(len(features.values), free[0].value, np.uint8), features.crs
    known = _column_meaning(name, options, set(features.values))
    strange = sorted({str(value) for value in features.values if value is not None and value not in known})
    if strange:
        raise SceneError(
            f"{name}: column {options.class_column} holds {', '.join(map(repr, strange[:8]))}, which none of the classes "
            f"{_names(options.classes)} stands for; name them, or put them into `label_ignore`"
        )
    values = np.array([IGNORE if value is None else known[value] for value in features.values], np.uint8)
    return features.geometries, values, features.crs


def _column_meaning(file: str, options: LabelOptions, there: Collection[object]) -> dict[Stored, int]:
    """Class value of each value of a class column, IGNORE for those to be ignored.

    Raises:
        ConfigError: if a value that is there stands for two classes, or for one and is to be ignored.
    """
    known: dict[Stored, int] = dict.fromkeys(options.ignore, IGNORE)
    names = {IGNORE: "what is to be ignored"} | {each.value: each.name for each in options.classes}
    for each in options.classes:
        for stored in each.stored or (each.value, str(each.value), each.name):
            if stored in there and (other := known.get(stored, each.value)) != each.value:
                raise ConfigError(
                    f"{file}: column {options.class_column} holds {stored!r}, which stands for {each.name} and for "
                    f"{names[other]}, once as a name and once as a value; say by 'stored' what the file holds for each class"
                )
            known[stored] = each.value
    return known


@lru_cache(maxsize=_KEPT)
def features_on_grid(asset: Asset, options: LabelOptions, grid: Grid) -> _Layer:
    """The features of a vector file that may lie on a grid, in its pixels.

    Raises:
        SceneError: if the file cannot be read, or a feature reaches to where the grid's CRS has no coordinates.
    """
    import shapely

    geometries, values, crs = classified(asset, options)
    near, moved = onto_grid(geometries, crs, grid, asset.ref.name)
    return _Layer(moved, values[near], shapely.STRtree(moved))
