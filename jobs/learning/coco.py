"""Boxes in COCO's form: read for training, and exported from published objects for tools that compare detectors.

Lin et al. (2014), Microsoft COCO: `images`, `categories`, and `annotations` whose `bbox` is left, top, width and height in
pixels. Knows nothing of networks.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
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
    """What is on one picture.

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
        names = {int(each["id"]): str(each["name"]) for each in document["categories"]}
        files = {int(each["id"]): str(each["file_name"]) for each in document["images"]}
        sizes = {
            int(each["id"]): (int(each.get("width") or 0), int(each.get("height") or 0)) for each in document["images"]
        }
        rows = [
            (
                int(each["image_id"]), names[int(each["category_id"])], [float(number) for number in each["bbox"]],
                bool(each.get("iscrowd")),
            )
            for each in document["annotations"]
        ]  # fmt: skip
        placed = [(box, sizes[image]) for image, _, box, _ in rows]
        strange = [
            f"{box} of {files[image]}"
            for image, _, box, _ in rows
            if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a COCO file of boxes ({type(error).__name__}: {error}); it has images, categories and annotations"
        ) from error
    if strange:
        raise ConfigError(
            f"{path}: {len(strange)} boxes are not four numbers, or have no width or height; the first is {strange[0]}. Mend "
            "or remove them"
        )
    if len(files) < len(document["images"]):
        raise ConfigError(f"{path}: two of its {len(document['images'])} images have one id; number them apart")
    if _are_corners(placed):
        raise ConfigError(
            f"{path}: all of its {len(rows)} boxes are wider than their left edge and higher than their top, and some reach "
            f"beyond the picture: they look like left, top, right, bottom. COCO wants left, top, width, height"
        )
    if sorted(names.values()) != sorted(classes):
        raise ConfigError(
            f"{path} has the categories {', '.join(sorted(names.values()))}, the classes are {', '.join(classes)}; make them "
            "agree"
        )
    found: dict[int, list[tuple[int, list[float]]]] = {image: [] for image in files}
    crowds: dict[int, list[list[float]]] = {image: [] for image in files}
    for image, name, box, is_crowd in rows:
        if is_crowd:
            crowds[image].append(box)
        else:
            found[image].append((list(classes).index(name), box))
    return [
        LabelledBoxes(
            file=files[image],
            boxes=np.array([box for _, box in pairs], np.float64).reshape(-1, 4),
            classes=np.array([value for value, _ in pairs], np.int64),
            crowds=np.array(crowds[image], np.float64).reshape(-1, 4),
            size_px=sizes[image] if all(sizes[image]) else None,
        )
        for image, pairs in found.items()
    ]


def _are_corners(boxes: Sequence[tuple[list[float], tuple[int, int]]]) -> bool:
    """Whether boxes (n, 4) on pictures of a width and height look like left, top, right and bottom."""
    rising = all(box[2] > box[0] and box[3] > box[1] for box, _ in boxes)
    beyond = any(all(size) and (box[0] + box[2] > size[0] + 1 or box[1] + box[3] > size[1] + 1) for box, size in boxes)
    return len(boxes) >= _TELLING and rising and beyond


def export_coco(out: str | Path, product: str, scene: str | None = None) -> dict[str, Any]:
    """The published objects of a product as one COCO document, each annotation with its `score`.

    Scenes are images, in the order of their ids, with the name of the scene in the place of a file's; `area` is in pixels, as
    COCO wants it, and `area_m2` on the ground. Of a scene with several results the last in the order of keys counts.

    Args:
        out: the folder or `s3://` prefix of the runs.
        product: name of the collection, `ships`.
        scene: id of one scene; None: all.

    Raises:
        ConfigError: if nothing of this product is published there, or it has no objects.
    """
    import geopandas

    store = open_store(ObjectRef.parse(str(out)))
    prefixes = {}
    for place in shelved(store, "scenes"):
        if place.result is None or scene not in (None, place.scene_id):
            continue
        where = f"{place.prefix}/{RESULT}"
        if SceneResult.from_json(store.get(where), where).model == product:
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
