"""Boxes in COCO's form: what is read, and what is refused. The export is tested on a whole run, in integration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.learning.boxes import box_source
from earthloom.jobs.learning.coco import export_coco, parse_coco
from earthloom.jobs.learning.labels import LabelClass, LabelOptions
from earthloom.tiling.errors import ConfigError, SceneError
from earthloom.tiling.grid import Grid


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


def test_an_out_without_the_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scene of 'ships'"):
        export_coco(tmp_path, "ships")
