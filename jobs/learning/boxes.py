"""Objects that somebody has marked on a scene: boxes from a COCO file, or around the features of a vector file.

As labels of pixels they say where an object is and where none is, by which crops are drawn; as boxes they are what a
detector learns and is judged by. Knows nothing of models and of scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS

from earthloom.jobs.learning.coco import LabelledBoxes, parse_coco
from earthloom.jobs.learning.labels import IGNORE, LabelOptions, LabelSource, VectorLabels, features_on_grid
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.reading.identity import pin
from earthloom.tiling.reading.onto_grid import onto_grid
from earthloom.tiling.reading.vectors import vector_format
from earthloom.tiling.scene import Asset, Scene
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store
from earthloom.tiling.window import Window

_KEPT = 64  # scenes whose boxes are remembered, per process


@dataclass(frozen=True, slots=True)
class Marked:
    """The objects of a scene.

    Attributes:
        boxes: (n, 4) left, top, width and height, in pixels of the scene.
        classes: (n,) value of each one's class.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """(n, 4) left, top, right and bottom."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)

    @property
    def centres(self) -> NDArray[np.int64]:
        """(n, 2) column and row of the pixel at the middle of each."""
        return np.asarray(np.floor(self.boxes[:, :2] + self.boxes[:, 2:] / 2), np.int64)

    def chosen(self, which: NDArray[np.bool_]) -> Marked:
        """The objects that are chosen (n,)."""
        return Marked(self.boxes[which], self.classes[which])


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxLabels:
    """Marked objects of one scene on its grid.

    `read` gives the class of the object in whose box a pixel lies, IGNORE in a crowd of COCO, where not all are marked, and in
    features whose class is ignored or null, and `n_classes` elsewhere: there is none.
    """

    asset: Asset
    options: LabelOptions
    scene_id: str
    picture: Grid
    """Grid of the scene's own file, in whose pixels COCO counts; the scene may be read or mapped onto another grid."""

    @property
    def identity(self) -> str:
        return self.asset.identity

    @property
    def n_classes(self) -> int:
        return len(self.options.classes)

    def marked(self, grid: Grid) -> Marked:
        """All objects whose box touches the grid, in the order of the file.

        Raises:
            SceneError: if the file cannot be read.
        """
        return _marked(self, grid)

    def in_crowd(self, grid: Grid, places: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether places (n, 2), columns and rows in pixels, lie where not all objects are marked."""
        crowds, marked = (_inside(each.edges, places) for each in (_crowds(self, grid), self.marked(grid)))
        return crowds & ~marked

    def read(self, grid: Grid, window: Window) -> NDArray[np.uint8]:
        labels = np.full(window.shape, IGNORE, np.uint8)
        inside = window & grid.window
        if not inside:
            return labels
        part = labels[inside.slices(window)]
        part[...] = self.n_classes
        marked, crowds = self.marked(grid), _crowds(self, grid)
        edges = np.concatenate([crowds.edges, marked.edges])  # an object that is marked in a crowd is known
        values = np.concatenate([crowds.classes, marked.classes])
        for (left, top, right, bottom), value in zip(edges, values, strict=True):
            col, row = int(np.floor(left)), int(np.floor(top))
            box = Window(col, row, int(np.ceil(right)) - col, int(np.ceil(bottom)) - row) & inside
            if box:
                part[box.slices(inside)] = value
        return labels


def box_source(reference: str, options: LabelOptions, scene_id: str, picture: Grid) -> BoxLabels:
    """Open a file of objects: COCO, whose picture is that with the scene's name; or vectors, whose features' bounds are
    boxes along the rows and columns of the scene.

    Args:
        reference: path, s3:// or https://.
        options: the classes, and which column of vectors holds them.
        scene_id: id of the scene that they lie on.
        picture: the grid of the scene's own file, whose pixels COCO counts in.

    Raises:
        ConfigError: if the options contradict each other, or the file is a raster.
        SceneError: if the file cannot be read, does not know the scene, or holds classes that `options` does not name.
        StorageError: if the storage failed.
    """
    if options.background is not None:
        raise ConfigError("`background` names a class of pixels; where no object is marked there is none")
    asset = pin(ObjectRef.parse(reference))
    made = BoxLabels(asset=asset, options=options, scene_id=scene_id, picture=picture)
    if _pictures(asset, tuple(each.name for each in options.classes)) is not None:
        _boxes_of(made)
        return made
    if not vector_format(asset):
        raise ConfigError(
            f"{asset.ref.name} is a raster; objects are boxes of a COCO file or features of a vector file"
        )
    VectorLabels(asset=asset, options=options).check()
    return made


@lru_cache(maxsize=_KEPT)
def _pictures(asset: Asset, classes: tuple[str, ...]) -> tuple[LabelledBoxes, ...] | None:
    """The pictures of a COCO file; None of a file of another kind."""
    if not asset.ref.name.endswith(".json"):
        return None
    data = open_store(asset.ref).get("")
    try:
        document = json.loads(data)
    except ValueError:
        return None
    if not isinstance(document, dict) or "annotations" not in document:
        return None
    return tuple(parse_coco(document, asset.ref.name, classes))


def _boxes_of(source: BoxLabels) -> LabelledBoxes | None:
    """The boxes of a scene in a COCO file; None where the file is of another kind."""
    pictures = _pictures(source.asset, tuple(each.name for each in source.options.classes))
    if pictures is None:
        return None
    named = [each for each in pictures if PurePath(each.file).stem == source.scene_id or each.file == source.scene_id]
    if len(named) != 1:
        shown = ", ".join(each.file for each in pictures[:8])
        raise SceneError(
            f"{source.asset.ref.name} has {len(named)} pictures called {source.scene_id}; it has {shown}. The picture of a "
            "scene has its id for a name"
        )
    own = (source.picture.width, source.picture.height)
    if named[0].size_px not in (None, own):
        wide, high = named[0].size_px or own
        raise SceneError(
            f"{source.asset.ref.name} says that {named[0].file} has {wide} x {high} px, and the file of {source.scene_id} has "
            f"{own[0]} x {own[1]}: its boxes were drawn on another picture. Multiply them by {own[0] / wide:.6g} and "
            f"{own[1] / high:.6g} and state the new size, if both show the same ground"
        )
    return named[0]


def _inside(edges: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether places (n, 2) lie in one of the boxes (m, 4)."""
    found = np.zeros(len(places), np.bool_)
    for left, top, right, bottom in edges:
        x, y = places.T
        found |= (x >= left) & (x < right) & (y >= top) & (y < bottom)
    return found


@lru_cache(maxsize=_KEPT)
def _crowds(source: BoxLabels, grid: Grid) -> Marked:
    """Boxes in which nobody says what there is; their class is IGNORE: crowds of COCO, features whose class is unknown."""
    listed = _boxes_of(source)
    if listed is None:
        features = Marked(*_bounds(source.asset, source.options, grid))
        return features.chosen(features.classes == IGNORE)
    _, boxes = _onto(source, listed.crowds, grid)
    return Marked(boxes, np.full(len(boxes), IGNORE, np.int64))


@lru_cache(maxsize=_KEPT)
def _marked(source: BoxLabels, grid: Grid) -> Marked:
    listed = _boxes_of(source)
    if listed is not None:
        near, boxes = _onto(source, listed.boxes, grid)
        classes = listed.classes[near]
    else:
        boxes, classes = _bounds(source.asset, source.options, grid)
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).T
    touches = (boxes[:, 0] < grid.width) & (boxes[:, 1] < grid.height) & (right > 0) & (bottom > 0)
    found = Marked(boxes, classes).chosen(touches & (classes != IGNORE))
    for array in (found.boxes, found.classes):
        array.setflags(write=False)
    return found


