"""Finds the places where a detector errs most and draws each: the scene, the boxes on it, and the heat.

Knows nothing of how a box is judged (`jobs.learning.detection_scores`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.detection_scores import Boxes, Compared, mistakes
from earthloom.jobs.learning.worst import Place, enlarged, scene_rgb, side_by_side, worst
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.tiling.encoding import CONFIDENCE_STEPS, NODATA
from earthloom.tiling.window import Window

RIGHT, MISSED, WRONG = "#2ca25f", "#2c7fff", "#e6302b"
"""Outlines of objects that were found, that were not, and of what was found where there is none."""

_SIDE_PX = 320  # of a panel
_OBJECTS_ACROSS = 6  # of usual length, in a block
_BLOCK_PX = 32, 512  # its side, at least and at most


def worst_objects(pictures: Mapping[str, Compared], extents: Mapping[str, Window], number: int) -> list[Place]:
    """The blocks with most mistakes at an intersection over union of 0.5, as `worst` orders them. Of the objects whose middle
    lies in a block are counted those that were missed, were found where there is none or a second time, and were found.

    Args:
        pictures: by scene id, what was found and what is true.
        extents: by scene id, in pixels.
        number: at most so many.
    """
    side = _block_px(pictures)
    places: list[Place] = []
    for scene_id, (found, true) in pictures.items():
        wrong, missed = mistakes(found, true)
        blocks: dict[tuple[int, int], dict[str, int]] = {}
        for name, boxes, chosen in (("missed", true, missed), ("wrong", found, wrong), ("right", found, ~wrong)):
            for row, col in (_middles(boxes)[chosen] // side).astype(np.int64).tolist():
                blocks.setdefault((row, col), {"missed": 0, "wrong": 0, "right": 0})[name] += 1
        places += [
            Place.of_block(scene_id, extents[scene_id], *block, side, **counts) for block, counts in blocks.items()
        ]
    return worst((place for place in places if place.window), ("missed", "wrong"), number)


def picture(plan: ScenePlan, place: Place, compared: Compared, heat: NDArray[np.uint8]) -> bytes:
    """Three panels side by side, as a PNG file.

    Args:
        compared: what was found on the scene and what is true.
        heat: (rows, columns) of `place.shown`, as it is published.

    Raises:
        SceneError, StorageError: if the scene cannot be read.
    """
    from PIL import ImageDraw

    found, true = compared
    wrong, missed = mistakes(found, true)
    scene = enlarged(scene_rgb(plan, place.shown), smooth=True, side_px=_SIDE_PX)
    boxes = scene.copy()
    draw = ImageDraw.Draw(boxes)
    for edges, color in ((found.edges[~wrong], RIGHT), (true.edges[missed], MISSED), (found.edges[wrong], WRONG)):
        corner = np.tile([place.shown.col_off, place.shown.row_off], 2)
        scaled = (edges - corner) * (boxes.width / place.shown.width)
        for left, top, right, bottom in scaled.tolist():
            draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=2)
    grey = np.where(heat == NODATA, 0, np.minimum(heat, CONFIDENCE_STEPS).astype(np.uint16) * 255 // CONFIDENCE_STEPS)
    shades = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    panels = (("scene", scene), ("objects", boxes), ("heat", enlarged(shades, smooth=False, side_px=_SIDE_PX)))
    return side_by_side(panels, side_px=_SIDE_PX)


def _middles(boxes: Boxes) -> NDArray[np.float64]:
    """(n, 2) row and column."""
    return np.asarray((boxes.edges[:, [1, 0]] + boxes.edges[:, [3, 2]]) / 2)


def _block_px(pictures: Mapping[str, Compared]) -> int:
    """A side on which some objects lie beside each other, whatever their size in pixels."""
    sides = [(true.edges[:, 2:] - true.edges[:, :2]).max(axis=1) for _, true in pictures.values() if len(true.classes)]
    usual = float(np.median(np.concatenate(sides))) if sides else 0.0
    return int(np.clip(round(_OBJECTS_ACROSS * usual), *_BLOCK_PX))
