"""The picture of a class map: map, legend with shares, scale bar. Same input, same bytes.

Draws with Pillow and its built-in font only. Knows nothing of files or CRS: `pixel_size_m` turns a grid into the two
lengths that the drawing needs.
"""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earthloom.jobs.products.areas import area_text, area_unit, percent_text
from earthloom.jobs.products.legend import colors, labels
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import PublishError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

_INK, _QUIET, _FAINT, _LINE = (27, 34, 44), (96, 106, 120), (158, 166, 178), (205, 210, 217)
_PAPER, _HATCH_PAPER, _HATCH_LINE = (255, 255, 255), (244, 245, 247), (218, 222, 228)
_MARGIN, _GAP, _LEGEND_WIDTH, _ROW_HEIGHT = 28, 28, 292, 46
_MAP_SIDE, _MIN_WIDTH = 1024, 800
_TITLE_HEIGHT, _FOOT_HEIGHT = 74, 52
_MAX_ROWS = 16
_HATCH_STEP = 8
_WIDE = 2.0  # a map this many times wider than high has its legend below


def quicklook_png(
    classes: NDArray[np.uint8],
    *,
    card: ModelCard,
    title: str,
    rows: Sequence[ClassArea],
    pixel_m: tuple[float, float],
) -> bytes:
    """Draw a class map, 800 to 1400 px wide.

    Args:
        classes: (rows, columns) an overview level, at most about 1024 px a side, north up; 255 is drawn as hatching.
            Small maps are enlarged by whole pixels; a map whose pixels are not square on the ground is stretched to
            its true proportions.
        card: gives class names and colours.
        title: first line, usually the scene's id.
        rows: `jobs.products.statistics.class_areas` of the whole scene, not of this overview.
        pixel_m: width and height of one of these pixels on the ground, in metres.

    Returns:
        A PNG file, the same bytes for the same input and Pillow version.

    Raises:
        PublishError: if the map is empty, holds a value that is neither a class nor nodata, or a size is not positive.
    """
    from PIL import Image, ImageDraw

    if classes.ndim != 2 or not classes.size:
        raise PublishError(f"{title}: cannot draw a map of shape {classes.shape}; give (rows, columns), at least 1 x 1")
    if not all(math.isfinite(side) and side > 0 for side in pixel_m):
        raise PublishError(f"{title}: the pixel size {pixel_m} m is not positive; the grid is damaged")
    picture = _map_image(classes, card, title, pixel_m)
    entries = _entries(rows, card, has_nodata=bool((classes == NODATA).any()))
    beside = picture.width < _WIDE * picture.height
    columns = 1 if beside else max(2, min(4, (picture.width + _GAP) // (_LEGEND_WIDTH + _GAP)))
    legend_height = -(-len(entries) // columns) * _ROW_HEIGHT + 26
    inner_width = picture.width + _GAP + _LEGEND_WIDTH if beside else picture.width
    inner_width = max(inner_width, _MIN_WIDTH - 2 * _MARGIN)
    map_block = picture.height + _FOOT_HEIGHT
    body = max(map_block, legend_height) if beside else map_block + legend_height + 8
    canvas = Image.new("RGB", (inner_width + 2 * _MARGIN, _TITLE_HEIGHT + body + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)

    _fitted(draw, (_MARGIN, 22), title, 26, _INK, inner_width)
    total_m2 = sum(row["area_m2"] for row in rows)
    subtitle = f"{card.title or card.label}  ·  {area_text(total_m2)} mapped"
    _fitted(draw, (_MARGIN, 54), subtitle, 15, _QUIET, inner_width)

    right_of = inner_width - _LEGEND_WIDTH - _GAP if beside else inner_width
    left, top = _MARGIN + (right_of - picture.width) // 2, _TITLE_HEIGHT + 14
    canvas.paste(picture, (left, top))
    draw.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=_LINE)
    metres_per_px = pixel_m[0] * classes.shape[1] / picture.width
    _scale_bar(draw, left if picture.width > 260 else _MARGIN, top + picture.height + 16, metres_per_px, right_of)

    legend_left = _MARGIN + right_of + _GAP if beside else _MARGIN
    legend_top = top if beside else top + map_block - 4
    column_width = (inner_width - _GAP * (columns - 1)) // columns if not beside else _LEGEND_WIDTH
    per_column = -(-len(entries) // columns)
    for index, entry in enumerate(entries):
        x = legend_left + index // per_column * (column_width + _GAP)
        _legend_row(canvas, draw, (x, legend_top + index % per_column * _ROW_HEIGHT), column_width, entry)

    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def true_color(bands: Sequence[str]) -> tuple[str, str, str]:
    """Names of the bands to draw in red, green and blue: the natural colours where they are there."""
    if {"red", "green", "blue"} <= set(bands):
        return "red", "green", "blue"
    if {"nir", "red", "green"} <= set(bands):
        return "nir", "red", "green"
    return (bands[0], bands[1], bands[2]) if len(bands) > 2 else (bands[0],) * 3


def image_png(pixels: NDArray[Any], *, nodata: float, title: str, subtitle: str, pixel_m: tuple[float, float]) -> bytes:
    """Draw an image: each channel stretched between its 2nd and 98th percentile, nodata hatched.

    Args:
        pixels: (3, rows, columns) an overview level, at most about 1024 px a side, north up.
        nodata: stored value; a pixel is drawn where all three channels are valid.
        title, subtitle: first and second line.
        pixel_m: width and height of one of these pixels on the ground, in metres.

    Raises:
        PublishError: if the image is empty or a size is not positive.
    """
    from PIL import Image, ImageDraw

    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.size:
        raise PublishError(f"{title}: cannot draw an image of shape {pixels.shape}; give (3, rows, columns)")
    if not all(math.isfinite(side) and side > 0 for side in pixel_m):
        raise PublishError(f"{title}: the pixel size {pixel_m} m is not positive; the grid is damaged")
    valid = (~np.isnan(pixels) if math.isnan(nodata) else pixels != nodata).all(axis=0)
    rgba = np.zeros((*valid.shape, 4), np.uint8)
    for channel, band in enumerate(pixels.astype(np.float64)):
        low, high = np.percentile(band[valid], (2, 98)) if valid.any() else (0.0, 1.0)
        bright = np.clip((np.where(valid, band, low) - low) / max(high - low, 1e-12), 0, 1)
        rgba[..., channel] = np.round(255 * bright)
    rgba[..., 3] = np.where(valid, 255, 0)
    picture = _fitted_image(rgba, pixel_m)
    inner_width = max(picture.width, _MIN_WIDTH - 2 * _MARGIN)
    size = inner_width + 2 * _MARGIN, _TITLE_HEIGHT + 14 + picture.height + _FOOT_HEIGHT + _MARGIN
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    _fitted(draw, (_MARGIN, 22), title, 26, _INK, inner_width)
    _fitted(draw, (_MARGIN, 54), subtitle, 15, _QUIET, inner_width)
    left, top = _MARGIN + (inner_width - picture.width) // 2, _TITLE_HEIGHT + 14
    canvas.paste(picture, (left, top))
    draw.rectangle((left - 1, top - 1, left + picture.width, top + picture.height), outline=_LINE)
    metres_per_px = pixel_m[0] * valid.shape[1] / picture.width
    _scale_bar(draw, left, top + picture.height + 16, metres_per_px, inner_width)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _map_image(classes: NDArray[np.uint8], card: ModelCard, title: str, pixel_m: tuple[float, float]) -> Image:
    """The map alone, at its size on the canvas, nodata hatched."""
    palette = np.zeros((256, 4), np.uint8)
    for value, rgb in colors(card).items():
        palette[value] = (*rgb, 255)
    known = palette[:, 3] > 0
    known[NODATA] = True
    if not known[classes].all():
        stray = int(classes[~known[classes]][0])
        raise PublishError(f"{title}: the map holds {stray}, but {card.label} has classes 0 to {len(card.classes) - 1}")
    return _fitted_image(palette[classes], pixel_m)


def _fitted_image(pixels: NDArray[np.uint8], pixel_m: tuple[float, float]) -> Image:
    """(h, w, 4) at its size on the canvas and in its true proportions, over hatching where it is transparent."""
    from PIL import Image

    height, width = pixels.shape[:2]
    square = 0.98 < pixel_m[0] / pixel_m[1] < 1.02
    wide, high = (1.0, 1.0) if square else (pixel_m[0] / min(pixel_m), pixel_m[1] / min(pixel_m))
    fit = _MAP_SIDE / max(width * wide, height * high)
    factor = math.floor(fit) if fit >= 1 else fit  # whole pixels when enlarging, so that they all look alike
    size = max(1, round(width * wide * factor)), max(1, round(height * high * factor))
    rgba = Image.fromarray(pixels)
    grows = size[0] >= width and size[1] >= height
    rgba = rgba.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.BOX)
    paper = _hatching(size)
    paper.paste(rgba, (0, 0), rgba)
    return paper


def _hatching(size: tuple[int, int]) -> Image:
    from PIL import Image

    width, height = size
    diagonal = (np.arange(height)[:, None] + np.arange(width)) % _HATCH_STEP == 0
    return Image.fromarray(np.where(diagonal[..., None], _HATCH_LINE, _HATCH_PAPER).astype(np.uint8))


_Entry = tuple[tuple[int, int, int] | None, str, float | None, str]  # colour or None for hatching, name, percent, area


def _entries(rows: Sequence[ClassArea], card: ModelCard, *, has_nodata: bool) -> list[_Entry]:
    """Legend lines in the card's order; of very many classes the largest, and the rest as one."""
    rgb, names = colors(card), labels(card)
    unit = area_unit(max((row["area_m2"] for row in rows), default=0.0))
    shown = list(rows)
    if len(shown) > _MAX_ROWS:
        largest = sorted(rows, key=lambda row: (-row["area_m2"], row["value"]))[: _MAX_ROWS - 1]
        shown = [row for row in rows if row in largest]
    entries: list[_Entry] = []
    for row in shown:
        name = _drawable(names[row["value"]], row["value"])
        entries.append((rgb[row["value"]], name, row["percent"], area_text(row["area_m2"], unit)))
    if rest := [row for row in rows if row not in shown]:
        percent, area_m2 = sum(row["percent"] for row in rest), sum(row["area_m2"] for row in rest)
        entries.append((_LINE, f"{len(rest)} more classes", percent, area_text(area_m2, unit)))
    return [*entries, (None, "no data", None, "")] if has_nodata else entries


def _legend_row(canvas: Image, draw: ImageDraw, corner: tuple[int, int], width: int, entry: _Entry) -> None:
    """Swatch, name and share on one line; below it the area and a thin bar as long as the share."""
    color, name, percent, area = entry
    x, y = corner
    if color is None:
        canvas.paste(_hatching((22, 22)), (x, y + 1))
    draw.rounded_rectangle((x, y + 1, x + 21, y + 22), radius=3 if color else 0, fill=color, outline=_shade(color))
    absent = percent is not None and not percent
    share = "" if percent is None else percent_text(percent)
    share_width = _width(share, 15)
    _write(draw, (x + width - share_width, y + 3), share, 15, _FAINT if absent else _INK)
    _fitted(draw, (x + 34, y + 3), name, 15, _FAINT if absent or percent is None else _INK, width - 46 - share_width)
    if percent is None or absent:
        return
    area_width = _width(area, 12)
    _write(draw, (x + width - area_width, y + 24), area, 12, _QUIET)
    track = width - 34 - 96
    draw.rectangle((x + 34, y + 29, x + 34 + track, y + 31), fill=(236, 238, 241))
    draw.rectangle((x + 34, y + 29, x + 34 + max(1, round(track * percent / 100)), y + 31), fill=_shade(color))


def _scale_bar(draw: ImageDraw, x: int, y: int, metres_per_px: float, room_px: int) -> None:
    """A bar of 1, 2 or 5 times a power of ten metres, at most 220 px and a third of the room, and a north arrow."""
    draw.polygon([(x + 7, y), (x + 13, y + 18), (x + 7, y + 14), (x + 1, y + 18)], fill=_QUIET)
    _write(draw, (x + 18, y + 3), "N", 13, _QUIET)
    longest_m = min(220, room_px / 3) * metres_per_px
    power = 10.0 ** math.floor(math.log10(longest_m))
    length_m = next(step * power for step in (5, 2, 1) if step * power <= longest_m * (1 + 1e-9))
    length_px = max(1, round(length_m / metres_per_px))
    left, middle = x + 46, y + 10
    draw.rectangle((left, middle, left + length_px, middle + 3), fill=_INK)
    for end in (left, left + length_px):
        draw.line((end, middle - 4, end, middle + 3), fill=_INK)
    text = f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m"
    _write(draw, (left + length_px + 10, y + 3), text, 13, _QUIET)


def _shade(color: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """A darker rim, so that a white class can be seen on white paper."""
    red, green, blue = color or (255, 255, 255)
    return red * 4 // 5, green * 4 // 5, blue * 4 // 5


@lru_cache(maxsize=32)
def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)  # type: ignore[return-value]  # FreeType is in every wheel of Pillow


@lru_cache(maxsize=256)
def _has_glyph(character: str) -> bool:
    """Whether the built-in font can draw it; otherwise it draws the same box as for a character that no font has."""
    font = _font(40)
    return character.isspace() or bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


def _drawable(name: str, value: int | None = None) -> str:
    """`name` with accents dropped where the built-in font lacks them; `class 3` when most of it cannot be drawn."""

    def nearest(character: str) -> str:
        if character == "²" or _has_glyph(character):
            return character
        base = unicodedata.normalize("NFKD", character)[0]
        return base if _has_glyph(base) else "?"

    drawn = "".join(nearest(character) for character in name)
    return f"class {value}" if value is not None and drawn.count("?") * 2 > len(drawn) else drawn


def _width(text: str, size: int) -> int:
    return math.ceil(sum(_font(points).getlength(run) for run, points in _runs(text, size)))


def _write(draw: ImageDraw, at: tuple[int, int], text: str, size: int, fill: tuple[int, int, int]) -> None:
    """Text from its upper-left corner; the font has no `²`, so it is drawn as a small raised 2."""
    x = float(at[0])
    for run, points in _runs(text, size):
        draw.text((x, at[1]), run, font=_font(points), fill=fill)
        x += _font(points).getlength(run)


def _runs(text: str, size: int) -> list[tuple[str, int]]:
    """(text, font size) pieces, split at `²`."""
    head, mark, tail = text.partition("²")
    runs = [(head, size), ("2", max(8, round(size * 0.62)))] if mark else [(head, size)]
    return [*runs, *_runs(tail, size)] if tail else runs


def _fitted(
    draw: ImageDraw, at: tuple[int, int], text: str, size: int, fill: tuple[int, int, int], room_px: int
) -> None:
    """Text cut to `room_px` with an ellipsis."""
    text = _drawable(" ".join(text.split()))
    if _width(text, size) > room_px:
        while text and _width(f"{text}…", size) > room_px:
            text = text[:-1]
        text = f"{text.rstrip()}…"
    _write(draw, at, text, size, fill)
