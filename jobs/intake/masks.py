"""Which bands of a scene's files are no channels but say where the others are valid, and what nodata counts as there.

Alpha is a mask wherever it stands, unless the user, the STAC item, a preset or the file's own common name says that the
band is data. A palette's numbers are colours and are never mixed. Opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from earthloom.jobs.intake.bands import NamedBand
from earthloom.jobs.intake.common_names import COMMON_NAMES
from earthloom.jobs.intake.preset import Sensor
from earthloom.tiling.errors import SceneError
from earthloom.tiling.quantity import NodataIn
from earthloom.tiling.reading.preflight import Header

_NO_NAME = re.compile(r"(?i)alpha|mask|opac|transp|valid|^(a|band.?\d+|\d+)$")
_COLORS = frozenset(("red", "green", "blue"))


def take_masks(named: Sequence[NamedBand]) -> tuple[tuple[NamedBand, ...], tuple[str, ...]]:
    """The bands without alpha, each with the mask of its file (`NamedBand.alpha`), and notes.

    Raises:
        SceneError: if nothing but alpha is left.
    """
    bands: list[NamedBand] = []
    notes: list[str] = []
    for _, group in groupby(named, key=lambda band: band.asset):
        own = list(group)
        header, stem = own[0].file.header, own[0].file.stem
        flagged = [index for index, color in enumerate(header.colors, 1) if color == "alpha"]
        data = {band.index: band.name for band in own if band.index in flagged and _is_named(band)}
        masks = [index for index in flagged if index not in data]
        alpha = _place(header, masks[-1]) if masks else 0 if data else None
        if masks:
            notes.append(
                f"band {masks[-1]} of {stem} is alpha, so it is a mask and no channel: where it is 0, no band is valid; "
                f"if it is data, name it: `bands=nir={masks[-1]}`"
            )
        notes += [f"{name} is marked as alpha in {stem}, and is read as data" for name in data.values()]
        bands += [replace(band, alpha=alpha) for band in own if band.index not in masks]
    if not bands:
        raise SceneError(
            "it has nothing but alpha, which says where other bands are valid; name the band if it is data: `bands=nir=1`"
        )
    return tuple(bands), tuple(notes)


def take_palettes(named: Sequence[NamedBand]) -> tuple[tuple[NamedBand, ...], tuple[str, ...]]:
    """The bands, those with a palette as categories beside an image, and notes.

    Raises:
        SceneError: if a band with a palette is all that there is of the image, or is named as a band of it.
    """
    has_image = any(_color(band) != "palette" and band.image and not band.categorical for band in named)
    bands: list[NamedBand] = []
    notes: list[str] = []
    for band in named:
        if _color(band) != "palette" or band.categorical:
            bands.append(band)
            continue
        stem = band.file.stem
        if not has_image or _is_named(band):
            raise SceneError(
                f"{band.name} of {stem} has a palette: its values are numbers of colours, and a number between two of them "
                f"is another colour; expand it: gdal_translate -expand rgb {stem}.tif {stem}-rgb.tif"
            )
        notes.append(f"{band.name} has a palette, so it is taken for classes and no band of the image")
        bands.append(replace(band, categorical=True, image=False))
    return tuple(bands), tuple(notes)


def nodata_in(band: NamedBand, asked: NodataIn | None, sensor: Sensor | None) -> NodataIn:
    """Whether nodata counts in any band or only in all of a file: of colours in 8 bits, 0 is also black.

    By the option; else `all` for 8-bit red, green and blue, as `rasterio.dataset_mask` has it, unless the preset's product
    has a fill value, which no pixel with data holds in any band.
    """
    if asked or band.categorical:
        return asked if asked and not band.categorical else "any"
    filled = sensor is not None and band.preset is not None and sensor.fill is not None
    return "all" if is_color(band.file.header) and not filled else "any"


def is_color(header: Header) -> bool:
    """Whether a file holds red, green and blue in 8 bits."""
    return set(header.dtypes) == {"uint8"} and has_colors(header)


def has_colors(header: Header) -> bool:
    """Whether a file holds red, green and blue."""
    return set(header.colors) >= _COLORS


def _place(header: Header, index: int) -> int | None:
    """None where GDAL finds it by itself: alpha is the last of two or four bands, and no nodata is declared."""
    return None if header.mask == "alpha" and index == header.count else index


def _color(band: NamedBand) -> str:
    return band.file.header.colors[band.index - 1]


def _is_named(band: NamedBand) -> bool:
    """Whether anybody says by name what the band is, and not that it is a mask."""
    if band.by_hand or band.preset or band.stac.common_name or band.name in COMMON_NAMES:
        return True
    description = band.file.header.descriptions[band.index - 1]
    return description is not None and not _NO_NAME.search(description)