def _bounds(asset: Asset, options: LabelOptions, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The smallest boxes along rows and columns around all features near a grid, (n, 4), and the class of each (n,)."""
    layer = features_on_grid(asset, options, grid)
    boxes = _around(layer.geometries)
    if len(flat := np.flatnonzero((boxes[:, 2:] <= 0).any(axis=1))):
        raise SceneError(
            f"{asset.ref.name}: feature {int(flat[0])} of those near the scene has no width or height; objects are boxes or "
            "polygons: buffer points by their size"
        )
    return boxes, layer.values.astype(np.int64)


def picture_of(scene: Scene, files: Sequence[Grid]) -> Grid:
    """The grid that the boxes of a scene are counted on: its own, unless all its files are read onto it from others; then
    that of the finest one."""
    return scene.grid if scene.grid in files else min(files, key=Grid.gsd_m)


def _onto(source: BoxLabels, boxes: NDArray[np.float64], grid: Grid) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Positions of those boxes (n, 4) of the picture that may lie on a grid, (k,), and where they lie there, (k, 4)."""
    if source.picture == grid:
        return np.arange(len(boxes)), boxes
    import shapely

    a, _, c, _, e, f = source.picture.transform
    left, top, width, height = boxes.T
    shapes = shapely.box(c + a * left, f + e * top, c + a * (left + width), f + e * (top + height))
    near, moved = onto_grid(shapes, CRS.from_user_input(source.picture.crs), grid, source.asset.ref.name)
    return near, _around(moved)


def _around(geometries: NDArray[np.object_]) -> NDArray[np.float64]:
    """The smallest boxes (n, 4) along rows and columns around geometries in pixels."""
    import shapely

    edges = shapely.bounds(geometries).reshape(-1, 4)
    return np.concatenate([edges[:, :2], edges[:, 2:] - edges[:, :2]], axis=1)


def boxes_of(labels: LabelSource, grid: Grid) -> Marked:
    """The objects of a scene whose labels are objects."""
    assert isinstance(labels, BoxLabels), "a detector learns boxes"
    return labels.marked(grid)
