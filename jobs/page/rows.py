"""What the page knows of one result: a row made of its STAC item. Pure; knows nothing of storage.

A row holds what is needed to list, draw and read a result without asking for anything else, so that 1,000 of them come
with one request. Names in it are those that scenes and models gave: whoever shows them takes them for text.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from earthloom.jobs.products.renders import stretch
from earthloom.jobs.products.stac_item import COG, OPEN_INTERVAL, interval_of

if TYPE_CHECKING:
    from pyproj import CRS

_FLATGEOBUF = "application/vnd.flatgeobuf"
_COLOR = re.compile(r"^[0-9A-Fa-f]{6}$")
_KEY = re.compile(r"-[0-9a-f]{16}$")
"""End of a folder's name that means nothing to people."""
_KNOWN_TO_OL = re.compile(r"^EPSG:(4326|3857|32[67](0[1-9]|[1-5]\d|60))$")
"""OpenLayers knows longitude and latitude, Web Mercator and UTM by itself."""
_DATUM = re.compile(r" \+datum=\S+")
_LEAST_SHIFT_M = 0.5


def row_of(item: Mapping[str, Any], folder: str, href: str) -> dict[str, Any]:
    """The row of one item.

    Args:
        item: of ours, as it is in storage.
        folder: folder of the collection that links it, below OUT: `collections/landwater`.
        href: reference to the item, relative to the collection.

    Returns:
        `id`, `path` (its folder below OUT), `group` (what it is listed under), `bbox` (west, south, east, north in
        degrees), `start`, `end` (RFC 3339, or null when nobody knows), and where it has them `scene`, `areas` (m² by
        class value), `confidence` (its mean by class value), `rasters`, `features`, `dates`.

    Raises:
        ValueError, KeyError, TypeError: if it is no item of ours, or leaves OUT.
    """
    properties = item["properties"]
    path = place(folder, href)
    interval = interval_of(item)
    start, end = (None, None) if interval == OPEN_INTERVAL else interval
    areas = properties.get("earthloom:class_areas", [])
    west, south, east, north = (float(edge) for edge in item["bbox"])
    middle = ((west + (east - west) % 360 / 2 + 180) % 360 - 180, (south + north) / 2)  # west > east at the date line
    rasters = [
        _raster(name, asset, middle) for name, asset in sorted(item["assets"].items()) if asset.get("type") == COG
    ]
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


def proj4_of(code: str | None, wkt: str | None, lon: float, lat: float) -> tuple[str, str | None]:
    """What the page calls a CRS near a place, and its PROJ string; None for those that OpenLayers knows by itself.

    A PROJ string names the ellipsoid of a national grid and not how its datum lies to WGS 84, which is 100 m in Great
    Britain and 450 m in Japan. `+towgs84` says it for the place, found by moving the place itself, and holds to a metre
    or two within a scene.

    Args:
        lon, lat: the middle of the scene, in degrees.
    """
    if code and _KNOWN_TO_OL.match(code):
        return code, None
    import warnings

    from pyproj import CRS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a PROJ string says less than WKT
        crs = CRS.from_user_input(code or wkt)
        text = crs.to_proj4()
    name = code or f"local:{crs.name}"
    body = crs.ellipsoid
    if not text or body is None or "+datum=WGS84" in text:
        return name, text or None
    size = f" +a={body.semi_major_metre} +rf={body.inverse_flattening}"
    bare = _DATUM.sub(size, text)  # a datum's own shift would be taken in place of this one
    lon, lat = round(lon, 1), round(lat, 1)  # so that one name means one string
    shift = _shift_m(crs, bare, f"+a={body.semi_major_metre} +b={body.semi_minor_metre}", lon, lat)
    if not all(map(math.isfinite, shift)) or max(map(abs, shift)) < _LEAST_SHIFT_M:  # a place may lie beyond the CRS
        return name, text
    return f"{name} at {lon}, {lat}", f"{bare} +towgs84={','.join(f'{metres:.2f}' for metres in shift)}"


def _shift_m(crs: CRS, text: str, axes: str, lon: float, lat: float) -> list[float]:
    """Shift from the middle of a CRS's ellipsoid to that of WGS 84, along X, Y and Z, as it holds at a place."""
    from pyproj import Proj, Transformer

    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(lon, lat)
    own = (x, y) if crs.is_geographic else Proj(text)(x, y, inverse=True)
    there = Transformer.from_pipeline("+proj=cart +ellps=WGS84").transform(lon, lat, 0.0)
    here = Transformer.from_pipeline(f"+proj=cart {axes}").transform(*own, 0.0)
    return [a - b for a, b in zip(there, here, strict=True)]


def _raster(name: str, asset: Mapping[str, Any], middle: tuple[float, float]) -> dict[str, Any]:
    classes = asset.get("classification:classes")
    bands = [_band(band, is_class=bool(classes)) for band in asset["bands"]]
    code, proj4 = proj4_of(asset.get("proj:code"), asset.get("proj:wkt2"), *middle)
    raster: dict[str, Any] = {"name": name, "file": _beside(asset["href"]), "crs": code, "bands": bands}
    if proj4:
        raster["proj4"] = proj4
    if classes:
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


def _band(band: Mapping[str, Any], *, is_class: bool) -> dict[str, Any]:
    """Its name, the nodata and scale of stored values, and between which of them a picture of it spreads its greys."""
    found: dict[str, Any] = {"name": str(band["name"])}
    scale, offset = float(band.get("raster:scale", 1.0)), float(band.get("raster:offset", 0.0))
    if (scale, offset) != (1.0, 0.0):
        found |= {"scale": scale, "offset": offset}
    if band.get("nodata") is not None:
        found["nodata"] = band["nodata"]
    if not is_class and (limits := stretch(scale, band["data_type"], band.get("statistics"))):
        found["range"] = limits
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
