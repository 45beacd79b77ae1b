"""What class values mean and how they look, in the forms that GDAL, TIFF readers, CF and our own picture take.

Knows nothing of pixels or files: the writers of the COG put these beside and into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree as ET

from earthloom.jobs.products.areas import area_text, area_unit, percent_text
from earthloom.jobs.products.lettering import Color, drawable, rgb
from earthloom.models.cards.card import ModelCard, ModelClass
from earthloom.tiling.counting import ClassArea
from earthloom.tiling.errors import CardError

if TYPE_CHECKING:
    from rich.table import Table

Line = tuple[Color | None, str, str, str]
"""A line of a drawn legend: colour, or None for hatching; name, share and area."""

_MAX_LINES = 16
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Flag(Protocol):
    """A class: its value, its name, and its colour as `#rrggbb`."""

    @property
    def value(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def color(self) -> str: ...


class Legend(Protocol):
    """Classes, numbered 0, 1, 2, …, and whose they are. A model's card is one."""

    @property
    def name(self) -> str:
        """What the map is called: `landwater`."""

    @property
    def label(self) -> str:
        """What it is called exactly, in messages: `landwater-6b`."""

    @property
    def title(self) -> str:
        """Title for people; empty: the label."""

    @property
    def classes(self) -> tuple[ModelClass, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassLegend:
    """The legend of a map that no card speaks for alone: a composite of many maps, or a map of changes."""

    name: str
    title: str
    classes: tuple[ModelClass, ...]

    @property
    def label(self) -> str:
        return self.name


def labels(legend: Legend) -> dict[int, str]:
    """Class names by value.

    Raises:
        CardError: if a name is blank or holds characters that XML and TIFF tags cannot.
    """
    for one in legend.classes:
        if not one.name.strip() or _UNPRINTABLE.search(one.name):
            raise CardError(
                f"{legend.label}: class {one.value} is called {one.name!r}; give it a name without control characters"
            )
    return {one.value: one.name for one in legend.classes}


def words(names: Mapping[int, str], *, hyphens: bool = True) -> dict[int, str]:
    """Names of classes as one word each, by value, for formats that want words: CF's `flag_meanings`, STAC's names of classes,
    columns of tables.

    No two are the same: a class without a letter of ASCII is `class_<value>`, and one whose word another has, or that would be
    taken for no data, has its value behind it.
    """
    others = r"[^0-9A-Za-z_-]+" if hyphens else r"[^0-9A-Za-z_]+"
    found: dict[int, str] = {}
    for value, name in names.items():
        word = re.sub(others, "_", name.replace("→", " to ")).strip("_") or f"class_{value}"
        while word == "nodata" or word in found.values():
            word = f"{word}_{value}"
        found[value] = word
    return found


def flags(classes: Sequence[Flag]) -> dict[str, Any]:
    """Attributes of an array of classes: CF's `flag_values` and `flag_meanings` (CF 1.11, section 3.5), and `flag_colors`,
    as CCI, SNAP and xcube know it: `#rrggbb` of each."""
    return {
        "flag_values": [one.value for one in classes],
        "flag_meanings": " ".join(words({one.value: one.name for one in classes}).values()),
        "flag_colors": " ".join(one.color for one in classes),
    }


def colors(legend: Legend) -> dict[int, Color]:
    """Red, green, blue (0-255) by class value."""
    return {one.value: rgb(one.color) for one in legend.classes}


def lines(legend: Legend, rows: Sequence[ClassArea]) -> list[Line]:
    """The legend of a picture in its own order, areas in one unit; of very many classes the largest, the rest as one.

    Args:
        legend: gives names and colours.
        rows: `jobs.products.statistics.class_areas`.
    """
    rgb, names = colors(legend), labels(legend)
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


def model_tags(card: ModelCard) -> dict[str, str]:
    """Tags of a TIFF that a model's result has: which model. Nothing here depends on when or where a run took place."""
    tags = {"AREA_OR_POINT": "Area", "MODEL": card.label, "MODEL_VERSION": card.version, "CARD_SHA256": card.digest()}
    return tags | ({"WEIGHTS_SHA256": card.weights} if card.weights else {})


def class_tags(legend: Legend) -> dict[str, str]:
    """Tags of a class map's band, inside the TIFF, where no sidecar is needed: `CLASS_3=built`."""
    return {f"CLASS_{value}": name for value, name in labels(legend).items()}


_INTEGER, _REAL, _STRING = "0", "1", "2"  # GDALRATFieldType
_GENERIC, _COUNT, _NAME, _MIN_MAX = "0", "1", "2", "5"  # GDALRATFieldUsage
_RED, _GREEN, _BLUE, _ALPHA = "6", "7", "8", "9"


def pam(legend: Legend, rows: Sequence[ClassArea]) -> bytes:
    """GDAL's sidecar (`.tif.aux.xml`): category names and a raster attribute table.

    Args:
        legend: gives names and colours.
        rows: `jobs.products.statistics.class_areas`.
    """
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    categories = ET.SubElement(band, "CategoryNames")
    for name in labels(legend).values():  # categories are positional: classes are numbered 0, 1, 2, …
        ET.SubElement(categories, "Category").text = name
    band.append(_attribute_table(legend, rows))
    ET.indent(root)
    return (
        bytes(ET.tostring(root, encoding="utf-8")) + b"\n"
    )  # GDAL 3.10 ignores the whole sidecar when it begins with <?xml …?>


def attribute_table(legend: Legend, rows: Sequence[ClassArea]) -> str:
    """The raster attribute table as XML, which GDAL from 3.12 on reads from the TIFF itself, without a sidecar.

    Args:
        rows: `jobs.products.statistics.class_areas`.
    """
    return ET.tostring(_attribute_table(legend, rows), encoding="unicode")


def _attribute_table(legend: Legend, rows: Sequence[ClassArea]) -> ET.Element:
    fields = [("Value", _INTEGER, _MIN_MAX), ("Class", _STRING, _NAME), ("Red", _INTEGER, _RED),
              ("Green", _INTEGER, _GREEN), ("Blue", _INTEGER, _BLUE), ("Alpha", _INTEGER, _ALPHA),
              ("Count", _REAL, _COUNT), ("Area_m2", _REAL, _GENERIC)]  # fmt: skip  # counts can pass GDAL's 32-bit integers
    table = ET.Element("GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(fields):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(field, tag).text = text
    rgb, by_value = colors(legend), {row["value"]: row for row in rows}
    for value, name in labels(legend).items():
        counts = [str(by_value[value]["pixels"]), repr(by_value[value]["area_m2"])]
        cells = [str(value), name, *(str(channel) for channel in rgb[value]), "255", *counts]
        line = ET.SubElement(table, "Row", index=str(value))
        for cell in cells:
            ET.SubElement(line, "F").text = cell
    return table
