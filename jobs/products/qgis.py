"""Styles for QGIS: `.qml` beside each GeoTIFF, and a `.qlr` that opens all maps of a product at once, legend and all.

QGIS finds the first beside a local file; the second needs no other file than the GeoTIFFs. Both are of QGIS 3's format, which
later versions read. Knows nothing of storage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from earthloom.jobs.products.legend import Legend, labels
from earthloom.jobs.products.stac_item import OPEN_INTERVAL, interval_of
from earthloom.tiling.encoding import NODATA

Entry = tuple[int, str, str]
"""Value, name and colour (`#rrggbb`) of a class."""
Ranges = Sequence[Sequence[float]]
"""What is drawn darkest and brightest, of each band that is shown: stored value * scale + offset, which QGIS applies."""


def class_style(legend: Legend) -> bytes:
    """A paletted map with class labels and colours, nodata transparent."""
    names = labels(legend)
    return _qml(_paletted([(one.value, names[one.value], one.color) for one in legend.classes]))


def confidence_style() -> bytes:
    """A style from no confidence, dark, to all, bright."""
    return _qml(_grey(1, (0, 1)))


def image_style(bands: Sequence[int], ranges: Ranges) -> bytes:
    """An image in colours, or in grey.

    Args:
        bands: numbers, from 1, of those that are shown: three, or one.
        ranges: ranges of each.
    """
    return _qml(_grey(bands[0], ranges[0]) if len(bands) < 3 else _colored(bands, ranges))


def catalogue(title: str, items: Sequence[Mapping[str, Any]], base: str) -> bytes:
    """A layer definition (`.qlr`) of all maps and images of these STAC items, newest first, only the newest one shown.

    Args:
        title: title of the group.
        items: in any order; their assets and renders say what is drawn and how.
        base: relative path from the file to OUT.
    """
    root = ET.Element("qlr")
    tree = ET.SubElement(ET.SubElement(root, "layer-tree-group", name=""), "layer-tree-group", name=title, expanded="1")
    layers = ET.SubElement(root, "maplayers")
    ordered = sorted(items, key=lambda item: (item["properties"].get("datetime") or "", item["id"]), reverse=True)
    for number, item in enumerate(ordered):
        said = item["properties"]
        folder = f"{base}/scenes/{said['earthloom:scene']}/{said['earthloom:key']}"
        for name, render in said.get("renders", {}).items():
            asset = item["assets"][name]
            if not str(asset["type"]).startswith("image/tiff"):
                continue
            source = f"{folder}/{str(asset['href']).removeprefix('./')}"
            label = f"{said['earthloom:scene']} {name}{_days(item)}"
            layer_id = re.sub(r"\W", "_", f"{item['id']}_{name}")
            shown = number == 0 and name != "confidence"
            ET.SubElement(
                tree, "layer-tree-layer", id=layer_id, name=label, source=source, providerKey="gdal", expanded=str(int(shown)),
                checked="Qt::Checked" if shown else "Qt::Unchecked",
            )  # fmt: skip
            layer = ET.SubElement(layers, "maplayer", type="raster")
            for tag, text in (("id", layer_id), ("datasource", source), ("layername", label), ("provider", "gdal")):
                ET.SubElement(layer, tag).text = text
            layer.append(_pipe(_of_render(render, asset)))
            ET.SubElement(layer, "blendMode").text = "0"
    return _document(root)


def _days(item: Mapping[str, Any]) -> str:
    """The day of a map, or those between which it was taken; nothing where nobody knows."""
    if (interval := interval_of(item)) == OPEN_INTERVAL:
        return ""
    first, last = (moment[:10] for moment in interval)
    return f", {first}" if first == last else f", {first} to {last}"


def _of_render(render: Mapping[str, Any], asset: Mapping[str, Any]) -> ET.Element:
    if "colormap" in render:
        found = asset.get("classification:classes") or asset["bands"][0]["classification:classes"]
        return _paletted(
            [
                (int(one["value"]), str(one["title"]), f"#{one['color_hint'].lower()}")
                for one in found
                if "color_hint" in one
            ]
        )
    bands = [int(number) for number in render["bidx"]]
    of = [asset["bands"][number - 1] for number in bands]
    ranges = [
        [limit * band.get("raster:scale", 1) + band.get("raster:offset", 0) for limit in limits]
        for band, limits in zip(of, render.get("rescale", [[0, 1]] * len(bands)), strict=True)
    ]
    return _grey(bands[0], ranges[0]) if len(bands) < 3 else _colored(bands, ranges)


def _paletted(entries: Sequence[Entry]) -> ET.Element:
    renderer = _renderer("paletted", band="1")
    transparency = ET.SubElement(ET.SubElement(renderer, "rasterTransparency"), "singleValuePixelList")
    ET.SubElement(transparency, "pixelListEntry", min=str(NODATA), max=str(NODATA), percentTransparent="100")
    palette = ET.SubElement(renderer, "colorPalette")
    for value, name, color in entries:
        ET.SubElement(palette, "paletteEntry", value=str(value), label=name, color=color, alpha="255")
    return renderer


def _grey(band: int, limits: Sequence[float]) -> ET.Element:
    renderer = _renderer("singlebandgray", grayBand=str(band), gradient="BlackToWhite")
    _stretch(renderer, "contrastEnhancement", limits)
    return renderer


def _colored(bands: Sequence[int], ranges: Ranges) -> ET.Element:
    red, green, blue = (str(band) for band in bands)
    renderer = _renderer("multibandcolor", redBand=red, greenBand=green, blueBand=blue)
    for color, limits in zip(("red", "green", "blue"), ranges, strict=True):
        _stretch(renderer, f"{color}ContrastEnhancement", limits)
    return renderer


def _renderer(kind: str, **fields: str) -> ET.Element:
    return ET.Element("rasterrenderer", {"type": kind, "opacity": "1", "alphaBand": "-1", "nodataColor": "", **fields})


def _stretch(renderer: ET.Element, tag: str, limits: Sequence[float]) -> None:
    element = ET.SubElement(renderer, tag)
    for name, text in (
        ("minValue", f"{limits[0]:g}"), ("maxValue", f"{limits[1]:g}"), ("algorithm", "StretchToMinimumMaximum"),
    ):  # fmt: skip
        ET.SubElement(element, name).text = text


def _pipe(renderer: ET.Element) -> ET.Element:
    pipe = ET.Element("pipe")
    pipe.append(renderer)
    ET.SubElement(pipe, "brightnesscontrast", brightness="0", contrast="0", gamma="1")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="1")  # classes must not be averaged on screen
    return pipe


def _qml(renderer: ET.Element) -> bytes:
    root = ET.Element("qgis", version="3.28.0", styleCategories="Symbology")
    root.append(_pipe(renderer))
    ET.SubElement(root, "blendMode").text = "0"
    return _document(root)


def _document(root: ET.Element) -> bytes:
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
