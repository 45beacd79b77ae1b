"""Boxes in COCO's form: what is read, and what is refused. The export is tested on a whole run, in integration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from shapely import affinity, box

from earthloom.jobs.learning.boxes import box_source
from earthloom.jobs.learning.coco import export_coco, parse_coco
from earthloom.jobs.learning.labels import IGNORE, LabelClass, LabelOptions
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid
from earthloom.tiling.vectors import pyogrio


def document() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "port.tif"}, {"id": 9, "file_name": "sea.tif"}],
        "categories": [{"id": 3, "name": "ship"}, {"id": 1, "name": "buoy"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4.5]},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [9, 9, 1, 1]},
            {"id": 3, "image_id": 7, "category_id": 1, "bbox": [0, 0, 50, 50], "iscrowd": 1},
        ],
    }


def test_boxes_are_read_by_picture_with_classes_in_the_order_asked_for() -> None:
    port, sea = parse_coco(document(), "a.json", ("ship", "buoy"))
    assert (port.file, port.boxes.tolist(), port.classes.tolist()) == (
        "port.tif",
        [[1, 2, 3, 4.5], [9, 9, 1, 1]],
        [0, 1],
    )
    assert (sea.file, sea.boxes.shape, sea.classes.shape) == ("sea.tif", (0, 4), (0,))
    assert (port.crowds.tolist(), sea.crowds.shape) == ([[0, 0, 50, 50]], (0, 4))


def test_ids_may_be_texts() -> None:
    made = document()
    for each in made["images"]:
        each["id"] = f"picture-{each['id']}"
    for each in made["annotations"]:
        each |= {"image_id": f"picture-{each['image_id']}", "category_id": str(each["category_id"])}
    port, sea = parse_coco(made, "a.json", ("ship", "buoy"))
    assert (port.classes.tolist(), len(port.crowds), len(sea.boxes)) == ([0, 1], 1, 0)


def test_a_box_that_is_turned_becomes_the_box_around_it() -> None:
    """CVAT writes the box as it was before it was turned, and the angle beside it: ships lay across their boxes."""
    made = document()
    for annotation, degrees in zip(made["annotations"], (30.0, 90.0, 0.0), strict=True):
        annotation["attributes"] = {"occluded": False, "rotation": degrees}
    port, _ = parse_coco(made, "a.json", ("ship", "buoy"))
    ship = affinity.rotate(box(1, 2, 4, 6.5), 30).bounds
    assert port.boxes[0] == pytest.approx([ship[0], ship[1], ship[2] - ship[0], ship[3] - ship[1]])
    assert port.boxes[1] == pytest.approx([9, 9, 1, 1])
    assert port.crowds.tolist() == [[0, 0, 50, 50]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": None}, "not a COCO file"),
        ({"categories": [{"id": 3, "name": "ship"}]}, "not a COCO file|categories"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 0, 4]}]}, "port.tif"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4]}]}, "not a COCO file.*KeyError: 2"),
        (
            {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, float("nan"), 4]}]},
            "1 boxes are not four numbers",
        ),
        (
            {"images": [{"id": 7, "file_name": "a.tif"}, {"id": 7, "file_name": "b.tif"}]},
            "two of its 2 images have one id",
        ),
        ({"annotations": [{"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]}]}, "not a COCO file.*KeyError: 8"),
    ],
)
def test_a_file_that_is_not_what_was_asked_for_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_coco(document() | changes, "a.json", ("ship", "buoy"))


def test_corners_in_the_place_of_sizes_are_refused() -> None:
    made = document()
    made["images"][0] |= {"width": 100, "height": 80}
    boxes = [[5 * n, 4 * n, 5 * n + 20, 4 * n + 11] for n in range(1, 13)]
    made["annotations"] = [{"image_id": 7, "category_id": 3, "bbox": box} for box in boxes]
    with pytest.raises(ConfigError, match=r"all of its 12 boxes .* look like left, top, right, bottom"):
        parse_coco(made, "a.json", ("ship", "buoy"))
    made["annotations"][-1]["bbox"] = [90, 70, 20, 11]  # one that is no corner, and reaches over the edge
    assert len(parse_coco(made, "a.json", ("ship", "buoy"))[0].boxes) == 12


def test_a_picture_of_another_size_than_the_scene_is_refused(tmp_path: Path) -> None:
    made = document()
    made["images"][0] |= {"width": 50, "height": 40}
    (tmp_path / "a.json").write_text(json.dumps(made))
    options = LabelOptions(classes=(LabelClass(value=0, name="ship"), LabelClass(value=1, name="buoy")))
    picture = Grid(crs="EPSG:32617", transform=(10, 0, 0, 0, -10, 0), width=100, height=80)
    with pytest.raises(SceneError, match=r"port\.tif has 50 x 40 px, and the file of port has 100 x 80.* by 2 and 2"):
        box_source(str(tmp_path / "a.json"), options, "port", picture)
    same = replace(picture, width=50, height=40)
    assert len(box_source(str(tmp_path / "a.json"), options, "port", same).marked(same).boxes) == 2


def test_a_feature_whose_class_is_unknown_is_neither_an_object_nor_ground_without_one(tmp_path: Path) -> None:
    """It was ground without an object: what the user was not sure of, a detector learned to pass over."""
    pyogrio()
    grid = Grid(crs="EPSG:32617", transform=(10, 0, 300000, 0, -10, 4500000), width=60, height=20)
    shapes = [box(*np.array([300000, 4500000, 300000, 4500000]) + corners) for corners in (
        (20, -80, 60, -40), (220, -80, 260, -40), (420, -80, 460, -40))]  # fmt: skip
    frame = geopandas.GeoDataFrame({"kind": ["ship", "unsure", None]}, geometry=shapes, crs=grid.crs)
    frame.to_file(tmp_path / "marked.gpkg")
    options = LabelOptions(classes=(LabelClass(value=0, name="ship"),), class_column="kind", ignore=("unsure",))
    source = box_source(str(tmp_path / "marked.gpkg"), options, "port", grid)
    assert source.marked(grid).boxes.tolist() == [[2, 4, 4, 4]]
    labels = source.read(grid, grid.window)
    assert (labels[4:8, 2:6] == 0).all()
    assert (labels[4:8, 22:26] == IGNORE).all()
    assert (labels[4:8, 42:46] == IGNORE).all()
    assert (labels == source.n_classes).sum() == 20 * 60 - 3 * 16
    assert source.in_crowd(grid, np.array([[24.0, 6.0], [4.0, 6.0], [30.0, 6.0]])).tolist() == [True, False, False]


def test_an_out_without_the_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scene of 'ships'"):
        export_coco(tmp_path, "ships")
