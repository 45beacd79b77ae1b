"""The picture of a scene: its class map with a legend, or its image. The same input gives the same bytes.

Draws with Pillow and its built-in font only. Knows nothing of files or CRS: the size of a pixel on the ground is given.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from earthloom.jobs.products.areas import area_text
from earthloom.jobs.products.legend import Legend, Line, colors, lines
from earthloom.jobs.products.lettering import Color, font, write
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import PublishError

_INK, _QUIET, _LINE, _PAPER = (27, 34, 44), (96, 106, 120), (205, 210, 217), (255, 255, 255)
_HATCH_PAPER, _HATCH_LINE, _HATCH_STEP = (244, 245, 247), (218, 222, 228), 8
_ALERT = (213, 94, 0)  # vermilion of Okabe and Ito, as the page draws confirmed alerts
_SIDE_PX, _ENLARGED_PX = 1024, 512  # at most, of a picture that is drawn smaller than it is, or larger
_MARGIN, _GAP, _TOP, _FOOT, _LEGEND_PX, _ROW_PX, _SWATCH_PX = 28, 28, 88, 42, 260, 40, 20
_LEAST_WIDTH, _LEAST_COLUMN, _BAR_PX = 560, 280, 200
PICTURE_PX = 1024
"""Longest side of the overview that a picture is drawn from."""


def quicklook_png(
    classes: NDArray[np.uint8], *, legend: Legend, title: str, rows: Sequence[ClassArea], pixel_m: tuple[float, float],
    north_deg: float | None = None, outlines: Sequence[NDArray[np.float64]] = (),
) -> bytes:  # fmt: skip
    """Draw a class map beside its legend, as a PNG file.

    Args:
        classes: (rows, columns) an overview level, at most about 1024 px a side, north up; 255 is drawn as hatching.
            Maps below 512 px are enlarged by whole pixels; where pixels are not square on the ground, it is stretched.
        legend: gives class names and colours.
        title: first line, usually the scene's id.
        rows: `jobs.products.statistics.class_areas` of the whole scene, not of this overview.
        pixel_m: width and height of one of these pixels on the ground, in metres.
        north_deg: where true north is, degrees clockwise from up; None draws no arrow.
        outlines: of alerts, (n, 2) columns and rows of corners in pixels of `classes`, closed.

    Raises:
        PublishError: if the map is empty, holds a value that is neither a class nor nodata, or a size is not positive.
    """
    if classes.ndim != 2 or not classes.size:
        raise PublishError(f"{title}: cannot draw a map of shape {classes.shape}; give (rows, columns), at least 1 x 1")
    palette = np.zeros((256, 4), np.uint8)
    for value, rgb in colors(legend).items():
        palette[value] = (*rgb, 255)
    if stray := [value for value in np.unique(classes) if value != NODATA and not palette[value, 3]]:
        known = f"{legend.label} has classes 0 to {len(legend.classes) - 1}"
        raise PublishError(f"{title}: the map holds {stray[0]}, but {known}")
    subtitle = f"{legend.title or legend.label}  ·  {area_text(sum(row['area_m2'] for row in rows))} mapped"
    drawn = [*lines(legend, rows), *[(None, "no data", "", "")] * bool((classes == NODATA).any())]
    canvas = Image.fromarray(np.take(palette, classes, axis=0))
    if outlines:
        draw = ImageDraw.Draw(canvas)
        for ring in outlines:
            draw.line([tuple(corner) for corner in ring.tolist()], fill=(*_ALERT, 255), width=2)
        drawn.append((_ALERT, "alert", "", ""))
    return _page(np.asarray(canvas), title, subtitle, pixel_m, drawn, north_deg)


def true_color(bands: Sequence[str]) -> tuple[str, str, str]:
    """Names of the bands to draw in red, green and blue: the natural colours where they are there."""
    if {"red", "green", "blue"} <= set(bands):
        return "red", "green", "blue"
    if {"nir", "red", "green"} <= set(bands):
        return "nir", "red", "green"
    return (bands[0], bands[1], bands[2]) if len(bands) > 2 else (bands[0],) * 3


def image_png(pixels: NDArray[Any], *, nodata: float, title: str, subtitle: str, pixel_m: tuple[float, float]) -> bytes:
    """Draw an image, (3, rows, columns), each channel stretched between its 2nd and 98th percentile, nodata hatched.

    Args and errors are those of `quicklook_png`; a pixel is drawn where all three channels are valid.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.size:
        raise PublishError(f"{title}: cannot draw an image of shape {pixels.shape}; give (3, rows, columns)")
    valid = (~np.isnan(pixels) if math.isnan(nodata) else pixels != nodata).all(axis=0)
    return _page(_stretched(pixels, valid), title, subtitle, pixel_m, [])


