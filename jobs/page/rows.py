"""What the page knows of one result: a row made of its STAC item. Pure; knows nothing of storage.

A row holds what is needed to list, draw and read a result without asking for anything else, so that 1,000 of them come
with one request. Names in it are those that scenes and models gave: whoever shows them takes them for text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from earthloom.jobs.products.stac_item import COG, OPEN_INTERVAL

_FLATGEOBUF = "application/vnd.flatgeobuf"
_COLOR = re.compile(r"^[0-9A-Fa-f]{6}$")
_KEY = re.compile(r"-[0-9a-f]{16}$")
"""At the end of a folder's name, for people without meaning."""
_KNOWN_TO_OL = re.compile(r"^EPSG:(4326|3857|32[67](0[1-9]|[1-5]\d|60))$")
"""OpenLayers knows longitude and latitude, Web Mercator and UTM by itself."""
_SIGMAS = 2.0
"""A picture's grey values reach from its mean to so many standard deviations on either side."""


def row_of(item: Mapping[str, Any], folder: str, href: str) -> dict[str, Any]:
    """The row of one item.

    Args:
        item: of ours, as it is in storage.
        folder: of the collection that links it, below OUT: `collections/landwater`.
        href: of the item, relative to the collection.

    Returns:
        `id`, `path` (its folder below OUT), `group` (what it is listed under), `bbox` (west, south, east, north in
        degrees), `start`, `end` (RFC 3339, or null when nobody knows), and where it has them `scene`, `areas` (m² by
        class value), `confidence` (its mean by class value), `rasters`, `features`, `dates`.

    Raises:
        ValueError, KeyError, TypeError: if it is no item of ours, or leaves OUT.
    """
    properties = item["properties"]
    path = place(folder, href)
    interval = (
        properties.get("start_datetime") or properties["datetime"],
        properties.get("end_datetime") or properties["datetime"],
    )
    start, end = (None, None) if interval == OPEN_INTERVAL else interval
    areas = properties.get("earthloom:class_areas", [])
    rasters = [_raster(name, asset) for name, asset in sorted(item["assets"].items()) if asset.get("type") == COG]
    features = [_beside(asset["href"]) for asset in item["assets"].values() if asset.get("type") == _FLATGEOBUF]
    cube = (
        next((_below(asset["href"]) for asset in item["assets"].values()), "")
        if "cube:dimensions" in properties
        else ""
    )
    row: dict[str, Any] = {
        "id": str(item["id"]), "path": path, "group": group_of(folder, path), "start": start, "end": end,
        "bbox": [round(float(edge), 7) for edge in item["bbox"]],
        "scene": properties.get("earthloom:scene"),
        "areas": {str(int(one["value"])): float(one["area_m2"]) for one in areas},
        "confidence": {
            str(int(one["value"])): round(float(one["mean_confidence"]), 4)
            for one in areas if one.get("mean_confidence") is not None
        },
        "rasters": rasters, "features": features, "cube": cube,
    }  # fmt: skip
    return {
        name: value for name, value in row.items() if value not in ("", [], {}) and not (name == "scene" and not value)
    }


def place(folder: str, href: str) -> str:
    """The folder below OUT of an item that a collection links.

    Raises:
        ValueError: if the link leaves OUT, or leads to what is no item.
    """
    path = posixpath.normpath(posixpath.join(folder, unquote(href)))
    if path.startswith(("/", "..")) or "://" in href or not path.endswith("/item.json"):
        raise ValueError(f"{href} is no item below this OUT")
    return path.removesuffix("/item.json")


def group_of(folder: str, path: str) -> str:
    """What a result is listed under: `landwater`; of what monitoring made `pucallpa · landwater · mode-year`."""
    if not folder.startswith("monitors/"):
        return folder.removeprefix("collections/")
    parts = path.removeprefix(f"{folder}/").split("/")  # <product>/<key>/<kind>/<name>/…
    return " · ".join([folder.removeprefix("monitors/"), parts[0], *(_KEY.sub("", part) for part in parts[2:4])])


def proj4_of(code: str | None, wkt: str | None) -> tuple[str, str | None]:
    """What the page calls a CRS, and its PROJ string; None for those that OpenLayers knows by itself.

    The string is what a browser understands of a CRS. It may lack a datum's grid, which is metres, not pixels.
    """
    if code and _KNOWN_TO_OL.match(code):
        return code, None
    import warnings

    from pyproj import CRS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a PROJ string says less than WKT
        crs = CRS.from_user_input(code or wkt)
        text = crs.to_proj4()
    return code or f"local:{crs.name}", text or None


def _raster(name: str, asset: Mapping[str, Any]) -> dict[str, Any]:
    bands = [_band(band) for band in asset["bands"]]
    code, proj4 = proj4_of(asset.get("proj:code"), asset.get("proj:wkt2"))
    raster: dict[str, Any] = {"name": name, "file": _beside(asset["href"]), "crs": code, "bands": bands}
    if proj4:
        raster["proj4"] = proj4
    if classes := asset.get("classification:classes"):
        raster["classes"] = _classes(classes)
    return raster


def _classes(classes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    shown = [one for one in classes if not one.get("nodata")]
    if wrong := [one for one in shown if not _COLOR.match(one["color_hint"])]:
        raise ValueError(f"{wrong[0]['color_hint']!r} is no colour")
    return [
        {"value": int(one["value"]), "name": str(one.get("title") or one["name"]), "color": f"#{one['color_hint']}"}
        for one in shown
    ]


def _band(band: Mapping[str, Any]) -> dict[str, Any]:
    """Its name, the nodata and scale of stored values, and between which of them a picture of it spreads its greys."""
    found: dict[str, Any] = {"name": str(band["name"])}
    scale, offset = float(band.get("raster:scale", 1.0)), float(band.get("raster:offset", 0.0))
    if (scale, offset) != (1.0, 0.0):
        found |= {"scale": scale, "offset": offset}
    if band.get("nodata") is not None:
        found["nodata"] = band["nodata"]
    statistics = band.get("statistics", {})
    if "stddev" in statistics:
        spread = _SIGMAS * statistics["stddev"]
        found["range"] = [
            max(statistics["minimum"], round(statistics["mean"] - spread, 6)),
            min(statistics["maximum"], round(statistics["mean"] + spread, 6)),
        ]
    if band["name"] == "confidence":
        found["range"] = [0.0, 1.0 / scale]
    return found


def _below(href: str) -> str:
    path = posixpath.normpath(unquote(href))
    if path.startswith(("/", "..")) or "://" in path:
        raise ValueError(f"{href} does not lie below its item")
    return path


def _beside(href: str) -> str:
    name = unquote(href.removeprefix("./"))
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{href} does not lie beside its item")
    return name
