"""What class values mean and how they look, in the forms that GDAL, QGIS, TIFF readers and our own picture take.

Knows nothing of pixels or files: the writers of the COG put these beside and into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from earthloom.jobs.products.areas import area_text, area_unit, percent_text
from earthloom.jobs.products.lettering import Color, drawable
from earthloom.models.cards.card import ModelCard
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.encoding import NODATA
from earthloom.tiling.errors import CardError

if TYPE_CHECKING:
    from rich.table import Table

Line = tuple[Color | None, str, str, str]
"""A line of a drawn legend: colour, or None for hatching; name, share and area."""

_MAX_LINES = 16
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def labels(card: ModelCard) -> dict[int, str]:
    """Class names by value.

    Raises:
        CardError: if a name is blank or holds characters that XML and TIFF tags cannot.
    """
    for one in card.classes:
        if not one.name.strip() or _UNPRINTABLE.search(one.name):
            raise CardError(
                f"model card {card.label}: class {one.value} is called {one.name!r}; "
                "give it a name without control characters"
            )
    return {one.value: one.name for one in card.classes}


def colors(card: ModelCard) -> dict[int, Color]:
    """Red, green, blue (0-255) by class value."""
    return {
        one.value: (int(one.color[1:3], 16), int(one.color[3:5], 16), int(one.color[5:7], 16)) for one in card.classes
    }


def lines(card: ModelCard, rows: Sequence[ClassArea]) -> list[Line]:
    """The legend of a picture in the card's order, areas in one unit; of very many classes the largest, the rest as one.

    Args:
        card: gives names and colours.
        rows: `jobs.products.statistics.class_areas`.
    """
    rgb, names = colors(card), labels(card)
    unit = area_unit(max((row["area_m2"] for row in rows), default=0.0))
    largest = sorted(rows, key=lambda row: (-row["area_m2"], row["value"]))
    rest = largest[_MAX_LINES - 1 :] if len(rows) > _MAX_LINES else []
    drawn: list[Line] = []
    for row in rows:
        if row not in rest:
            name = drawable(names[row["value"]], f"class {row['value']}")
            drawn.append((rgb[row["value"]], name, percent_text(row["percent"]), area_text(row["area_m2"], unit)))
    if rest:
        share, area_m2 = sum(row["percent"] for row in rest), sum(row["area_m2"] for row in rest)
        drawn.append(((205, 210, 217), f"{len(rest)} more classes", percent_text(share), area_text(area_m2, unit)))
    return drawn


def class_table(card: ModelCard) -> Table | None:
    """The classes of a card for the terminal; None for a model without classes."""
    from rich.markup import escape
    from rich.table import Table

    if not card.classes:
        return None
    table = Table("value", "class", "colour", "description")
    for one in card.classes:
        swatch = f"[on {one.color}]    [/] {one.color}"
        table.add_row(str(one.value), escape(one.name), swatch, escape(one.description))
    return table


def cog_tags(card: ModelCard) -> tuple[dict[str, str], dict[str, str]]:
    """Tags that live inside the TIFF, where no sidecar is needed: (of the dataset, of band 1).

    The band's name each class: `CLASS_3=built`. Nothing here depends on when or where a run took place.
    """
    dataset = {
        "AREA_OR_POINT": "Area",
        "MODEL": card.label,
        "MODEL_VERSION": card.version,
        "CARD_SHA256": card.digest(),
    }
    if card.weights:
        dataset["WEIGHTS_SHA256"] = card.weights
    return dataset, {f"CLASS_{value}": name for value, name in labels(card).items()}


def qml(card: ModelCard) -> bytes:
    """A QGIS style (`.qml` beside the COG): paletted renderer with class labels and colours, nodata transparent."""
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1", nodataColor=""
    )
    transparency = ET.SubElement(ET.SubElement(renderer, "rasterTransparency"), "singleValuePixelList")
    ET.SubElement(transparency, "pixelListEntry", min=str(NODATA), max=str(NODATA), percentTransparent="100")
    palette = ET.SubElement(renderer, "colorPalette")
    rgb = colors(card)
    for value, name in labels(card).items():
        color = "#{:02x}{:02x}{:02x}".format(*rgb[value])
        ET.SubElement(palette, "paletteEntry", value=str(value), label=name, color=color, alpha="255")
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="1")  # classes must not be averaged on screen
    ET.SubElement(root, "blendMode").text = "0"
    return _document(root, declaration=True)


_INTEGER, _REAL, _STRING = "0", "1", "2"  # GDALRATFieldType
_GENERIC, _COUNT, _NAME, _MIN_MAX = "0", "1", "2", "5"  # GDALRATFieldUsage
_RED, _GREEN, _BLUE, _ALPHA = "6", "7", "8", "9"


def pam(card: ModelCard, rows: Sequence[ClassArea] = ()) -> bytes:
    """GDAL's sidecar (`.tif.aux.xml`): category names and a raster attribute table.

    Args:
        card: gives names and colours.
        rows: `jobs.products.statistics.class_areas`; when given, the table also has pixel counts and areas in m².
    """
    fields = [("Value", _INTEGER, _MIN_MAX), ("Class", _STRING, _NAME), ("Red", _INTEGER, _RED),
              ("Green", _INTEGER, _GREEN), ("Blue", _INTEGER, _BLUE), ("Alpha", _INTEGER, _ALPHA)]  # fmt: skip
    if rows:
        fields += [("Count", _REAL, _COUNT), ("Area_m2", _REAL, _GENERIC)]  # counts can pass GDAL's 32-bit integers
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    categories = ET.SubElement(band, "CategoryNames")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(fields):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(field, tag).text = text
    rgb, by_value = colors(card), {row["value"]: row for row in rows}
    for value, name in labels(card).items():  # categories are positional: the card numbers its classes 0, 1, 2, …
        ET.SubElement(categories, "Category").text = name
        cells = [str(value), name, *(str(channel) for channel in rgb[value]), "255"]
        if rows:
            cells += [str(by_value[value]["pixels"]), repr(by_value[value]["area_m2"])]
        line = ET.SubElement(table, "Row", index=str(value))
        for cell in cells:
            ET.SubElement(line, "F").text = cell
    return _document(root, declaration=False)  # GDAL 3.10 ignores the whole sidecar when it begins with <?xml …?>


def _document(root: ET.Element, *, declaration: bool) -> bytes:
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=declaration)) + b"\n"