def _stretched(pixels: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(rows, columns, 4): each channel from dark at its 2nd to bright at its 98th percentile, transparent where not valid."""
    rgba = np.zeros((*valid.shape, 4), np.uint8)
    for channel in range(3):
        band = pixels[channel].astype(np.float64)
        low, high = np.percentile(band[valid], (2, 98)) if valid.any() else (0.0, 1.0)
        bright = np.clip((np.where(valid, band, low) - low) / max(high - low, 1e-12), 0, 1)
        rgba[..., channel] = np.round(255 * bright)
    rgba[..., 3] = np.where(valid, 255, 0)
    return rgba


_LEAST_BOX_PX = 5.0


def objects_png(
    pixels: NDArray[np.float32], known: NDArray[np.bool_], boxes: NDArray[np.float64], shades: Sequence[Color], *,
    lines: Sequence[Line], title: str, subtitle: str, pixel_m: tuple[float, float],
) -> bytes:  # fmt: skip
    """Draw the outlines of objects over the scene, stretched as an image is; hatched where nothing was looked for.

    Args:
        pixels: (3, rows, columns) thinned scene, north up, NaN where there is no data.
        known: (rows, columns) where objects were looked for.
        boxes: (n, 4) left, top, right and bottom edge in these pixels; tiny ones are drawn larger.
        shades: (n,) of the outlines.
        lines: lines of the legend.

    Other arguments and errors are those of `quicklook_png`.
    """
    if pixels.shape != (3, *known.shape) or not known.size:
        raise PublishError(
            f"{title}: cannot draw a scene of shape {pixels.shape} that is known where {known.shape} says; give (3, rows, "
            "columns) and (rows, columns)"
        )
    rgba = _stretched(pixels, np.asarray((~np.isnan(pixels)).all(axis=0), np.bool_))
    rgba[..., 3] = np.where(known, 255, 0)
    canvas = Image.fromarray(rgba)
    draw = ImageDraw.Draw(canvas)
    for (left, top, right, bottom), shade in zip(boxes.tolist(), shades, strict=True):
        more_x, more_y = (max(0.0, _LEAST_BOX_PX - side) / 2 for side in (right - left, bottom - top))
        draw.rectangle((left - more_x, top - more_y, right + more_x, bottom + more_y), outline=(*shade, 255))
    drawn = [*lines, *[(None, "no data", "", "")] * (not known.all())]
    return _page(np.asarray(canvas), title, subtitle, pixel_m, drawn)


def _page(
    rgba: NDArray[np.uint8], title: str, subtitle: str, pixel_m: tuple[float, float], legend: Sequence[Line],
    north_deg: float | None = None,
) -> bytes:  # fmt: skip
    """Title, picture (rows, columns, 4) with its scale bar below and its legend beside it, on white paper."""
    if not all(math.isfinite(side) and side > 0 for side in pixel_m):
        raise PublishError(f"{title}: the pixel size {pixel_m} m is not positive; the grid is damaged")
    picture = _picture(rgba, pixel_m)
    column = max(picture.width, _LEAST_COLUMN)
    width = max(column + (_GAP + _LEGEND_PX) * bool(legend), _LEAST_WIDTH)
    height = max(picture.height + _FOOT, len(legend) * _ROW_PX)
    canvas = Image.new("RGB", (width + 2 * _MARGIN, _TOP + height + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)
    write(draw, (_MARGIN, 22), title, 26, _INK, width)
    write(draw, (_MARGIN, 54), subtitle, 15, _QUIET, width)
    canvas.paste(picture, (_MARGIN, _TOP))
    draw.rectangle((_MARGIN - 1, _TOP - 1, _MARGIN + picture.width, _TOP + picture.height), outline=_LINE)
    _scale_bar(draw, _TOP + picture.height + 22, pixel_m[0] * rgba.shape[1] / picture.width)
    if north_deg is not None:
        _north_arrow(draw, (_MARGIN + picture.width - 14, _TOP + picture.height + 22), north_deg)
    x = _MARGIN + column + _GAP
    for number, (color, name, share, area) in enumerate(legend):
        y = _TOP + number * _ROW_PX
        canvas.paste(color or _hatching((_SWATCH_PX, _SWATCH_PX)), (x, y, x + _SWATCH_PX, y + _SWATCH_PX))
        draw.rectangle((x, y, x + _SWATCH_PX - 1, y + _SWATCH_PX - 1), outline=_LINE)
        write(draw, (x + 32, y - 1), name, 15, _INK, _LEGEND_PX - 32 - 70)
        draw.text((x + _LEGEND_PX, y - 1), share, font=font(15), fill=_INK, anchor="ra")
        write(draw, (x + 32, y + 18), area, 12, _QUIET, _LEGEND_PX - 32)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", compress_level=4)  # 9 takes up to eight times as long and saves little
    return buffer.getvalue()


def _picture(rgba: NDArray[np.uint8], pixel_m: tuple[float, float]) -> Image.Image:
    """The picture at its size on the page and in its true proportions, over hatching where it is transparent."""
    square = 0.98 < pixel_m[0] / pixel_m[1] < 1.02
    wide, high = (rgba.shape[1 - axis] * (1.0 if square else pixel_m[axis] / min(pixel_m)) for axis in (0, 1))
    factor = _SIDE_PX / max(wide, high)
    factor = max(1, _ENLARGED_PX // max(wide, high)) if factor >= 1 else factor
    size = max(1, round(wide * factor)), max(1, round(high * factor))
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    image, paper = Image.fromarray(rgba).resize(size, resampling), _hatching(size)
    paper.paste(image, (0, 0), image)
    return paper


def _hatching(size: tuple[int, int]) -> Image.Image:
    paper = Image.new("RGB", size, _HATCH_PAPER)
    draw = ImageDraw.Draw(paper)
    for start in range(0, sum(size), _HATCH_STEP):
        draw.line((start, 0, start - size[1], size[1]), fill=_HATCH_LINE)
    return paper


def _north_arrow(draw: ImageDraw.ImageDraw, middle: tuple[int, int], north_deg: float) -> None:
    turn = math.radians(north_deg)

    def at(right: float, up: float) -> tuple[float, float]:
        return (
            middle[0] + right * math.cos(turn) + up * math.sin(turn), middle[1] + right * math.sin(turn) - up * math.cos(turn)
        )  # fmt: skip

    draw.polygon([at(0, 14), at(7, -10), at(0, -5), at(-7, -10)], fill=_INK)
    draw.text((middle[0] - 16, middle[1]), "N", font=font(15), fill=_INK, anchor="rm")


def _scale_bar(draw: ImageDraw.ImageDraw, y: int, metres_per_px: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten metres, at most 200 px long."""
    longest_m = _BAR_PX * metres_per_px
    power = 10.0 ** math.floor(math.log10(longest_m))
    length_m = max(step * power for step in (1, 2, 5) if step * power <= longest_m * (1 + 1e-9))
    end = _MARGIN + max(1, round(length_m / metres_per_px))
    draw.rectangle((_MARGIN, y, end, y + 3), fill=_INK)
    write(draw, (end + 10, y - 7), f"{length_m / 1000:g} km" if length_m >= 1000 else f"{length_m:g} m", 13, _QUIET, 70)
