"""Finds the places where a map errs most and draws each: the scene, the labels, the map, and where they differ.

Of objects, `jobs.learning.worst_objects` finds the places, and draws its panels with what is here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.learning.comparison import SceneCounts, error_codes
from earthloom.jobs.learning.error_map import legend
from earthloom.jobs.learning.labels import IGNORE
from earthloom.jobs.learning.matching import Matching
from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.products.quicklook import true_color
from earthloom.jobs.records.names import DATA
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.reading.read import read_pixels
from earthloom.tiling.storage.store import Store
from earthloom.tiling.window import Window
from earthloom.tiling.writing.zarr_sink import open_array

if TYPE_CHECKING:
    from PIL import Image

_SIDE_PX, _GAP_PX, _CAPTION_PX = 240, 8, 20
_PAPER, _VOID, _INK = (255, 255, 255), (244, 245, 247), (96, 106, 120)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One block of a scene."""

    scene_id: str
    window: Window
    """Window in pixels of the map."""
    shown: Window
    """The window and its surroundings."""
    counts: Mapping[str, int]
    """What was counted there, by name."""

    @classmethod
    def of_block(cls, scene_id: str, extent: Window, row: int, col: int, side_px: int, **counts: int) -> Place:
        """The block of a row and column, as far as it lies in the scene's extent."""
        block = Window(col * side_px, row * side_px, side_px, side_px)
        shown = block.grow(side_px // 2) & extent
        return cls(scene_id=scene_id, window=block & extent, shown=shown, counts=counts)

    def to_dict(self) -> dict[str, Any]:
        window = self.window
        return {
            "scene": self.scene_id, "col_off": window.col_off, "row_off": window.row_off, "width": window.width,
            "height": window.height, **self.counts,
        }  # fmt: skip


def worst(places: Iterable[Place], mistakes: Sequence[str], number: int) -> list[Place]:
    """The places with most mistakes, most first; equal ones by scene, row and column; at most so many.

    Args:
        mistakes: names of the counts that are mistakes; a place without one is left out.
    """

    def rank(place: Place) -> tuple[int, str, int, int]:
        n_mistakes = sum(place.counts[name] for name in mistakes)
        return -n_mistakes, place.scene_id, place.window.row_off, place.window.col_off

    return sorted((place for place in places if rank(place)[0]), key=rank)[:number]


def worst_places(
    counts: Mapping[str, SceneCounts], extents: Mapping[str, Window], block_px: int, number: int
) -> list[Place]:
    """The blocks with most wrong pixels, most first; equal ones by scene, row and column.

    Args:
        counts, extents: by scene id.
        block_px: side of the blocks in `counts`.
        number: at most so many.
    """
    places = (
        Place.of_block(
            name, extents[name], row, col, block_px, wrong_px=int(block.sum() - np.trace(block)), scored_px=int(block.sum())
        )
        for name, part in counts.items() for (row, col), block in part.blocks.items()
    )  # fmt: skip
    return worst(places, ("wrong_px",), number)


def picture(
    plan: ScenePlan, place: Place, matching: Matching, labels: NDArray[np.uint8], classes: NDArray[np.uint8]
) -> bytes:
    """Four panels side by side, as a PNG file.

    Args:
        labels: (rows, columns) of `place.shown`, positions of scored classes, IGNORE where unknown.
        classes: (rows, columns) as they are stored in the map.

    Raises:
        SceneError, StorageError: if the scene cannot be read.
    """
    from earthloom.jobs.products.lettering import rgb

    K, mapped = len(matching.names), matching.table()[classes]
    palette = np.array([rgb(color) for color in matching.colors] + [_VOID] * (256 - K), np.uint8)
    pair = np.where((labels != IGNORE) & (mapped != IGNORE), labels.astype(np.intp) * K + mapped, K * K)
    of_errors = np.full((256, 3), _VOID, np.uint8)
    for value, (_, color) in legend(matching.names).items():
        of_errors[value] = color
    panels = (
        ("scene", scene_rgb(plan, place.shown)), ("labels", palette[labels]), ("map", palette[mapped]),
        ("differences", of_errors[error_codes(K)[pair]]),
    )  # fmt: skip
    return side_by_side([(caption, enlarged(shown, smooth=caption == "scene")) for caption, shown in panels])


def enlarged(rgb: NDArray[np.uint8], *, smooth: bool, side_px: int = _SIDE_PX) -> Image.Image:
    """(rows, columns, 3) as a panel of at most `side_px`; a picture that becomes smaller is averaged in any case."""
    from PIL import Image

    image = Image.fromarray(rgb)
    factor = side_px / max(image.size)
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    way = Image.Resampling.BOX if smooth or factor < 1 else Image.Resampling.NEAREST
    return image.resize(size, way)


def side_by_side(panels: Sequence[tuple[str, Image.Image]], *, side_px: int = _SIDE_PX) -> bytes:
    """Panels with their captions, as a PNG file."""
    from PIL import Image, ImageDraw

    from earthloom.jobs.products.lettering import write

    width = len(panels) * (side_px + _GAP_PX) - _GAP_PX
    canvas = Image.new("RGB", (width, side_px + _CAPTION_PX), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (caption, image) in enumerate(panels):
        x = number * (side_px + _GAP_PX)
        canvas.paste(image, (x, _CAPTION_PX))
        write(draw, (x, 2), caption, 13, _INK, side_px)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def published_layer(store: Store, plan: ScenePlan, name: str, window: Window) -> NDArray[np.uint8]:
    """(rows, columns) of a window of what is published of a scene, as it is stored."""
    array = open_array(store.zarr(f"{plan.prefix}/{DATA}", read_only=True), 0, name)
    found = np.asarray(array[window.row_off : window.row_end, window.col_off : window.col_end])
    return found.astype(np.uint8, copy=False)


def scene_rgb(plan: ScenePlan, window: Window) -> NDArray[np.uint8]:
    """(rows, columns, 3) of a window of the map as the scene shows it, each band stretched by its percentiles 2 and 98."""
    names = [band.name for band in plan.chain.bands]
    bands = plan.scene.select(true_color(names))
    pixels = read_pixels(plan.scene, bands, plan.owned(window).unzoom(plan.chain.scale), 0)
    rgb = np.empty((*pixels.values.shape[1:], 3), np.uint8)
    for channel, band in enumerate(pixels.values.astype(np.float64)):
        low, high = np.percentile(band[pixels.valid], (2, 98)) if pixels.valid.any() else (0.0, 1.0)
        rgb[..., channel] = np.round(255 * np.clip((band - low) / max(high - low, 1e-12), 0, 1))
    rgb[~pixels.valid] = _VOID
    assert NODATA == IGNORE, "both are drawn as paper"
    return rgb
