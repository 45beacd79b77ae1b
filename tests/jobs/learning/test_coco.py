"""Boxes in COCO's form: what is read, and what is refused. The export is tested on a whole run, in integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from earthloom.jobs.learning.coco import export_coco, parse_coco
from earthloom.tiling.errors import ConfigError


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
        ({"annotations": [{"image_id": 8, "category_id": 3, "bbox": [1, 2, 3, 4]}]}, "not a COCO file.*KeyError: 8"),
    ],
)
def test_a_file_that_is_not_what_was_asked_for_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_coco(document() | changes, "a.json", ("ship", "buoy"))


def test_an_out_without_the_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scene of 'ships'"):
        export_coco(tmp_path, "ships")
