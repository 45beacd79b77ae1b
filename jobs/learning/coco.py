"""Boxes in COCO's form: read for training, and exported from published objects for tools that compare detectors.

Lin et al. (2014), Microsoft COCO: `images`, `categories`, and `annotations` whose `bbox` is left, top, width and height in
pixels. Knows nothing of networks.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.records.listing import shelved
from earthloom.jobs.records.names import ITEM, RESULT
from earthloom.jobs.records.result import SceneResult
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

_TELLING = 5
"""Boxes from which on their numbers tell what they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBoxes:
    """The objects on one picture.

    Attributes:
        file: name of the picture's file.
        boxes: (n, 4) left, top, width, height, in pixels.
        classes: (n,) number of each one's class, in the order that was asked for.
        crowds: (m, 4) boxes in which nobody has marked each object (`iscrowd`).
        size_px: width and height of the picture; None where the file does not say.
    """

    file: str
    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    crowds: NDArray[np.float64]
    size_px: tuple[int, int] | None = None


def parse_coco(document: Any, path: str, classes: Sequence[str]) -> list[LabelledBoxes]:
    """The boxes of every picture, in the order of the document; pictures without one are there too.

    Args:
        document: what its JSON says.
        path: path of its file, for messages.
        classes: names of the categories, in the order of the network's classes.

    Raises:
        ConfigError: if it is no COCO file, a category is missing, one is there that was not asked for, or boxes are not
            left, top, width and height.
    """
    try:
        categories = {_id(each["id"]): str(each["name"]) for each in document["categories"]}
        pictures = {_id(each["id"]): _Picture(document=each) for each in document["images"]}
        for each in document["annotations"]:
            pictures[_id(each["image_id"])].add(each, categories[_id(each["category_id"])])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a COCO file of boxes ({type(error).__name__}: {error}); it has images, categories and annotations"
        ) from error
    if len(pictures) < len(document["images"]):
        raise ConfigError(f"{path}: two of its {len(document['images'])} images have one id; number them apart")
    _check_boxes(path, list(pictures.values()))
    if sorted(categories.values()) != sorted(classes):
        raise ConfigError(
            f"{path} has the categories {', '.join(sorted(categories.values()))}, the classes are {', '.join(classes)}; make "
            "them agree"
        )
    return [picture.labelled(classes) for picture in pictures.values()]


def _id(value: Any) -> int | str:
    """An id as numbers and texts of numbers have it; tools number pictures by texts of their own, too."""
    try:
        return int(value)
    except ValueError:
        return str(value)


class _Picture:
    """A picture of a document, and the boxes on it: (left, top, width, height), name of the category, whether of a crowd."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.file = str(document["file_name"])
        self.size_px = int(document.get("width") or 0), int(document.get("height") or 0)
        self.marked: list[tuple[list[float], str, bool]] = []

    def add(self, annotation: Mapping[str, Any], category: str) -> None:
        box = [float(number) for number in annotation["bbox"]]
        attributes = annotation.get("attributes")
        degrees = float(attributes.get("rotation") or 0) if isinstance(attributes, Mapping) else 0.0
        self.marked.append((_around(box, degrees) if degrees else box, category, bool(annotation.get("iscrowd"))))

    def labelled(self, classes: Sequence[str]) -> LabelledBoxes:
        objects, crowds = ([each for each in self.marked if each[2] == is_crowd] for is_crowd in (False, True))
        return LabelledBoxes(
            file=self.file,
            boxes=np.array([box for box, *_ in objects], np.float64).reshape(-1, 4),
            classes=np.array([list(classes).index(category) for _, category, _ in objects], np.int64),
            crowds=np.array([box for box, *_ in crowds], np.float64).reshape(-1, 4),
            size_px=self.size_px if all(self.size_px) else None,
        )


def _around(box: list[float], degrees: float) -> list[float]:
    """The box along rows and columns around one that is turned about its middle, as CVAT's `rotation` says."""
    left, top, width, height = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    across, along = width * cos + height * sin, width * sin + height * cos
    return [left + (width - across) / 2, top + (height - along) / 2, across, along]


def _check_boxes(path: str, pictures: Sequence[_Picture]) -> None:
    """
    Raises:
        ConfigError: if boxes are not four numbers with a width and a height, or look like left, top, right and bottom.
    """
    boxes = [(box, picture) for picture in pictures for box, *_ in picture.marked]
    strange = [pair for pair in boxes if len(pair[0]) != 4 or not np.isfinite(pair[0]).all() or min(pair[0][2:]) <= 0]
    if strange:
        box, picture = strange[0]
        raise ConfigError(
            f"{path}: {len(strange)} boxes are not four numbers, or have no width or height; the first is {box} of "
            f"{picture.file}. Mend or remove them"
        )
    are_rising = all(right > left and bottom > top for (left, top, right, bottom), _ in boxes)
    are_beyond = any(
        all(picture.size_px) and (left + width > picture.size_px[0] + 1 or top + height > picture.size_px[1] + 1)
        for (left, top, width, height), picture in boxes
    )
    if len(boxes) >= _TELLING and are_rising and are_beyond:
        raise ConfigError(
            f"{path}: all of its {len(boxes)} boxes are wider than their left edge and higher than their top, and some reach "
            f"beyond the picture: they look like left, top, right, bottom. COCO wants left, top, width, height"
        )


def export_coco(out: str | Path, product: str, scene: str | None = None) -> dict[str, Any]:
    """The published objects of a product as one COCO document, each annotation with its `score`.

    Scenes are images, in the order of their ids, with the name of the scene in the place of a file's; `area` is in pixels, as
    COCO wants it, and `area_m2` on the ground. Of a scene with several results the one that was committed last counts.

    Args:
        out: the folder or `s3://` prefix of the runs.
        product: name of the collection, `ships`.
        scene: id of one scene; None: all.

    Raises:
        ConfigError: if nothing of this product is published there, or it has no objects.
    """
    import geopandas

    store = open_store(ObjectRef.parse(str(out)))
    committed = ((place.result.modified_s, place) for place in shelved(store, "scenes") if place.result)
    prefixes = {}
    for _, place in sorted(committed, key=lambda each: each[0]):
        where = f"{place.prefix}/{RESULT}"
        if scene in (None, place.scene_id) and SceneResult.from_json(store.get(where), where).model == product:
            prefixes[place.scene_id] = place.prefix
    if not prefixes:
        raise ConfigError(
            f"{store.ref.url}: no scene{f' {scene!r}' if scene else ''} of {product!r} is published; `earthloom status` says "
            "what is there"
        )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for number, (scene_id, prefix) in enumerate(sorted(prefixes.items()), 1):
        item = json.loads(store.get(f"{prefix}/{ITEM}"))
        if "earthloom:objects" not in item["properties"]:
            raise ConfigError(f"{store.ref.url}: {product} of {scene_id} has no objects; COCO is for boxes")
        height, width = item["assets"]["heat"]["proj:shape"]
        images.append({"id": number, "file_name": scene_id, "width": width, "height": height})
        for name in item["properties"]["earthloom:objects"]:
            categories.setdefault(name, len(categories) + 1)
        table = geopandas.read_parquet(io.BytesIO(store.get(f"{prefix}/{product}.parquet")))
        for row in table.drop(columns="geometry").to_dict("records"):
            box = [row["left_px"], row["top_px"], row["width_px"], row["height_px"]]
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": categories[row["class"]], "bbox": box,
                    "area": round(box[2] * box[3], 2), "area_m2": row["area_m2"], "iscrowd": 0, "score": row["score"],
                }
            )  # fmt: skip
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    return {"images": images, "categories": listed, "annotations": annotations}
